"""Training for lists that a perturbation does not change: what TRADES and virtual adversarial training share.

The adversary raises the divergence of perturbed lists from clean ones, a list being the softmax of a user's scores over
some items. It needs no label. Where there is no perturbation yet its gradient is zero but for rounding, which an attack
that starts there would normalise and follow.

    all_items     the catalogue
    batch_items   the batch's positives and negatives
    own_items     each example's positive and its negatives
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxrec import checks, losses, min_max, objectives, oracles
from jaxrec.types import Array, Attack, Model, Objective, Params, Scalar, Surface

ListScores = Callable[[Model, Params, Mapping[str, Array]], tuple[Array, Array]]


def all_items(*, num_items: int) -> ListScores:
    """Builds the list of the whole catalogue, the same for each example's user.

    Args:
        num_items: I. It is needed to refuse a step on the touched rows, which does not hold the catalogue: train with
            `reads=None`.

    Returns:
        `(model, params, batch) -> (scores [B, I], where [1, I])`; it raises a ValueError if the parameters it gets have
        another number of items.
    """

    def list_scores(model, params, batch):
        scores = model.score_all(params, batch["users"])
        if scores.shape[1] != num_items:
            raise ValueError(
                f"Expected scores of {num_items} items, got {scores.shape[1]}: a list of all items needs dense steps."
            )
        return scores, jnp.ones((1, num_items), bool)

    return list_scores


def batch_items(model: Model, params: Params, batch: Mapping[str, Array]) -> tuple[Array, Array]:
    """Each example's user on `objectives.distinct_items` of the batch: scores [B, C] and where [1, C].

    Under several devices the items are those of the same device, so that the outcome depends on their number.
    """
    items, listed = objectives.distinct_items(batch)
    return model.score(params, batch["users"][:, None], items[None]), listed[None]


def own_items(model: Model, params: Params, batch: Mapping[str, Array]) -> tuple[Array, Array]:
    """Each example's user on its positive and its negatives: scores [B, 1 + N] and where [1, 1 + N]."""
    items = jnp.concatenate([batch["pos"][:, None], batch["neg"].reshape(len(batch["pos"]), -1)], axis=1)
    return model.score(params, batch["users"][:, None], items), jnp.ones((1, items.shape[1]), bool)


def objective(
    *,
    clean: Objective,
    model: Model,
    attack: Attack,
    surface: Surface,
    list_scores: ListScores,
    target: Callable[[Array], Array],
    adv_weight: Scalar = 1.0,
) -> Objective:
    """Builds the objective of the clean loss and the divergence from the clean lists of the perturbed ones.

        L(params) + adv_weight * sum over examples of KL(softmax(target(scores)) || softmax(perturbed scores))

    Args:
        clean: The clean objective.
        model: Whose scores make the lists.
        attack: Raises the sum of the divergences over the global batch; it should not start at delta = 0.
        surface: What it perturbs.
        list_scores: Whose scores: see above.
        target: What the clean scores are to the gradient: themselves, or constants (`jax.lax.stop_gradient`).
        adv_weight: In units of the loss of one example. 0 leaves the clean loss and gradient.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: those of `clean`, and the sum `divergence`, over the
        examples whose `where` is true; a user counts as often as it comes. No gradient flows through delta.

    Raises:
        ValueError: If `adv_weight` is negative or not finite.
    """
    checks.non_negative(adv_weight=adv_weight)

    def consistent(params, batch, key, reduce):
        attack_key, clean_key = jax.random.split(key)
        loss, metrics = clean(params, batch, clean_key, reduce)
        scores, _ = list_scores(model, params, batch)

        def divergence(scores, params):
            perturbed, where = list_scores(model, params, batch)
            return jnp.sum(jnp.where(batch["where"], losses.divergence(scores, perturbed, where), 0))

        fixed, fixed_scores = jax.lax.stop_gradient((params, scores))
        ascended = lambda key, x: divergence(fixed_scores, surface.put(fixed, x))[None]
        delta, _ = attack(attack_key, oracles.white_box(ascended, reduce=reduce), surface.get(fixed))
        moved = divergence(target(scores), min_max.moved(params, surface, delta))
        return loss + adv_weight * moved, {**metrics, "divergence": moved}

    return consistent
