"""APR: adversarial personalised ranking, min-max training against a perturbation of the embeddings.

He, He, Du and Chua, "Adversarial Personalized Ranking for Recommendation", SIGIR 2018, arXiv:1808.03908 (AMF).
"""

import jax
import jax.numpy as jnp

from jaxrec import oracles, perturbations
from jaxrec.types import Attack, Objective, Scalar, Surface


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
        x = surface.get(params)

        def losses(key, x):
            return clean(surface.put(params, x), batch, key, reduce)[0][None]

        delta, _ = attack(attack_key, oracles.white_box(losses, reduce=reduce), jax.lax.stop_gradient(x))
        loss, metrics = clean(params, batch, clean_key, reduce)
        perturbed = surface.put(params, jax.tree.map(jnp.add, x, jax.lax.stop_gradient(delta)))
        adv_loss, adv_metrics = clean(perturbed, batch, adv_key, reduce)
        return loss + adv_weight * adv_loss, {
            **metrics,
            "adv_loss": adv_loss,
            "adv_margin": adv_metrics["margin"],
        }

    return apr
