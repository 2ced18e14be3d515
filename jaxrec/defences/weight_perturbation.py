"""AWP: adversarial training in which, on top of the attack, all that is trained is perturbed relative to its size.

Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS 2020, arXiv:2004.05884.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, min_max, norms
from jaxrec.types import Array, Attack, Objective, PyTree, Scalar, Surface


def objective(
    *,
    clean: Objective,
    attack: Attack,
    surface: Surface,
    weight_epsilon: Scalar = 0.005,
    adv_weight: Scalar = 1.0,
) -> Objective:
    """Builds the objective of the clean loss, and the loss at a perturbation of the surface and one of the parameters:

        L(params) + adv_weight * L(params + v + delta),   delta = attack(params)
        v = weight_epsilon * |params| * grad / |grad|,   grad of L(params + delta) by params

    delta is found first and held, as in the paper, where it perturbs an image. In an embedding model the surface is
    itself part of what is trained, and v comes on top.

    Args:
        clean: The objective that the adversaries raise and the model lowers.
        attack: Finds delta; `pgd.attack(...)` in the paper.
        surface: What it perturbs.
        weight_epsilon: The paper's gamma (.005 there), the size of v in units of what it perturbs. May be traced. 0 is
            APR. The norms are L2, of each row of the tables, and of each whole array of the weights, the paper's
            layers: a row is what a step reads, so that steps on the touched rows are the dense ones.
        adv_weight: Of the perturbed term. 0 leaves the clean gradient. The paper has no clean term.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`, metrics as in `apr`. Rows and arrays of zeros, or with
        gradient zero, are not moved by v. No gradient flows through v, as in the paper's code, nor through delta. Three
        gradients a step with FGSM.

    Raises:
        ValueError: If `weight_epsilon` or `adv_weight` is negative or not finite.
    """
    checks.non_negative(weight_epsilon=weight_epsilon, adv_weight=adv_weight)

    def awp(params, batch, key, reduce):
        attack_key, clean_key, weights_key, adv_key = jax.random.split(key, 4)
        start = min_max.start(clean, surface, params, batch, clean_key, reduce)
        delta, _ = attack(attack_key, start.oracle, start.x)
        trained = min_max.trained(params)
        at = lambda trained, key: clean(min_max.moved({**params, **trained}, surface, delta), batch, key, reduce)
        fixed = jax.lax.stop_gradient(trained)
        grad, _ = jax.grad(at, has_aux=True)(fixed, weights_key)
        move = jax.lax.stop_gradient(_relative(fixed, reduce(grad), weight_epsilon))
        adv_loss, adv_metrics = at(jax.tree.map(jnp.add, trained, move), adv_key)
        return start.loss + adv_weight * adv_loss, {**start.metrics, **min_max.adversarial(adv_loss, adv_metrics)}

    return awp


def _relative(trained: PyTree, grad: PyTree, size: Scalar) -> PyTree:
    """The steepest move in which each row of a table, and each array of the weights, has `size` times its own norm."""

    def of_rows(x: Array, grad: Array) -> Array:
        return jnp.expand_dims(size * norms.L2.size(x), range(1, x.ndim)) * norms.L2.steepest(grad)

    of_array = lambda x, grad: of_rows(x[None], grad[None])[0]
    return {
        "tables": jax.tree.map(of_rows, trained["tables"], grad["tables"]),
        "weights": jax.tree.map(of_array, trained["weights"], grad["weights"]),
    }
