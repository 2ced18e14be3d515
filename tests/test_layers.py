"""Laws of dropout: what share is dropped, that the rest is scaled, and that a key decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import layers

X = jnp.full((61, 67), 2.0)


def test_a_fifth_is_dropped_and_the_rest_scaled_so_that_the_mean_stays():
    dropped = np.asarray(layers.dropout(jax.random.key(0), X, 0.2))
    kept = dropped != 0
    assert kept.mean() == pytest.approx(0.8, abs=4 * 0.4 / 64)  # four standard errors
    np.testing.assert_allclose(dropped[kept], 2 / 0.8, rtol=1e-6)
    assert dropped.dtype == np.float32


def test_entries_are_dropped_apart_from_each_other():
    """Of two entries that are neighbours, or in one place under two keys, both stay in 64 % of cases."""
    kept, under_another = (np.asarray(layers.dropout(jax.random.key(seed), X, 0.2)) != 0 for seed in (1, 2))
    shifted = [np.roll(kept, shift, axis) for shift, axis in ((1, 1), (2, 1), (1, 0), ((1, 1), (0, 1)))]
    for other in (*shifted, under_another):
        assert (kept & other).mean() == pytest.approx(0.64, abs=0.03)  # four standard errors
    for axis in (0, 1):  # no row or column is dropped or kept more than others
        assert kept.mean(axis=axis).std() == pytest.approx(np.sqrt(0.16 / X.shape[axis]), rel=0.4)


def test_an_array_cut_in_front_keeps_its_decisions():
    key = jax.random.key(0)
    np.testing.assert_array_equal(layers.dropout(key, X[7:, 5:], 0.2), layers.dropout(key, X, 0.2)[7:, 5:])


def test_the_key_decides_and_no_key_drops_nothing():
    one, same, other = (layers.dropout(jax.random.key(seed), X, 0.5) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()
    assert layers.dropout(None, X, 0.5) is X
    assert layers.dropout(jax.random.key(0), X, 0.0) is X


def test_the_type_stays():
    assert layers.dropout(jax.random.key(0), X.astype(jnp.bfloat16), 0.2).dtype == jnp.bfloat16


def test_wrong_sizes_and_rates_are_refused_by_name():
    layers.check(num_blocks=1, rates={"dropout": 0.0})
    with pytest.raises(ValueError, match="num_blocks=0"):
        layers.check(num_blocks=0)
    with pytest.raises(ValueError, match=r"dropout in \[0, 1\), got dropout=1"):
        layers.check(rates={"dropout": 1.0})
