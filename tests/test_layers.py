"""Laws of dropout: what share is dropped, that the rest is scaled, and that a key decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import layers

X = jnp.full((61, 67), 2.0)  # no multiple of four: the last word is cut


def test_a_fifth_is_dropped_and_the_rest_scaled_so_that_the_mean_stays():
    dropped = np.asarray(layers.dropout(jax.random.key(0), X, 0.2))
    kept = dropped != 0
    assert kept.mean() == pytest.approx(1 - 51 / 256, abs=4 * 0.4 / 64)  # four standard errors
    np.testing.assert_allclose(dropped[kept], 2 * 256 / 205, rtol=1e-6)
    assert dropped.dtype == np.float32


def test_entries_are_dropped_apart_from_each_other():
    """Neighbours come out of one word: of two next to each other both stay in 64 % of cases."""
    kept = np.asarray(layers.dropout(jax.random.key(1), X, 0.2)) != 0
    for other in (np.roll(kept, 1, axis=1), np.roll(kept, 2, axis=1), np.roll(kept, 1, axis=0)):
        assert (kept & other).mean() == pytest.approx((205 / 256) ** 2, abs=0.03)


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
