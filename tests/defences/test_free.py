"""Free adversarial training against its algorithm written out, on rows, on devices, stopped and resumed, in a sweep."""

import functools

import jax
import jax.numpy as jnp
import killed_run
import numpy as np
import optax
import pytest
import toys
import two_processes

from jaxrec import checkpoint_step, min_max, norms, objectives, sampling, surfaces, sweep, train
from jaxrec.defences import free, scheduled
from jaxrec.studies import model_table

EPSILON, NUM_REPLAYS, NUM_STEPS = 0.3, 3, 45
SURFACE = surfaces.tables("user", "item")
CLEAN = objectives.pairwise(model=two_processes.MODEL)


def fit(epsilon=EPSILON, num_replays=NUM_REPLAYS, objective=None):
    return model_table.by_steps(
        two_processes.MODEL,
        objective or free.objective(clean=CLEAN, surface=SURFACE, epsilon=epsilon),
        two_processes.OPTIMIZER,
        num_epochs=2,
        batch_size=two_processes.BATCH_SIZE,
        carried=min_max.nothing(SURFACE),
        num_replays=num_replays,
    )


def start(seed=0):
    params = two_processes.MODEL.init(jax.random.key(seed))
    return train.init_state(params, two_processes.OPTIMIZER, jax.random.key(1), carried=fit().carried(params))


def trained(trainer, num_steps=NUM_STEPS):
    batches = two_processes.make_batches(num_steps, -(-two_processes.BATCH_SIZE // trainer.count) * trainer.count)
    state, metrics = trainer.run(trainer.put(start()), {}, sampling.seen(two_processes.make_data()), batches)
    return trainer.get(state), jax.device_get(metrics)


@functools.cache
def on_one_device():
    return trained(train.parallel(fit().make))


def assert_same_training(found, expected):
    """To 1e-4: the order of sums differs, and steps along normalised gradients let it grow."""
    for name in ("trained", "carried"):
        pairs = zip(*(jax.tree.leaves(getattr(state, name)) for state, _ in (found, expected)), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    for name, values in expected[1].items():
        np.testing.assert_allclose(found[1][name], values, rtol=1e-3, atol=1e-3)


def by_hand(tables, batches, epsilon, num_replays, rate):
    """Algorithm 1 in float64: BPR, rows of L2 balls, plain SGD."""
    tables = {name: np.asarray(table, float) for name, table in tables.items()}
    delta = {name: np.zeros_like(table) for name, table in tables.items()}
    for batch in batches:
        for _ in range(num_replays):
            there = {name: tables[name] + delta[name] for name in tables}
            grads = {name: np.zeros_like(table) for name, table in tables.items()}
            for u, i, j, counts in zip(*(batch[name] for name in ("users", "pos", "neg", "where")), strict=True):
                user, pos, neg = there["user"][u], there["item"][i], there["item"][j]
                slope = -float(counts) / (1 + np.exp(user @ (pos - neg)))
                grads["user"][u] += slope * (pos - neg)
                grads["item"][i] += slope * user
                grads["item"][j] -= slope * user
            for name, grad in grads.items():
                tables[name] = tables[name] - rate * grad
                size = np.linalg.norm(grad, axis=1, keepdims=True)
                moved = delta[name] + epsilon * grad / np.where(size > 0, size, 1)
                length = np.linalg.norm(moved, axis=1, keepdims=True)
                delta[name] = moved * np.minimum(1, epsilon / np.where(length > 0, length, 1))
    return tables, delta


def test_two_batches_replayed_are_the_algorithm():
    objective = free.objective(clean=objectives.pairwise(model=toys.MODEL), surface=SURFACE, epsilon=EPSILON)
    step = train.replayed(train.make_step(objective, optax.sgd(0.1)), NUM_REPLAYS)
    params = toys.params()
    first = {name: np.asarray(column) for name, column in toys.BATCH.items()}
    batches = [first, {name: np.roll(column, 2) if name == "neg" else column for name, column in first.items()}]

    @jax.jit
    def both(batches):
        state = train.init_state(params, optax.sgd(0.1), jax.random.key(0), carried=min_max.nothing(SURFACE)(params))
        for batch in batches:
            state, metrics = step(state, {}, batch, jax.random.key(2))
        return state, metrics

    state, metrics = both(batches)
    tables, delta = by_hand(params["tables"], batches, EPSILON, NUM_REPLAYS, 0.1)
    for name in tables:
        np.testing.assert_allclose(state.trained["tables"][name], tables[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state.carried[name], delta[name], rtol=1e-4, atol=1e-5)
    assert (int(state.step), int(metrics["examples"])) == (2, NUM_REPLAYS * 5)
    assert metrics["adv_loss"] > metrics["loss"]
    assert (np.asarray(state.carried["user"])[3] == 0).all(), "nothing came of that user"


def test_steps_on_the_touched_rows_are_the_dense_ones():
    """Batches touch at most 10 of 30 users and 20 of 40 items, so that most rows of delta wait for their return."""
    objective = free.objective(clean=CLEAN, surface=SURFACE, epsilon=EPSILON)
    dense = train.replayed(train.make_step(objective, two_processes.OPTIMIZER), NUM_REPLAYS)
    assert_same_training(on_one_device(), trained(train.parallel(lambda devices: dense)))


def test_two_devices_are_one():
    assert_same_training(trained(train.parallel(fit().make, num_devices=2)), on_one_device())


def test_what_is_carried_raises_the_loss_from_the_second_epoch_on_and_stays_in_the_ball():
    state, metrics = on_one_device()
    assert (metrics["adv_loss"][21:] > metrics["loss"][21:]).all()
    assert metrics["adv_loss"][42:].sum() < metrics["adv_loss"][:3].sum()
    for delta in state.carried.values():
        sizes = norms.L2.size(jnp.asarray(delta))
        assert 0.9 * EPSILON < float(sizes.max()) <= EPSILON * (1 + 1e-6)


def test_a_training_that_was_stopped_and_resumed_ends_with_the_same_bytes(tmp_path):
    trainer = train.parallel(fit().make)
    ends = []
    for name, epochs in (("at once", [2]), ("resumed", [1, 2])):
        for num_epochs in epochs:
            changes = {"num_epochs": num_epochs, "validate_every": 1}
            fitted = killed_run.fit(tmp_path / name, trainer, start(), **changes)
        ends.append(checkpoint_step.digest(fitted.state))
        assert any(np.asarray(delta).any() for delta in fitted.state.carried.values())
    assert ends[0] == ends[1]


def test_models_of_a_sweep_carry_each_its_own():
    states = [start(0), start(0)]
    make = lambda hyper: fit(hyper["epsilon"]).make(train.ALONE)
    trainer = sweep.parallel(make, num_models=2, each=sweep.at_once)
    models = sweep.stack(states, hyper=[{"epsilon": 0.1}, {"epsilon": EPSILON}])
    batches = {name: column[None] for name, column in two_processes.make_batches(5, 10).items()}
    seen = sampling.seen(two_processes.make_data())
    models, _ = trainer.run(trainer.put(models), {}, seen, batches, np.ones(2, bool))
    found = sweep.model(trainer.get(models).states.carried, 1)
    expected, _ = trained(train.parallel(fit().make), 5)
    for name, delta in expected.carried.items():
        np.testing.assert_allclose(found[name], delta, rtol=1e-4, atol=1e-5)
    assert float(norms.L2.size(jnp.asarray(sweep.model(models.states.carried, 0)["user"])).max()) < 0.1001


def test_after_a_warm_up_nothing_is_carried_yet():
    objective = free.objective(clean=CLEAN, surface=SURFACE, epsilon=EPSILON)
    switched = scheduled.switch(objectives=[CLEAN, objective], boundaries=[4])
    trainer = train.parallel(fit(objective=switched, num_replays=1).make)
    for num_steps, carries in ((4, False), (6, True)):
        state, metrics = trained(trainer, num_steps)
        assert any(delta.any() for delta in state.carried.values()) == carries
    assert set(metrics) == {"loss", "margin", "examples", "adv_loss", "adv_margin"}


def test_a_state_that_carries_nothing_is_refused():
    params = two_processes.MODEL.init(jax.random.key(0))
    state = train.init_state(params, two_processes.OPTIMIZER, jax.random.key(1))
    with pytest.raises(ValueError, match=r"Expected a state that carries .*, got shapes {}\."):
        train.parallel(fit().make).run(
            state, {}, sampling.seen(two_processes.make_data()), two_processes.make_batches(1, 10)
        )


@pytest.mark.parametrize("wrong", [{"epsilon": -1.0}, {"epsilon": 1.0, "step_size": float("nan")}])
def test_bad_radii_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Expected (epsilon|step_size) >= 0"):
        free.objective(clean=CLEAN, surface=SURFACE, **wrong)


def test_no_replay_is_refused():
    with pytest.raises(ValueError, match="num >= 1"):
        train.replayed(lambda *inputs: inputs, 0)
