"""What is special to the control: noise as long as a defence's perturbation, that does not look at the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import toys

from jaxrec import norms, surfaces
from jaxrec.defences import noise


def test_the_noise_has_the_length_it_says_and_points_nowhere():
    """Of a loss that is linear in the tables, so that the two losses differ by the noise along its slope."""
    slopes = {"user": toys.normal(1, 4, 3), "item": jnp.zeros((6, 3)).at[2].set(jnp.array([3.0, 0.0, 0.0]))}

    def linear(params, batch, key, reduce):
        total = sum(jnp.sum(params["tables"][name] * slope) for name, slope in slopes.items())
        return total, {"loss": total}

    @jax.jit
    def rises(keys):
        def rise(key):
            objective = noise.objective(
                clean=linear, surface=surfaces.tables("item"), epsilon=0.5, norm=norms.L2, adv_weight=0.7
            )
            _, metrics = objective(toys.params(), {}, key, lambda tree: tree)
            return metrics["adv_loss"] - metrics["loss"]

        return jax.vmap(rise)(keys)

    found = np.asarray(rises(jax.random.split(jax.random.key(0), 2000)))
    # In three dimensions one coordinate of a uniform direction is uniform: in [-1.5, 1.5] here.
    assert 1.45 < np.abs(found).max() < 1.5 + 1e-4
    assert abs(found.mean()) < 4 * 1.5 / np.sqrt(3 * 2000)
    np.testing.assert_allclose(found.std(), 1.5 / np.sqrt(3), rtol=0.05)
