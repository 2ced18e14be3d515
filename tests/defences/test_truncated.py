"""What is special to the truncated loss: which positives are left out, and that their negatives are not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_every_defence as laws
import toys

from jaxrec import objectives
from jaxrec.defences import scheduled, truncated

LISTED = toys.BATCH | {"neg": jnp.array([[3, 4], [1, 1], [2, 5], [0, 2], [2, 4], [4, 0]])}


@functools.cache
def compiled():
    def run(drop_rate, batch):
        return laws.differentiated(truncated.objective(model=toys.MODEL, drop_rate=drop_rate), toys.params(), batch)

    return jax.jit(run)


def losses_of(batch):
    """Cross-entropies [B] of the positives and of each one's negatives together, in NumPy."""
    tables = {name: np.asarray(table, float) for name, table in toys.params()["tables"].items()}
    users, pos = tables["user"][batch["users"]], tables["item"][batch["pos"]]
    neg = tables["item"][np.asarray(batch["neg"]).reshape(len(users), -1)]
    of_pos = np.log1p(np.exp(-np.sum(users * pos, axis=1)))
    return of_pos, np.log1p(np.exp(np.sum(users[:, None] * neg, axis=2))).sum(axis=1)


@pytest.mark.parametrize("batch", [toys.BATCH, LISTED], ids=["one negative", "two negatives"])
@pytest.mark.parametrize(("drop_rate", "num"), [(0.0, 0), (0.19, 0), (0.2, 1), (0.59, 2), (0.6, 3), (1.0, 5)])
def test_the_worst_positives_are_left_out_and_all_negatives_stay(batch, drop_rate, num):
    of_pos, of_neg = (values[:5] for values in losses_of(batch))  # the sixth does not count
    (loss, metrics), _ = compiled()(jnp.float32(drop_rate), batch)
    assert int(metrics["dropped"]) == num
    assert float(loss) == pytest.approx(np.sort(of_pos)[: 5 - num].sum() + of_neg.sum(), rel=1e-5)
    assert int(metrics["examples"]) == 5


def test_without_truncation_it_is_the_listwise_cross_entropy():
    (loss, metrics), grads = compiled()(jnp.float32(0), LISTED)
    standard = objectives.listwise(model=toys.MODEL)
    (expected, expected_metrics), expected_grads = jax.jit(
        lambda: laws.differentiated(standard, toys.params(), LISTED)
    )()
    laws.assert_close((loss, grads), (expected, expected_grads))
    laws.assert_close({name: metrics[name] for name in expected_metrics}, expected_metrics)


def test_a_positive_that_is_left_out_has_no_gradient():
    of_pos, _ = losses_of(toys.BATCH)
    worst = int(np.argmax(of_pos[:5]))
    _, grads = compiled()(jnp.float32(0.2), toys.BATCH)
    others = toys.BATCH | {"where": toys.BATCH["where"].at[worst].set(False)}
    _, without = compiled()(jnp.float32(0), others)
    tables = toys.params()["tables"]
    user, item = int(toys.BATCH["users"][worst]), int(toys.BATCH["neg"][worst])
    chance = 1 / (1 + np.exp(-float(tables["user"][user] @ tables["item"][item])))
    expected = np.array(without["tables"]["user"])
    expected[user] += chance * np.asarray(tables["item"][item])  # of its negative alone
    np.testing.assert_allclose(grads["tables"]["user"], expected, rtol=1e-5, atol=1e-6)


def test_equal_losses_at_the_border_are_all_kept():
    values = jnp.array([3.0, 1.0, 2.0, 2.0, 0.0, 9.0])
    where = jnp.array([True, True, True, True, True, False])
    largest = jax.jit(lambda share: truncated._largest(values, where, share, lambda tree: tree))
    assert np.flatnonzero(largest(0.4)).tolist() == [0]
    assert np.flatnonzero(largest(0.6)).tolist() == [0, 2, 3]


def test_the_rate_rises_with_the_step():
    rise = optax.linear_schedule(0.0, 0.6, transition_steps=10)
    make = lambda drop_rate: truncated.objective(model=toys.MODEL, drop_rate=drop_rate)
    objective = scheduled.schedule(make=make, drop_rate=rise)
    run = jax.jit(lambda batch: objective(toys.params(), batch, jax.random.key(0), lambda tree: tree)[1]["dropped"])
    dropped = [int(run(toys.BATCH | {"step": jnp.full(6, step)})) for step in (0, 3, 4, 7, 10, 99)]
    assert dropped == [0, 0, 1, 2, 3, 3]


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"Expected drop_rate in \[0, 1\], got drop_rate=-0.1"):
        truncated.objective(model=toys.MODEL, drop_rate=-0.1)
