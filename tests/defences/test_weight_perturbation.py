"""What is special to AWP: moves relative to what they move, row by row in tables and array by array in weights."""

import jax
import jax.numpy as jnp
import numpy as np
import test_apr
import test_every_defence as laws
import toys

from jaxrec import surfaces
from jaxrec.attacks import fgsm
from jaxrec.defences import weight_perturbation


def test_the_gradient_is_the_clean_one_and_that_at_delta_and_a_relative_step_on_top():
    """The laws build it with a weight epsilon of a tenth of epsilon."""
    tables, delta = test_apr.fixed_delta(0.5)
    first = {name: tables[name] + delta[name] for name in tables}
    there = {}
    for name, grad in test_apr.bpr_gradient(**first).items():
        sizes = np.linalg.norm(grad, axis=1, keepdims=True)
        lengths = 0.05 * np.linalg.norm(tables[name], axis=1, keepdims=True)
        there[name] = first[name] + lengths * grad / np.where(sizes > 0, sizes, 1)
    clean, attacked = test_apr.bpr_gradient(**tables), test_apr.bpr_gradient(**there)
    _, grads = laws.compiled("weight_perturbation")(0.5, 0.7)
    for name in tables:
        np.testing.assert_allclose(grads["tables"][name], clean[name] + 0.7 * attacked[name], rtol=1e-4, atol=1e-5)


def test_an_array_of_the_weights_moves_as_one_by_a_share_of_its_norm_and_zeros_stay():
    weights = {"w": toys.normal(1, 2, 3), "bias": jnp.zeros(3), "s": jnp.float32(-2.0)}
    slopes = {"w": toys.normal(2, 2, 3), "bias": jnp.ones(3), "s": jnp.float32(3.0)}

    def linear(params, batch, key, reduce):
        total = sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), params["weights"], slopes)))
        return total + 0 * jnp.sum(params["tables"]["user"]), {"loss": total}

    objective = weight_perturbation.objective(
        clean=linear, attack=fgsm.attack(epsilon=0.5), surface=surfaces.tables("user"), weight_epsilon=0.1
    )
    params = {**toys.params(), "weights": weights}
    _, metrics = jax.jit(lambda params: objective(params, {}, jax.random.key(0), lambda tree: tree))(params)
    size = np.linalg.norm(weights["w"]) * np.linalg.norm(slopes["w"])  # a move of length |w| / 10 along the slope
    np.testing.assert_allclose(metrics["adv_loss"] - metrics["loss"], 0.1 * (size + 2 * 3), rtol=1e-5)
