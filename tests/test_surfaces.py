"""Surfaces give back what they were given, touch nothing else, and measure rows in the units they state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import surfaces


def params():
    tables = {"user": jnp.array([[3.0, 4.0], [0.0, 0.0]]), "item": jnp.array([[1.0, 0.0]]), "bias": jnp.array([5.0])}
    return {"tables": tables, "weights": {"w": jnp.array([7.0])}, "given": {"edges": jnp.array([1])}}


def test_tables_get_the_named_ones_and_put_them_back():
    before, surface = params(), surfaces.tables("user", "bias")
    x = surface.get(before)
    assert set(x) == {"user", "bias"}
    after = surface.put(before, jax.tree.map(lambda array: array + 1, x))
    np.testing.assert_array_equal(after["tables"]["user"], before["tables"]["user"] + 1)
    np.testing.assert_array_equal(after["tables"]["bias"], [6.0])
    assert after["tables"]["item"] is before["tables"]["item"]
    assert after["weights"] is before["weights"]
    assert after["given"] is before["given"]
    np.testing.assert_array_equal(before["tables"]["bias"], [5.0])


def test_no_table_and_a_missing_table_are_refused():
    with pytest.raises(ValueError, match="at least one table"):
        surfaces.tables()
    with pytest.raises(KeyError, match="itme"):
        surfaces.tables("itme").get(params())


def test_row_scales_are_mean_row_norms_and_1_for_zeros():
    x = {"a": jnp.array([[3.0, 4.0], [0.0, 1.0]]), "zeros": jnp.zeros((2, 3)), "vector": jnp.array([-2.0, 4.0])}
    scales = surfaces.row_scales(x)
    assert {name: float(scale) for name, scale in scales.items()} == {"a": (5 + 1) / 2, "zeros": 1, "vector": 3}


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_row_scales_of_very_small_and_large_tables(factor):
    scales = surfaces.row_scales({"a": jnp.array([[3.0, 4.0], [0.0, 1.0]]) * factor})
    np.testing.assert_allclose(scales["a"], 3 * factor, rtol=1e-5)


def test_scaled_measures_a_step_in_its_units():
    plain = surfaces.tables("user", "item")
    scales = {"user": jnp.float32(2.0), "item": jnp.float32(0.5)}
    surface = surfaces.scaled(plain, scales)
    x = surface.get(params())
    np.testing.assert_array_equal(x["user"], params()["tables"]["user"] / 2)
    after = surface.put(params(), {"user": x["user"].at[1, 0].add(0.1), "item": x["item"]})
    np.testing.assert_allclose(after["tables"]["user"], [[3, 4], [0.1 * 2, 0]], rtol=1e-6)
    np.testing.assert_allclose(after["tables"]["item"], [[1, 0]], rtol=1e-6)


def test_in_relative_units_every_table_has_mean_row_norm_1():
    plain = surfaces.tables("user", "item")
    x = surfaces.scaled(plain, surfaces.row_scales(plain.get(params()))).get(params())
    for table in x.values():
        assert float(jnp.mean(jnp.linalg.norm(table, axis=1))) == pytest.approx(1, rel=1e-6)
