"""TRADES: a clean loss for accuracy, and for robustness the divergence of perturbed lists from clean ones.

Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "Theoretically Principled Trade-off between Robustness and Accuracy", ICML
2019, arXiv:1901.08573.
"""

from jaxrec import consistency
from jaxrec.types import Attack, Model, Objective, Scalar, Surface


def objective(
    *,
    clean: Objective,
    model: Model,
    attack: Attack,
    surface: Surface,
    list_scores: consistency.ListScores,
    adv_weight: Scalar = 6.0,
) -> Objective:
    """Builds the objective, with the softmax of scores over a list of items for the paper's classes:

        min over params:  L(params) + adv_weight * max over delta of KL(p(params) || p(params + delta))      (eq. 5)

    The gradient flows through *both* distributions, as in the paper: the model may also move its clean lists to where
    the perturbed ones are. (`virtual_adversarial` holds them.) We sum over the batch, where the paper's code averages.

    Args:
        clean: The clean objective. No adversary sees it.
        model: Whose scores make the lists.
        attack: `pgd.attack(epsilon=..., random_start=True)`. At delta = 0 the divergence has no gradient but rounding,
            so the first step of an attack that starts there, as FGSM does, is a random one. The paper starts at .001
            times a normal draw, this one at a uniform point of the ball.
        surface: What the adversary perturbs.
        list_scores: `consistency.all_items(num_items=I)`, which needs dense steps, `consistency.batch_items` or
            `consistency.own_items`.
        adv_weight: The paper's 1 / lambda (1 to 6 there). 0 leaves the clean loss and gradient.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: those of `clean` and the sum `divergence`, which is never
        below zero but for rounding, and zero with epsilon 0. The start is drawn for every row of the tables in the
        step. A step on the touched rows, whose order depends on the number of devices, so starts elsewhere than a dense
        one, or one on another number; dense steps with `all_items` or `own_items` are the same on any number.

    Raises:
        ValueError: If `adv_weight` is negative or not finite.
    """
    return consistency.objective(
        clean=clean,
        model=model,
        attack=attack,
        surface=surface,
        list_scores=list_scores,
        target=lambda scores: scores,
        adv_weight=adv_weight,
    )
