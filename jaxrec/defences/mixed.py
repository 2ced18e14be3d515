"""Batches of which a share is trained adversarially, and the rest clean: the mixing ratio of clean and attacked.

Kurakin, Goodfellow and Bengio, "Adversarial Machine Learning at Scale", ICLR 2017, arXiv:1611.01236.
"""

import jax
import jax.core
import jax.numpy as jnp

from jaxrec import checks, min_max
from jaxrec.types import Attack, Objective, Scalar, Surface


def objective(
    *, clean: Objective, attack: Attack, surface: Surface, share: Scalar = 0.5, relative_weight: Scalar = 0.3
) -> Objective:
    """Builds the objective in which an example is either clean or attacked:

        sum over the others of L(params) + relative_weight * sum over the chosen of L(params + delta)      (eq. 1)

    Args:
        clean: A sum over the batch's examples whose `where` is true.
        attack: It raises the loss of the chosen examples.
        surface: What it perturbs.
        share: Of examples that are chosen, in [0, 1]: 16 of 32 in the paper, there a fixed number, here each example
            by a draw of its own. May be traced, and so scheduled.
        relative_weight: The paper's lambda (.3 there).

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`. `loss`, `margin` and `examples` are clean, of the whole
        batch; `adv_loss` and `adv_margin` are of the whole batch as it is trained, attacked where it is chosen and
        clean where it is not. The paper divides by the sum of the weights; we leave that factor to the learning rate.
        With share 0 it is `clean`; with share 1 the clean term is gone, unlike in `apr`. The draw goes by user and
        item: in dense steps it is the same on any number of devices, on the touched rows another one of the same law.

    Raises:
        ValueError: If `share` is not in [0, 1], or `relative_weight` is negative or not finite.
    """
    checks.non_negative(relative_weight=relative_weight)
    if not isinstance(share, jax.core.Tracer) and not 0 <= share <= 1:
        raise ValueError(f"Expected share in [0, 1], got share={share}.")

    def mixed(params, batch, key, reduce):
        draw_key, attack_key, clean_key, adv_key = jax.random.split(key, 4)
        draw = lambda user, item: jax.random.uniform(jax.random.fold_in(jax.random.fold_in(draw_key, user), item))
        chosen = jax.vmap(draw)(batch["users"], batch["pos"]) < share
        rest, attacked = ({**batch, "where": batch["where"] & part} for part in (~chosen, chosen))
        start = min_max.start(clean, surface, params, attacked, clean_key, reduce)
        delta, _ = attack(attack_key, start.oracle, start.x)
        loss, metrics = clean(params, rest, clean_key, reduce)
        adv_loss, adv_metrics = clean(min_max.moved(params, surface, delta), attacked, adv_key, reduce)
        whole, trained = (jax.tree.map(jnp.add, metrics, part) for part in (start.metrics, adv_metrics))
        return loss + relative_weight * adv_loss, {**whole, **min_max.adversarial(trained["loss"], trained)}

    return mixed
