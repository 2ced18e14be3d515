"""Training against several attacks at once, such as an L2 and an Linf ball, their losses averaged.

Tramer and Boneh, "Adversarial Training and Robustness for Multiple Perturbations", NeurIPS 2019, arXiv:1904.13000.
"""

from collections.abc import Sequence

import jax

from jaxrec import checks, min_max
from jaxrec.types import Attack, Objective, Scalar, Surface


def objective(*, clean: Objective, attacks: Sequence[Attack], surface: Surface, adv_weight: Scalar = 1.0) -> Objective:
    """Builds the objective of the clean loss and the mean of the losses that the attacks reach (the paper's "avg"):

        L(params) + adv_weight * mean over attacks a of L(params + delta_a),   delta_a = a(params)

    The paper's "max", in which only the strongest attack counts, is `apr.objective(attack=worst_of.shared(attacks))`:
    there the strongest is that of a batch, whose examples share rows and so one perturbation, and not of an example.

    Args:
        clean: The objective that the adversaries raise and the model lowers.
        attacks: Built attacks; each starts from the same clean gradient, taken once, and has a key of its own.
        surface: What each of them perturbs.
        adv_weight: Of the mean. 0 leaves the clean gradient. The paper has no clean term: there the clean example may
            stand as one of the attacks.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`; `adv_loss` and `adv_margin` are means over the attacks.
        With one attack it is APR. No gradient flows through the perturbations.

    Raises:
        ValueError: If there is no attack, or `adv_weight` is negative or not finite.
    """
    if not attacks:
        raise ValueError("Expected at least one attack, got none.")
    checks.non_negative(adv_weight=adv_weight)

    def multi_norm(params, batch, key, reduce):
        clean_key, adv_key, *keys = jax.random.split(key, 2 + len(attacks))
        start = min_max.start(clean, surface, params, batch, clean_key, reduce)

        def reached(attack, key):
            delta, _ = attack(key, start.oracle, start.x)
            return min_max.adversarial(*clean(min_max.moved(params, surface, delta), batch, adv_key, reduce))

        each = [reached(attack, key) for attack, key in zip(attacks, keys, strict=True)]
        means = jax.tree.map(lambda *values: sum(values) / len(attacks), *each)
        return start.loss + adv_weight * means["adv_loss"], {**start.metrics, **means}

    return multi_norm
