"""APR: adversarial personalised ranking, min-max training against a perturbation of the embeddings.

He, He, Du and Chua, "Adversarial Personalized Ranking for Recommendation", SIGIR 2018, arXiv:1808.03908 (AMF).
"""

import jax

from jaxrec import checks, min_max
from jaxrec.types import Attack, Objective, Scalar, Surface


def objective(*, clean: Objective, attack: Attack, surface: Surface, adv_weight: Scalar = 1.0) -> Objective:
    """Builds the min-max objective: the clean loss plus the loss at the worst perturbation the attack finds.

        min over params:  L(params) + adv_weight * L(params + delta),   delta = attack(params)      (eq. 7 and 8)

    Args:
        clean: The objective that the adversary raises and the model lowers. Its `margin` metric, if it has one, is
            reported before and after the perturbation.
        attack: `fgsm.attack(epsilon=.5)` in the paper. `pgd.attack(...)` makes it PGD adversarial training (Madry et
            al., ICLR 2018; with random starts, which are drawn as in `noise`, `norms.cornered` ones are cheap), and
            `worst_of.shared([...])` training on the strongest of several attacks.
        surface: What the adversary perturbs: in the paper both tables, `surfaces.tables("user", "item")`. Features, as
            `surfaces.given("item_values")`, make it feature-space adversarial training, as of images in Tang et al.,
            "Adversarial Training Towards Robust Multimedia Recommender System", TKDE 2020, arXiv:1809.07062.
        adv_weight: The paper's lambda (1 there). 0 leaves the clean gradient.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`. delta is built anew from each batch: examples that share a
        user share that user's row of delta, so *the batch decides the adversary*. Rows that the batch does not touch
        have delta 0. No gradient flows through delta. The adversarial loss has a key of its own: where the clean
        one draws nothing (`objectives`, but not the negatives and the dropout of `sequences.next_item`), it is never
        below the clean one to first order, and with epsilon 0 they are equal.

    Raises:
        ValueError: If `adv_weight` is negative or not finite.
    """
    checks.non_negative(adv_weight=adv_weight)

    def apr(params, batch, key, reduce):
        attack_key, clean_key, adv_key = jax.random.split(key, 3)
        start = min_max.start(clean, surface, params, batch, clean_key, reduce)
        delta, _ = attack(attack_key, start.oracle, start.x)
        adv_loss, adv_metrics = clean(min_max.moved(params, surface, delta), batch, adv_key, reduce)
        return start.loss + adv_weight * adv_loss, {**start.metrics, **min_max.adversarial(adv_loss, adv_metrics)}

    return apr
