"""SAM: sharpness-aware minimisation, descent at the worst point of a ball around all that is trained.

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR
2021, arXiv:2010.01412.
"""

import jax
import jax.flatten_util
import jax.numpy as jnp

from jaxrec import checks, min_max, norms
from jaxrec.types import Objective, Scalar


def objective(*, clean: Objective, epsilon: Scalar) -> Objective:
    """Builds the objective of the loss at the end of one step up the gradient:

        min over params:  L(params + delta),   delta = epsilon * grad / |grad|      (eq. 2 and 3)

    with one L2 norm over all tables and weights together, under stop-gradient. APR differs in that each row has a ball
    of its own, the surface may be less than all that is trained, and the clean loss is kept.

    `optax.contrib.sam` is this as an optimiser. It does not fit: its transparent form takes two of our steps for one
    and keeps a copy of the tables as its state, its opaque form wants a gradient function in `update`; both would make
    steps on the touched rows impossible. As an objective it goes with any optimiser, on compacted tables too: rows
    that the batch does not read have gradient 0 and do not change the norm.

    Args:
        clean: The objective whose flat minima are sought.
        epsilon: The radius, the paper's rho (.05 there). May be traced. 0 is clean training.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: the loss is the one at the perturbed point, `adv_loss`;
        the metric `loss` is the clean one. Where the gradient is zero there is no step. Two gradients a step.

    Raises:
        ValueError: If `epsilon` is negative or not finite.
    """
    checks.non_negative(epsilon=epsilon)

    def sam(params, batch, key, reduce):
        clean_key, adv_key = jax.random.split(key)
        trained = min_max.trained(params)
        clean_at = lambda trained: clean({**params, **trained}, batch, clean_key, reduce)
        grad, metrics = jax.grad(clean_at, has_aux=True)(jax.lax.stop_gradient(trained))
        flat, unflatten = jax.flatten_util.ravel_pytree(reduce(grad))
        delta = jax.lax.stop_gradient(unflatten(epsilon * norms.L2.direction(flat[None])[0]))
        moved = {**params, **jax.tree.map(jnp.add, trained, delta)}
        adv_loss, adv_metrics = clean(moved, batch, adv_key, reduce)
        return adv_loss, {**metrics, **min_max.adversarial(adv_loss, adv_metrics)}

    return sam
