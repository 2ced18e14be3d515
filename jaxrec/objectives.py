"""What a clean training step minimises: a model and a loss, summed over the batch."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxrec import losses
from jaxrec.types import Array, Model, Objective


def pairwise(*, model: Model, loss: Callable[[Array, Array], Array] = losses.bpr) -> Objective:
    """Builds the objective of a positive against a negative item, such as BPR.

    Args:
        model: Whose scores are compared.
        loss: (scores of positives [B], scores of negatives [B]) -> [B].

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: the sum over the batch's examples whose `where` is true
        (He et al. train on the sum, so the learning rate's meaning depends on the batch size). The metrics are sums
        over the same examples: `loss`, `margin` (pos - neg) and `examples`.
    """

    def score_twice(params, users, pos, neg):
        return model.score(params, users, pos), model.score(params, users, neg)

    score_pairs = model.score_pairs or score_twice

    def objective(params, batch, key, reduce):
        del key, reduce  # deterministic; a sum over examples needs nothing from other devices
        pos, neg = score_pairs(params, batch["users"], batch["pos"], batch["neg"])
        total = jnp.sum(jnp.where(batch["where"], loss(pos, neg), 0))
        margin = jnp.sum(jnp.where(batch["where"], pos - neg, 0))
        return total, {"loss": total, "margin": margin, "examples": jnp.sum(batch["where"])}

    return objective
