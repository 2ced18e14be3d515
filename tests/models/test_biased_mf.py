"""What is special to biased matrix factorisation: the biases count once each, and are no part of the gauge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import surfaces
from jaxrec.models import biased_mf, mf

MODEL = biased_mf.model(num_users=6, num_items=7, dimension=4, mean=3.5)


def make_params():
    rng = np.random.default_rng(0)
    draw = lambda rows: jnp.asarray(rng.normal(size=(rows, 5)), jnp.float32)
    return {"tables": {"user": draw(6), "item": draw(7)}, "weights": {}, "given": {}}


def test_a_score_is_mean_plus_biases_plus_dot_product():
    params = make_params()
    user, item = (np.asarray(params["tables"][name], float) for name in ("user", "item"))
    expected = 3.5 + user[5, 4] + item[2, 4] + user[5, :4] @ item[2, :4]
    np.testing.assert_allclose(jax.jit(MODEL.score)(params, jnp.array([5]), jnp.array([2])), [expected], rtol=1e-5)


def test_biases_start_at_zero():
    tables = jax.jit(MODEL.init)(jax.random.key(0))["tables"]
    for table in tables.values():
        np.testing.assert_array_equal(table[:, -1], 0)
        assert (table[:, :-1] != 0).all()


def test_the_gauge_balances_the_embeddings_and_leaves_biases_and_scores():
    params = make_params()
    params["tables"]["user"] = params["tables"]["user"].at[:, :4].multiply(3.0)
    assert MODEL.canonical is not None
    changed = jax.jit(MODEL.canonical)(params)
    everyone = jnp.arange(6)
    np.testing.assert_allclose(MODEL.score_all(changed, everyone), MODEL.score_all(params, everyone), rtol=1e-4)
    for name, expected in zip(
        ("user", "item"), mf.balanced(*(params["tables"][name][:, :4] for name in ("user", "item"))), strict=True
    ):
        np.testing.assert_allclose(changed["tables"][name][:, :4], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(changed["tables"][name][:, 4], params["tables"][name][:, 4])


def test_the_embeddings_without_the_biases_are_a_surface():
    params = make_params()
    surface = surfaces.columns(surfaces.tables("user", "item"), 4)
    x = surface.get(params)
    assert x["user"].shape == (6, 4)
    moved = surface.put(params, jax.tree.map(lambda x: x + 1, x))["tables"]
    for name, table in params["tables"].items():
        np.testing.assert_array_equal(moved[name][:, :4], table[:, :4] + 1)
        np.testing.assert_array_equal(moved[name][:, 4], table[:, 4])


def test_a_mean_that_is_no_number_and_no_columns_are_refused():
    with pytest.raises(ValueError, match="mean=nan"):
        biased_mf.model(num_users=2, num_items=2, mean=float("nan"))
    with pytest.raises(ValueError, match="num=0"):
        surfaces.columns(surfaces.tables("user"), 0)
