"""Square attack: corners on a linear loss, the schedule, losses alone, and nothing where it finds nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import norms, oracles
from jaxrec.attacks import square

KEY = jax.random.key(3)
SLOPES = jnp.array([[1.0, -2.0, 0.5, 4.0], [-1.0, 3.0, 1.0, -0.2], [2.0, 2.0, -1.0, 1.0]])
X = jnp.zeros_like(SLOPES)
NORMS = {norm.name: norm for norm in (norms.LINF, norms.L2, norms.L1)}


def per_row(key, x):
    return jnp.sum(SLOPES * x, axis=1)


def together(key, x):
    return jnp.sum(SLOPES * x, keepdims=True)[0]


@functools.cache
def found(norm, losses, num_queries=600):
    oracle = oracles.black_box(oracles.white_box(losses))
    attack = square.attack(epsilon=0.5, norm=norm, num_queries=num_queries)
    return jax.jit(lambda key: attack(key, oracle, X))(KEY)


@pytest.mark.parametrize("losses", [per_row, together])
def test_linf_finds_the_corner_that_is_best_for_a_linear_loss(losses):
    """epsilon * sign(slope), with one loss for each row and with one for all."""
    delta, _ = found(norms.LINF, losses)
    np.testing.assert_array_equal(delta, 0.5 * jnp.sign(SLOPES))


@pytest.mark.parametrize(("norm", "dual", "share"), [(norms.L2, 2, 0.97), (norms.L1, np.inf, 0.999)])
def test_other_balls_come_near_the_best_of_a_linear_loss(norm, dual, share):
    """The best is epsilon times the dual norm of the slopes; rows use their whole length."""
    delta, info = found(norm, per_row)
    assert (info["losses"] >= share * 0.5 * np.linalg.norm(SLOPES, ord=dual, axis=1)).all()
    np.testing.assert_allclose(norm.size(delta), 0.5, rtol=1e-5)


@pytest.mark.parametrize("name", NORMS)
def test_it_never_ends_below_no_perturbation_at_all(name):
    """Where every move lowers the loss, it stays."""
    oracle = oracles.white_box(lambda key, x: -jnp.sum(jnp.square(x), axis=1))
    delta, info = square.attack(epsilon=0.5, norm=NORMS[name], num_queries=20)(KEY, oracle, X)
    np.testing.assert_array_equal(delta, 0)
    np.testing.assert_array_equal(info["losses"], 0)


def test_a_loss_that_is_not_a_number_is_never_kept():
    oracle = oracles.white_box(lambda key, x: jnp.where(jnp.abs(x[:, 0]) > 0, jnp.nan, 0.0))
    delta, _ = square.attack(epsilon=0.5, num_queries=20)(KEY, oracle, X)
    np.testing.assert_array_equal(delta, 0)


@pytest.mark.parametrize("num_queries", [3, 20])
def test_the_queries_are_those_asked_for(num_queries):
    count = {"losses": 0}

    def losses(key, x):
        jax.debug.callback(lambda: count.update(losses=count["losses"] + 1))
        return per_row(key, x)

    attack = square.attack(epsilon=0.5, num_queries=num_queries)
    _, info = jax.jit(lambda key: attack(key, oracles.white_box(losses), X))(KEY)
    jax.effects_barrier()
    assert (info["queries"], info["gradient_evaluations"]) == (num_queries, 0)
    assert count["losses"] == num_queries


def test_the_share_is_halved_at_the_papers_places():
    """Proposals 0 to 10 of 10,000 have the first share; the last two thousand a 512th of it."""
    shares = square._shares(10_000, 0.8)
    starts = np.r_[0, 1 + np.flatnonzero(np.diff(shares))]
    np.testing.assert_array_equal(starts, [0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001])
    np.testing.assert_allclose(shares[starts], 0.8 / 2.0 ** np.arange(10), rtol=1e-6)
    np.testing.assert_allclose(square._shares(100, 0.8)[[0, 1, 50, 99]], 0.8 / 2.0 ** np.array([0, 2, 7, 9]), rtol=1e-6)


@pytest.mark.parametrize(("share", "width"), [(1.0, 8), (0.5, 4), (0.26, 2), (0.001, 1)])
def test_a_window_is_a_run_of_a_share_of_each_row_at_random_places(share, width):
    windows = np.asarray(square._window(KEY, share, jnp.zeros((200, 2, 4)))).reshape(200, 8)
    assert (windows.sum(axis=1) == width).all()
    assert ((np.diff(windows.astype(int), axis=1) == 1).sum(axis=1) <= 1).all()
    assert (np.abs(np.diff(windows.astype(int), axis=1)).sum(axis=1) <= 2).all()
    assert set(windows.argmax(axis=1)) == set(range(8 - width + 1))


@pytest.mark.parametrize(("share", "count"), [(1.0, 10), (0.3, 3), (0.0, 1)])
def test_a_proposal_changes_a_share_of_the_rows_of_a_shared_table(share, count):
    rows = np.asarray(square._some_rows(KEY, share, jnp.zeros((10, 2, 2))))
    assert rows.shape == (10, 1, 1)
    assert rows.sum() == count


def test_only_two_windows_of_the_chosen_rows_turn_and_rows_keep_their_length():
    delta = jax.random.normal(KEY, (30, 6))
    delta = 0.5 * norms.L2.direction(delta)
    rows = jnp.arange(30)[:, None] < 20
    moved = np.asarray(square._turn_windows(KEY, norms.L2, 0.5, 0.34, rows, delta))
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 0.5, rtol=1e-5)
    changed = ~np.isclose(moved, delta, rtol=1e-5)
    assert not changed[20:].any()
    assert ((changed.sum(axis=1) >= 2) & (changed.sum(axis=1) <= 4))[:20].all()
    assert (changed.sum(axis=1) == 4).any()


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"num_queries": 2}, "num_queries >= 3, got num_queries=2"),
        ({"num_queries": -1}, "num_queries=-1"),
        ({"initial_share": 0.0}, "initial_share=0.0"),
        ({"initial_share": 1.5}, "initial_share=1.5"),
        ({"initial_share": float("nan")}, "initial_share=nan"),
    ],
)
def test_bad_hyperparameters_are_refused_by_name(hyperparameters, message):
    with pytest.raises(ValueError, match=message):
        square.attack(epsilon=0.1, **hyperparameters)
