"""APR: adversarial personalised ranking, min-max training against a perturbation of the embeddings.

He, He, Du and Chua, "Adversarial Personalized Ranking for Recommendation", SIGIR 2018, arXiv:1808.03908 (AMF).
"""

import jax
import jax.numpy as jnp

from jaxrec import oracles, perturbations
from jaxrec.types import Array, Attack, Objective, Params, PyTree, Scalar, Surface


def objective(*, clean: Objective, attack: Attack, surface: Surface, adv_weight: Scalar = 1.0) -> Objective:
    """Builds the min-max objective: the clean loss plus the loss at the worst perturbation the attack finds.

        min over params:  L(params) + adv_weight * L(params + delta),   delta = attack(params)      (eq. 7 and 8)

    Args:
        clean: The objective that the adversary raises and the model lowers. Its `margin` metric is reported before and
            after the perturbation.
        attack: `fgsm.attack(epsilon=.5)` in the paper.
        surface: What the adversary perturbs: in the paper both tables, `surfaces.tables("user", "item")`.
        adv_weight: The paper's lambda (1 there). 0 leaves the clean gradient.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`. delta is built anew from each batch: examples that share a
        user share that user's row of delta, so *the batch decides the adversary*. Rows that the batch does not touch
        have delta 0. No gradient flows through delta. The adversarial loss is never below the clean one to first order;
        with epsilon 0 they are equal.

    Raises:
        ValueError: If `adv_weight` is negative or not finite.
    """
    perturbations.check_epsilon(adv_weight, "adv_weight")

    def apr(params, batch, key, reduce):
        attack_key, clean_key, adv_key = jax.random.split(key, 3)
        trained, x = jax.lax.stop_gradient((_trained(params), surface.get(params)))

        def clean_at(trained, x):
            return clean(surface.put({**params, **trained}, x), batch, clean_key, reduce)

        def losses(key, x):
            return clean(surface.put(params, x), batch, key, reduce)[0][None]

        # Taken once and used twice: the adversary climbs the gradient that the model descends.
        (loss, metrics), (grad, grad_x) = jax.value_and_grad(clean_at, argnums=(0, 1), has_aux=True)(trained, x)
        delta, _ = attack(attack_key, oracles.white_box(losses, reduce=reduce, known=(x, grad_x)), x)
        _, through_surface = jax.vjp(lambda trained: surface.get({**params, **trained}), trained)
        grad = jax.tree.map(jnp.add, grad, through_surface(grad_x)[0])
        perturbed = surface.put(params, jax.tree.map(jnp.add, surface.get(params), jax.lax.stop_gradient(delta)))
        adv_loss, adv_metrics = clean(perturbed, batch, adv_key, reduce)
        return _with_gradient(loss, grad, _trained(params)) + adv_weight * adv_loss, {
            **metrics,
            "adv_loss": adv_loss,
            "adv_margin": adv_metrics["margin"],
        }

    return apr


def _trained(params: Params) -> PyTree:
    return {"tables": params["tables"], "weights": params["weights"]}


@jax.custom_vjp
def _with_gradient(value: Array, grad: PyTree, x: PyTree) -> Array:
    """`value`, whose gradient in x is known to be `grad`."""
    del grad, x
    return value


def _with_gradient_forward(value, grad, x):
    del x
    return value, grad


def _with_gradient_backward(grad, cotangent):
    return None, None, jax.tree.map(lambda g: cotangent * g, grad)


_with_gradient.defvjp(_with_gradient_forward, _with_gradient_backward)
