"""What a clean training step minimises: a model and a loss, summed over the batch.

`pairwise` and `listwise` for implicit feedback, `rating` for ratings, `sequences.next_item` for item sequences.
"""

from collections.abc import Callable

import jax.numpy as jnp

from jaxrec import losses, perturbations, rows
from jaxrec.types import Array, Model, Objective, Scalar


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


def listwise(*, model: Model, loss: Callable[[Array, Array], Array] = losses.bce, l2: Scalar = 0.0) -> Objective:
    """Builds the objective of a positive among its negatives: pointwise with `losses.bce`, sampled softmax with
    `losses.softmax`.

    Args:
        model: Whose scores are compared.
        loss: (scores [B, 1 + N], relevant [B, 1 + N]) -> [B]; the positive stands first.
        l2: Times half the squared norms of the rows that an example reads, a negative as often as it is drawn; of
            models whose scores depend on a user's and an item's row alone (`score_rows`). May be traced.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `neg` [B] or [B, N] (`train.parallel`'s
        `draw`): the sum over the examples whose `where` is true. The metrics are sums over them: `loss`, `margin`
        (positive less mean negative) and `examples`.

    Raises:
        ValueError: If `l2` is negative or not finite; when it is used, if the model has no `score_rows`.
    """
    perturbations.check_epsilon(l2, "l2")
    decays = not (isinstance(l2, int | float) and l2 == 0)

    def objective(params, batch, key, reduce):
        del key, reduce  # as in `pairwise`
        num = batch["users"].shape[0]
        items = jnp.concatenate([batch["pos"][:, None], batch["neg"].reshape(num, -1)], axis=1)
        if not decays:
            scores, sizes = model.score(params, batch["users"][:, None], items), 0.0
        elif model.score_rows is None:
            raise ValueError("Expected a model whose score depends on a user's and an item's row, with score_rows.")
        else:
            user, item = params["tables"]["user"][batch["users"]], params["tables"]["item"][items]
            scores = model.score_rows(params, user[:, None], item)
            sizes = rows.sums(jnp.square(user)) + jnp.sum(rows.sums(jnp.square(item)), axis=1)
        relevant = jnp.broadcast_to(jnp.arange(items.shape[1]) == 0, scores.shape).astype(scores.dtype)
        counted = lambda values: jnp.sum(jnp.where(batch["where"], values, 0))
        total = counted(loss(scores, relevant) + l2 / 2 * sizes)
        margin = counted(scores[:, 0] - jnp.mean(scores[:, 1:], axis=1))
        return total, {"loss": total, "margin": margin, "examples": jnp.sum(batch["where"])}

    return objective


def rating(*, model: Model, l2: Scalar = 0.0) -> Objective:
    """Builds the objective of predicted ratings, squared error with L2:

        sum over examples of (rating - score)^2 + l2 * (|row of the user|^2 + |row of the item|^2)

    Koren, Bell and Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer 2009, eq. 5. A
    row pays once for each of its ratings, so that one without a rating in the batch has gradient zero and steps on the
    touched rows are exact.

    Args:
        model: Whose scores are the ratings, and whose tables "user" and "item" have all that a score needs of either.
        l2: In units of squared ratings over squared row norms. May be traced.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `ratings` (`sampling.batches`). Examples
        whose `where` is false do not count. The metrics are sums over those that do: `loss`, `squared_error`,
        `examples`.

    Raises:
        ValueError: If `l2` is negative or not finite; when it is used, if the model's scores depend on more than two
            rows (no `score_rows`).
    """
    perturbations.check_epsilon(l2, "l2")

    def objective(params, batch, key, reduce):
        del key, reduce  # as in `pairwise`
        if model.score_rows is None:
            raise ValueError("Expected a model whose score depends on a user's and an item's row, with score_rows.")
        tables = params["tables"]
        user, item = tables["user"][batch["users"]], tables["item"][batch["pos"]]
        errors = jnp.square(batch["ratings"] - model.score_rows(params, user, item))
        sizes = rows.sums(jnp.square(user)) + rows.sums(jnp.square(item))
        counted = lambda values: jnp.sum(jnp.where(batch["where"], values, 0))
        total, squared_error = counted(errors + l2 * sizes), counted(errors)
        return total, {"loss": total, "squared_error": squared_error, "examples": jnp.sum(batch["where"])}

    return objective
