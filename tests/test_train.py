"""Training on several devices, and in two processes, is training on one."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import two_processes

from jaxrec import objectives, sampling, train
from jaxrec.types import InputError

NUM_STEPS = 300


def largest_difference(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    return max(np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (tree, expected)), strict=True))


@pytest.fixture(scope="module")
def on_one_device():
    return two_processes.trained(two_processes.make_trainer(1), NUM_STEPS)


@pytest.mark.parametrize(("num_devices", "sparse", "in_pieces"), [(2, True, False), (4, True, False), (2, False, True)])
def test_several_devices_give_the_tables_of_one(on_one_device, num_devices, sparse, in_pieces):
    objective = two_processes.make_objective(in_pieces=in_pieces)
    trainer = two_processes.make_trainer(num_devices, objective=objective, sparse=sparse)
    state, metrics = two_processes.trained(trainer, NUM_STEPS)
    expected_state, expected_metrics = on_one_device
    assert largest_difference(state.trained, expected_state.trained) < 1e-5
    assert int(state.step) == NUM_STEPS
    assert set(metrics) == {"loss", "margin", "examples", "adv_loss", "adv_margin"}
    np.testing.assert_array_equal(metrics["examples"], expected_metrics["examples"])
    for name, values in metrics.items():
        np.testing.assert_allclose(values, expected_metrics[name], rtol=1e-4, atol=1e-4)


def test_direct_steps_on_two_devices_give_the_tables_of_general_steps_on_one():
    make = lambda model: objectives.pairwise(model=model)
    direct = train.parallel(
        lambda devices: train.make_direct_step(make, two_processes.MODEL, two_processes.OPTIMIZER, devices=devices),
        num_devices=2,
    )
    general = two_processes.make_trainer(1, objective=make(two_processes.MODEL))
    state, metrics = two_processes.trained(direct, NUM_STEPS)
    expected_state, expected_metrics = two_processes.trained(general, NUM_STEPS)
    assert largest_difference(state.trained, expected_state.trained) < 1e-5
    np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-4, atol=1e-4)


def test_an_attack_on_each_devices_own_gradient_would_be_seen(on_one_device):
    """The law above is not empty: this is the fault that it is there for."""
    right = two_processes.make_objective()
    wrong = lambda params, batch, key, reduce: right(params, batch, key, lambda tree: tree)
    state, _ = two_processes.trained(two_processes.make_trainer(2, objective=wrong), NUM_STEPS)
    assert largest_difference(state.trained, on_one_device[0].trained) > 1e-3


def test_training_lowers_both_losses(on_one_device):
    _, metrics = on_one_device
    for name in ("loss", "adv_loss"):
        assert metrics[name][-21:].sum() < 0.8 * metrics[name][:21].sum()
    assert (metrics["adv_loss"] > metrics["loss"]).all()


@pytest.mark.parametrize("num_devices", [1, 2])
def test_what_a_trainer_is_given_stays_valid_and_what_it_made_is_donated(num_devices):
    # Nothing of `start` is read before the steps: a NumPy view of a buffer keeps it from being donated.
    expected = jax.device_get(two_processes.make_state().trained)
    key, params = jax.random.key(1), two_processes.MODEL.init(jax.random.key(0))
    start = train.init_state(params, two_processes.OPTIMIZER, key)
    trainer = two_processes.make_trainer(num_devices)
    seen, batches = sampling.seen(two_processes.make_data()), two_processes.make_batches(2, 10)
    first, _ = trainer.run(trainer.put(start), {}, seen, batches)
    second, _ = trainer.run(first, {}, seen, batches)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.trained))
    after = trainer.get(second)
    assert int(after.step) == 4
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(after.trained))
    assert largest_difference(after.trained, expected) > 1e-4
    assert largest_difference(jax.device_get(start.trained), expected) == 0
    assert largest_difference(jax.device_get(params["tables"]), expected["tables"]) == 0
    for unchanged in (key, start.key, after.key):
        np.testing.assert_array_equal(jax.random.key_data(unchanged), jax.random.key_data(jax.random.key(1)))


def test_a_state_starts_with_copies_and_without_what_is_given():
    params = {"tables": {"t": jnp.ones((2, 2))}, "weights": {"w": jnp.zeros(3)}, "given": {"x": jnp.ones(4)}}
    optimizer = optax.adagrad(0.1, initial_accumulator_value=0.1)
    state = train.init_state(params, optimizer, jax.random.key(0))
    assert set(state.trained) == {"tables", "weights"}
    assert int(state.step) == 0
    np.testing.assert_array_equal(state.trained["tables"]["t"], 1)
    table = state.trained["tables"]["t"]
    assert table.unsafe_buffer_pointer() != params["tables"]["t"].unsafe_buffer_pointer()
    expected = optimizer.init({"tables": params["tables"], "weights": params["weights"]})
    assert largest_difference(state.opt_state, expected) == 0


@pytest.mark.parametrize("num_devices", [0, -1, 5])
def test_devices_that_are_not_there_are_refused(num_devices):
    with pytest.raises(InputError, match=rf"devices between 1 and 4, got {num_devices}\."):
        two_processes.make_trainer(num_devices)


def test_a_batch_that_does_not_divide_is_refused():
    trainer = two_processes.make_trainer(4)
    state = trainer.put(two_processes.make_state())
    with pytest.raises(ValueError, match="that 4 devices divide, got 10 examples"):
        trainer.run(state, {}, sampling.seen(two_processes.make_data()), two_processes.make_batches(2, 10))


def test_two_processes_with_two_devices_each_give_the_tables_of_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(pathlib.Path(train.__file__).parents[1])}
    outs = [tmp_path / f"{process}.npz" for process in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, two_processes.__file__, str(process), port, str(out)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process, out in enumerate(outs)
    ]
    try:
        printed = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    state, metrics = two_processes.trained(two_processes.make_trainer(1), 40)
    for out in outs:
        with np.load(out) as found:
            assert found["devices"] == 4
            np.testing.assert_allclose(found["loss"], metrics["loss"], rtol=1e-4)
            for name, table in state.trained["tables"].items():
                np.testing.assert_allclose(found[name], table, rtol=0, atol=1e-5)


def test_a_batch_knows_how_many_steps_were_taken_before_it():
    """Also in a second run from where the first one ended."""

    def make(devices):
        del devices
        step = lambda state, given, batch, key: dataclasses.replace(state, step=state.step + 1)
        return lambda *inputs: (step(*inputs), {"step": inputs[2]["step"]})

    trainer, state = train.parallel(make), two_processes.make_state()
    batches = {name: np.zeros((2, 3), np.int32) for name in ("users", "pos")}
    seen = sampling.seen(two_processes.make_data())
    for expected in ([0, 1], [2, 3]):
        state, metrics = trainer.run(state, {}, seen, batches)
        np.testing.assert_array_equal(metrics["step"], np.repeat(expected, 3).reshape(2, 3))
