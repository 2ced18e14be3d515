"""What is special to SAM: one norm over all that is trained, and the gradient at the end of the step alone."""

import jax
import jax.numpy as jnp
import numpy as np
import toys

from jaxrec import min_max
from jaxrec.defences import sam

CURVATURES = {"tables": {"a": jnp.array([[1.0, 2.0], [0.0, 3.0]])}, "weights": {"w": jnp.array([0.5, 4.0]), "s": 2.0}}
PARAMS = {
    "tables": {"a": toys.normal(1, 2, 2)},
    "weights": {"w": toys.normal(2, 2), "s": jnp.float32(-0.3)},
    "given": {"features": jnp.array([7.0])},
}


def bowl(params, batch, key, reduce):
    """Half the sum of curvature * x^2 over all that is trained."""
    terms = jax.tree.map(lambda c, x: jnp.sum(c * x * x) / 2, CURVATURES, min_max.trained(params))
    total = sum(jax.tree.leaves(terms))
    return total, {"loss": total}


@jax.jit
def run(epsilon, scale):
    params = jax.tree.map(lambda x: scale * x, PARAMS)
    objective = sam.objective(clean=bowl, epsilon=epsilon)
    value = lambda params: objective(params, {}, jax.random.key(0), lambda tree: tree)
    return jax.value_and_grad(value, has_aux=True, allow_int=True)(params)


def test_the_gradient_is_that_at_a_step_of_length_epsilon_up_the_whole_trees_gradient():
    (loss, metrics), grads = run(0.4, 1.0)
    x = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(min_max.trained(PARAMS))]).astype(float)
    c = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(CURVATURES)])
    moved = x + 0.4 * c * x / np.linalg.norm(c * x)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(min_max.trained(grads))])
    np.testing.assert_allclose(flat, c * moved, rtol=1e-5)
    np.testing.assert_allclose(loss, np.sum(c * moved**2) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.sum(c * x**2) / 2, rtol=1e-5)
    assert float(metrics["adv_loss"]) == float(loss)


def test_where_the_gradient_is_zero_there_is_no_step():
    (loss, _), grads = run(0.4, 0.0)
    assert float(loss) == 0
    assert all(not np.any(grad) for grad in jax.tree.leaves(grads))
