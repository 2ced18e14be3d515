"""What is special to dropout: the share and the scale of what is left, and that it goes by the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_defence as laws
import toys

from jaxrec import surfaces
from jaxrec.defences import dropout

NUM, RATE = 200_000, 0.3


def total(params, batch, key, reduce):
    """Its gradient is what dropout multiplies each entry by."""
    return jnp.sum(params["tables"]["item"]) + jnp.sum(params["tables"]["user"]), {}


@jax.jit
def factors(key):
    params = {"tables": {"user": jnp.ones((5, 2)), "item": jnp.ones((NUM // 4, 4))}, "weights": {}, "given": {}}
    objective = dropout.objective(clean=total, surface=surfaces.tables("item"), rate=RATE)
    loss = lambda tables: objective({**params, "tables": tables}, {}, key, lambda tree: tree)[0]
    return jax.grad(loss)(params["tables"])


def test_the_share_that_is_dropped_is_the_rate_and_the_rest_makes_up_for_it():
    found = jax.device_get(factors(jax.random.key(0)))
    np.testing.assert_allclose(np.unique(found["item"]), [0, 1 / (1 - RATE)], rtol=1e-6)
    assert abs(np.mean(found["item"] == 0) - RATE) < 4 * np.sqrt(RATE * (1 - RATE) / NUM)
    assert (found["user"] == 1).all(), "a table that is not of the surface"


def test_the_key_alone_decides_what_is_dropped():
    first, again, other = (np.asarray(factors(jax.random.key(seed))["item"]) for seed in (0, 0, 1))
    assert (first == again).all()
    share = RATE**2 + (1 - RATE) ** 2  # of entries whose fate is the same under independent keys
    assert abs(np.mean(first == other) - share) < 4 * np.sqrt(share * (1 - share) / NUM)


def test_at_rate_0_it_is_the_clean_objective_and_rate_1_is_refused():
    objective = dropout.objective(clean=laws.CLEAN, surface=surfaces.tables("user", "item"), rate=0.0)
    laws.assert_close(jax.jit(lambda: laws.differentiated(objective, toys.params()))(), laws.clean())
    with pytest.raises(ValueError, match=r"Expected rate in \[0, 1\), got rate=1"):
        dropout.objective(clean=laws.CLEAN, surface=surfaces.tables("user"), rate=1.0)
