"""What is special to matrix factorisation: dot products, the initial spread, and the gauge of its two tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.models import mf

MODEL = mf.model(num_users=6, num_items=7, dimension=4)
assert MODEL.canonical is not None
CANONICAL = jax.jit(MODEL.canonical)


def params_of(user, item):
    as_float32 = lambda table: jnp.asarray(table, jnp.float32)
    return {"tables": {"user": as_float32(user), "item": as_float32(item)}, "weights": {}, "given": {}}


def draw(seed=0, dimension=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, dimension)), rng.normal(size=(7, dimension))


def canonical_tables(user, item):
    tables = CANONICAL(params_of(user, item))["tables"]
    return np.asarray(tables["user"], float), np.asarray(tables["item"], float)


def test_scores_are_dot_products():
    user, item = draw()
    score = jax.jit(MODEL.score)(params_of(user, item), jnp.array([5, 0]), jnp.array([6, 2]))
    np.testing.assert_allclose(score, [user[5] @ item[6], user[0] @ item[2]], rtol=1e-5)


def test_tables_start_from_a_normal_cut_at_two_deviations():
    model = mf.model(num_users=400, num_items=300, dimension=8, init_scale=0.1)
    params = jax.jit(model.init)(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params["tables"]) == {"user": (400, 8), "item": (300, 8)}
    for table in params["tables"].values():
        assert float(jnp.abs(table).max()) <= 0.2
        # The standard deviation of a standard normal cut at +-2 is .8796.
        assert float(jnp.std(table)) == pytest.approx(0.08796, rel=0.05)
        assert float(jnp.mean(table)) == pytest.approx(0, abs=0.005)


def test_the_canonical_tables_have_the_square_roots_of_the_scores_singular_values():
    user, item = draw()
    expected = np.sqrt(np.linalg.svd(user @ item.T, compute_uv=False)[:4])
    for table in canonical_tables(user, item):
        np.testing.assert_allclose(np.linalg.svd(table, compute_uv=False), expected, rtol=1e-4)
        np.testing.assert_allclose(table.T @ table, np.diag(expected**2), atol=1e-4)


@pytest.mark.parametrize("mix", ["3P, Q/3", "invertible", "rotation"])
def test_the_canonical_gauge_is_the_same_for_all_tables_with_the_same_scores(mix):
    """Row norms, which relative budgets are stated in; and the tables themselves, which fix the noise control too."""
    user, item = draw()
    matrix = np.random.default_rng(5).normal(size=(4, 4))
    matrix = {"3P, Q/3": 3 * np.eye(4), "invertible": matrix, "rotation": np.linalg.qr(matrix)[0]}[mix]
    before = canonical_tables(user, item)
    after = canonical_tables(user @ matrix, item @ np.linalg.inv(matrix).T)
    for table, same in zip(before, after, strict=True):
        np.testing.assert_allclose(np.linalg.norm(same, axis=1), np.linalg.norm(table, axis=1), rtol=1e-3)
        np.testing.assert_allclose(same, table, atol=1e-3)


def test_the_canonical_gauge_of_tables_wider_than_they_are_long_keeps_scores_and_shapes():
    user, item = draw(dimension=16)
    before = params_of(user, item)
    after = CANONICAL(before)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, before)
    np.testing.assert_allclose(after["tables"]["user"] @ after["tables"]["item"].T, user @ item.T, rtol=1e-3, atol=1e-4)


def test_the_canonical_gauge_of_zeros_is_zeros():
    for table in canonical_tables(np.zeros((6, 4)), np.zeros((7, 4))):
        np.testing.assert_array_equal(table, 0)


@pytest.mark.parametrize("name", ["num_users", "num_items", "dimension", "init_scale"])
def test_wrong_sizes_are_refused_by_name(name):
    value = -1.0 if name == "init_scale" else 0
    with pytest.raises(ValueError, match=f"{name}={value}"):
        mf.model(**{"num_users": 2, "num_items": 2, "dimension": 2, name: value})
