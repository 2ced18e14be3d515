"""What is special to a perturbation that is kept: when it is renewed, for which rows, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_defence as laws
import toys
import two_processes

from jaxrec import min_max, objectives, sampling, surfaces, train
from jaxrec.attacks import pgd
from jaxrec.defences import apr, periodic
from jaxrec.studies import model_table

SURFACE = surfaces.tables("user", "item")
CLEAN = objectives.pairwise(model=two_processes.MODEL)
ASKED = []


def attack(key, oracle, x):
    jax.debug.callback(lambda: ASKED.append(1))
    return pgd.attack(epsilon=0.2, num_steps=2)(key, oracle, x)


def trained(objective, num_steps, *, num_devices=1, sparse=True):
    """The state after `num_steps`, and the steps' metrics."""
    fit = model_table.by_steps(
        two_processes.MODEL, objective, two_processes.OPTIMIZER,
        num_epochs=1, batch_size=two_processes.BATCH_SIZE, carried=min_max.nothing(SURFACE),
    )  # fmt: skip
    dense = lambda devices: train.make_step(objective, two_processes.OPTIMIZER, devices=devices)
    trainer = train.parallel(fit.make if sparse else dense, num_devices=num_devices)
    params = two_processes.MODEL.init(jax.random.key(0))
    state = train.init_state(params, two_processes.OPTIMIZER, jax.random.key(1), carried=fit.carried(params))
    batches = two_processes.make_batches(num_steps, -(-two_processes.BATCH_SIZE // num_devices) * num_devices)
    state, metrics = trainer.run(trainer.put(state), {}, sampling.seen(two_processes.make_data()), batches)
    return trainer.get(state), jax.device_get(metrics)


def made(**settings):
    return periodic.objective(clean=CLEAN, attack=attack, surface=SURFACE, **settings)


def test_the_attack_is_mounted_in_the_first_steps_of_each_period_and_rows_keep_what_it_found():
    ASKED.clear()
    after_3, _ = trained(made(every=5, fresh=2), 3)
    jax.effects_barrier()
    assert len(ASKED) == 2, "steps 0 and 1"
    after_2, _ = trained(made(every=5, fresh=2), 2)
    for name, delta in after_3.carried.items():
        np.testing.assert_array_equal(delta, after_2.carried[name])
        sizes = np.linalg.norm(delta, axis=1)
        assert 0 < (sizes > 0).sum() < len(sizes), "rows of two batches have one"
        np.testing.assert_allclose(sizes[sizes > 0], 0.2, rtol=1e-5)


def test_renewed_in_every_step_it_is_apr():
    against = apr.objective(clean=CLEAN, attack=attack, surface=SURFACE)
    always, expected = trained(made(every=3, fresh=3), 20), trained(against, 20)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), always[0].trained, expected[0].trained
    )
    np.testing.assert_allclose(always[1]["adv_loss"], expected[1]["adv_loss"], rtol=1e-4)


def test_in_dense_steps_and_on_two_devices_training_is_the_same():
    """An epoch of renewal, 21 steps, and half of one in which its perturbations are kept."""
    expected, metrics = trained(made(every=42, fresh=21), 30)
    assert metrics["adv_loss"][21:].sum() > 1.03 * metrics["loss"][21:].sum(), "they still raise the loss"
    for setting in ({"sparse": False}, {"num_devices": 2}):
        found, _ = trained(made(every=42, fresh=21), 30, **setting)
        for name in ("trained", "carried"):
            close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
            jax.tree.map(close, getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("settings", "message"), [
    ({"every": 0}, "every >= 1"), ({"fresh": 0}, "fresh >= 1"), ({"every": 2, "fresh": 3}, "fresh <= every"),
    ({"adv_weight": -1.0}, "adv_weight=-1"),
])  # fmt: skip
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        made(**settings)


def test_a_state_that_carries_other_shapes_is_refused():
    objective = periodic.objective(clean=laws.CLEAN, attack=attack, surface=SURFACE)
    params = {**toys.params(), "carried": {"user": jnp.zeros((4, 3))}}
    with pytest.raises(ValueError, match="Expected a state that carries a perturbation"):
        objective(params, laws.BATCH, jax.random.key(0), lambda tree: tree)
