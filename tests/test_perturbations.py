"""What attacks share: legal moves, and the better of two candidates, unit by unit."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import norms, perturbations
from jaxrec.types import Oracle

NOTHING = Oracle(losses=lambda key, x: x)


def test_without_limits_everything_is_legal():
    delta = {"a": jnp.array([1e9])}
    assert perturbations.masked(NOTHING, delta) is delta
    assert perturbations.legal(NOTHING, delta, delta) is delta


def test_a_mask_removes_even_what_is_not_a_number():
    where = {"a": jnp.array([True, False, False]), "b": jnp.array([[False], [True]])}
    tree = {"a": jnp.array([1.0, jnp.nan, jnp.inf]), "b": jnp.array([[2.0], [3.0]])}
    masked = perturbations.masked(NOTHING._replace(where=where), tree)
    np.testing.assert_array_equal(masked["a"], [1, 0, 0])
    np.testing.assert_array_equal(masked["b"], [[0], [3]])


@hypothesis.given(
    x=st.floats(-2, 2, width=32),
    delta=st.floats(-3, 3, width=32),
    low=st.floats(-1, 0, width=32),
    width=st.floats(0, 1, width=32),
)
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
def test_a_legal_move_ends_in_the_box_or_no_further_out_and_is_never_longer(x, delta, low, width):
    low, high = np.float32(low), np.float32(low) + np.float32(width)
    oracle = NOTHING._replace(box=(jnp.float32(low), jnp.float32(high)))
    move = float(perturbations.legal(oracle, jnp.float32(x), jnp.float32(delta)))
    assert abs(move) <= abs(delta)
    assert move * delta >= 0
    # x + (high - x) may round to one unit in the last place beyond high.
    assert min(low, x) - 1e-6 <= x + move <= max(high, x) + 1e-6
    if low <= x + delta <= high:
        assert move == pytest.approx(delta, abs=1e-6)


def test_map_with_keys_gives_each_leaf_its_own_key():
    draw = lambda key, x: jax.random.uniform(key, x.shape)
    x = {"a": jnp.zeros(3), "b": (jnp.zeros(3), jnp.zeros((1, 2)))}
    noise = perturbations.map_with_keys(draw, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, noise) == jax.tree.map(jnp.shape, x)
    assert (noise["a"] != noise["b"][0]).all()


def test_better_picks_unit_by_unit_and_the_first_on_ties_and_nan():
    first = (jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.zeros((4, 2, 1)))
    second = (jnp.array([2.0, 1.0, 3.0, jnp.nan]), jnp.ones((4, 2, 1)))
    losses, delta = perturbations.better(first, second)
    np.testing.assert_array_equal(losses, [2, 2, 3, 4])
    np.testing.assert_array_equal(delta[:, :, 0], [[1, 1], [0, 0], [0, 0], [0, 0]])


@pytest.mark.parametrize(("second", "wins"), [(2.0, 1), (1.0, 0), (float("nan"), 0)])
def test_one_loss_decides_for_tables_of_any_length(second, wins):
    tables = {"user": jnp.zeros((3, 2)), "item": jnp.zeros((5, 2))}
    ones = jax.tree.map(jnp.ones_like, tables)
    losses, delta = perturbations.better((jnp.array([1.0]), tables), (jnp.array([second]), ones))
    np.testing.assert_array_equal(losses, [1 + wins])
    for name in tables:
        np.testing.assert_array_equal(delta[name], np.full(tables[name].shape, wins))


def test_outcome_reports_the_losses_reached_and_the_size_of_each_row():
    oracle = Oracle(losses=lambda key, x: 10 * jnp.sum(x, axis=1))
    x, delta = jnp.ones((2, 2)), jnp.array([[3.0, 4.0], [0.0, 0.0]])
    result, info = perturbations.outcome(
        jax.random.key(0), oracle, norms.L1, x, delta, gradient_evaluations=3, queries=4
    )
    np.testing.assert_array_equal(result, delta)
    np.testing.assert_array_equal(info["losses"], [10 * (2 + 7), 10 * 2])
    np.testing.assert_array_equal(info["norms"], [7, 0])
    assert (info["gradient_evaluations"], info["queries"]) == (3, 4)


def test_an_oracle_without_a_gradient_is_refused():
    with pytest.raises(ValueError, match="oracle with a gradient"):
        perturbations.check_gradient(NOTHING)


def test_rows_that_share_a_ball_need_one_loss():
    shared, x = norms.whole(norms.L2), jnp.ones((2, 2))
    attack = lambda losses, x, norm: perturbations.outcome(
        jax.random.key(0), Oracle(losses=losses), norm, x, x, gradient_evaluations=0, queries=1
    )
    each, one = (lambda key, x: jnp.sum(x, axis=1)), (lambda key, x: jnp.sum(x)[None])
    with pytest.raises(ValueError, match="one loss with norm=whole L2, got 2"):
        attack(each, x, shared)
    np.testing.assert_allclose(attack(one, x, shared)[1]["norms"], [2.0], rtol=1e-6)
    assert len(attack(each, x, norms.L2)[1]["norms"]) == 2


def test_projection_is_on_the_ball_and_then_into_the_box():
    oracle = NOTHING._replace(box=(0.0, 1.0))
    x, delta = jnp.array([[0.5, 0.5]]), jnp.array([[3.0, -4.0]])
    np.testing.assert_allclose(perturbations.projected(oracle, norms.L2, x, delta, 1.0), [[0.5, -0.5]])
    np.testing.assert_allclose(perturbations.projected(oracle, norms.L2, x, delta, 0.5), [[0.3, -0.4]], rtol=1e-6)
