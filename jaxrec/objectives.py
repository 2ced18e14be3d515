"""What a clean training step minimises: a model and a loss, summed over the batch.

`pairwise`, `listwise`, `among_batch` and `in_batch` for implicit feedback, `rating` for ratings, `sequences.next_item`
for item sequences.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np

from jaxrec import checks, losses, rows
from jaxrec.types import Array, Model, Objective, Params, Scalar


def pairwise(*, model: Model, loss: Callable[[Array, Array], Array] = losses.bpr, l2: Scalar = 0.0) -> Objective:
    """Builds the objective of a positive against a negative item, such as BPR.

    Args:
        model: Whose scores are compared.
        loss: (scores of positives [B], scores of negatives [B]) -> [B].
        l2: Times half the squared norms of an example's rows of the tables "user" and "item": of the embeddings as they
            are trained, also where a score depends on more (graphs). May be traced. Not in steps by example, such as
            `train.make_direct_step`, which see no tables.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: the sum over the batch's examples whose `where` is true
        (He et al. train on the sum, so the learning rate's meaning depends on the batch size). The metrics are sums
        over the same examples: `loss`, `margin` (pos - neg) and `examples`.

    Raises:
        ValueError: If `l2` is negative or not finite; when it is used, if the model lacks one of the two tables.
    """
    checks.non_negative(l2=l2)
    decays = not (isinstance(l2, int | float) and l2 == 0)

    def score_twice(params, users, pos, neg):
        return model.score(params, users, pos), model.score(params, users, neg)

    score_pairs = model.score_pairs or score_twice

    def objective(params, batch, key, reduce):
        del key, reduce  # deterministic; a sum over examples needs nothing from other devices
        pos, neg = score_pairs(params, batch["users"], batch["pos"], batch["neg"])
        sizes = _sizes(params["tables"], batch) if decays else 0.0
        total = jnp.sum(jnp.where(batch["where"], loss(pos, neg) + l2 / 2 * sizes, 0))
        margin = jnp.sum(jnp.where(batch["where"], pos - neg, 0))
        return total, {"loss": total, "margin": margin, "examples": jnp.sum(batch["where"])}

    return objective


def _sizes(tables: Mapping[str, Array], batch: Mapping[str, Array]) -> Array:
    """Squared norms of the rows of each example's user, positive and negative, added up, [B]."""
    if not {"user", "item"} <= set(tables):
        raise ValueError(f'Expected tables "user" and "item", got {sorted(tables)}.')
    size = lambda name, column: rows.sums(jnp.square(tables[name][batch[column]]))
    return size("user", "users") + size("item", "pos") + size("item", "neg")


def listwise(*, model: Model, loss: Callable[[Array, Array], Array] = losses.bce, l2: Scalar = 0.0) -> Objective:
    """Builds the objective of a positive among its negatives: pointwise with `losses.bce`, sampled softmax with
    `losses.softmax`, the hardest negative with `losses.hardest`.

    Args:
        model: Whose scores are compared.
        loss: (scores [B, 1 + N], relevant [B, 1 + N]) -> [B]; the positive stands first.
        l2: Times half the squared norms of the rows of each (user, item) pair scored, so a user's 1 + N times for an
            example, as where the pairs are examples of their own (Rendle et al., RecSys 2020); of models whose scores
            depend on a user's and an item's row alone (`score_rows`). May be traced.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `neg` [B] or [B, N] (`train.parallel`'s
        `draw`): the sum over the examples whose `where` is true. The metrics are sums over them: `loss`, `margin`
        (positive less mean negative) and `examples`.

    Raises:
        ValueError: If `l2` is negative or not finite; when it is used, if the model has no `score_rows`.
    """
    checks.non_negative(l2=l2)
    decays = not (isinstance(l2, int | float) and l2 == 0)

    def objective(params, batch, key, reduce):
        del key, reduce  # as in `pairwise`
        if model.score_rows is not None:
            scores, sizes = _scores_and_sizes(model.score_rows, params, batch)
        elif decays:
            raise ValueError("Expected a model whose score depends on a user's and an item's row, with score_rows.")
        else:
            scores, sizes = _scores(model, params, batch), 0
        relevant = jnp.broadcast_to(jnp.arange(scores.shape[1]) == 0, scores.shape).astype(scores.dtype)
        counted = lambda values: jnp.sum(jnp.where(batch["where"], values, 0))
        total = counted(loss(scores, relevant) + (l2 / 2 * sizes if decays else 0))
        margin = counted(scores[:, 0] - jnp.mean(scores[:, 1:], axis=1))
        return total, {"loss": total, "margin": margin, "examples": jnp.sum(batch["where"])}

    return objective


def _scores(model: Model, params: Params, batch: Mapping[str, Array]) -> Array:
    """Scores [B, 1 + N] of the positive and the negatives."""
    neg = batch["neg"].reshape(len(batch["pos"]), -1)
    return model.score(params, batch["users"][:, None], jnp.concatenate([batch["pos"][:, None], neg], axis=1))


def _scores_and_sizes(
    score_rows: Callable[[Params, Array, Array], Array], params: Params, batch: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Scores [B, 1 + N], and the squared norms [B] of the rows of all their pairs."""
    read = lambda name, column: rows.read(params["tables"][name], batch[column])
    user, pos, neg = read("user", "users"), read("item", "pos"), read("item", "neg")
    items = jnp.concatenate([pos[:, None], neg.reshape(len(pos), -1, pos.shape[-1])], axis=1)
    scores = score_rows(params, user[:, None], items)
    sizes = scores.shape[1] * rows.sums(jnp.square(user)) + jnp.sum(rows.sums(jnp.square(items)), axis=1)
    return scores, sizes


def among_batch(*, model: Model, loss: Callable[[Array, Array, Array], Array] = losses.softmax) -> Objective:
    """Builds the softmax of a positive among the batch's distinct items, positives and uniform negatives alike:

        softmax over `distinct_items` of score(user, item)

    After Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in Recommendations", WWW 2020
    companion, doi:10.1145/3366424.3386195, who count an item as often as it comes and correct for it; here each counts
    once. For models in which `score` of users [B, 1] and items [1, C] computes each side once.

    Args:
        model: Whose scores are compared.
        loss: (scores [B, C], relevant [B, C], where [B, C]) -> [B].

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`, the sum over the examples whose `where` is true. Other
        examples' positives are negatives, also where the user has seen them. Under several devices the items are those
        of the same device, so that the outcome depends on their number. The metrics are sums: `loss` and `examples`.
    """

    def objective(params, batch, key, reduce):
        del key, reduce  # deterministic; see above
        items, listed = distinct_items(batch)
        scores = model.score(params, batch["users"][:, None], items[None])
        relevant = items[None] == batch["pos"][:, None]
        among = loss(scores, relevant.astype(scores.dtype), jnp.broadcast_to(listed[None], scores.shape))
        total = jnp.sum(jnp.where(batch["where"], among, 0))
        return total, {"loss": total, "examples": jnp.sum(batch["where"])}

    return objective


def distinct_items(batch: Mapping[str, Array]) -> tuple[Array, Array]:
    """The positives and negatives of a batch, int32 [C], and which places are filled, bool [C]; 0 elsewhere.

    An item that comes more than once is listed once, and those of examples that do not count are not.
    """
    columns = [batch["pos"][:, None], batch["neg"].reshape(len(batch["pos"]), -1)]
    none = np.iinfo(np.int32).max
    items = jnp.where(batch["where"][:, None], jnp.concatenate(columns, axis=1), none)
    items = jnp.sort(items.reshape(-1))
    listed = (items != none) & jnp.concatenate([jnp.ones(1, bool), items[1:] != items[:-1]])
    return jnp.where(listed, items, 0), listed


def in_batch(*, model: Model, log_q: Array | np.ndarray | None = None) -> Objective:
    """Builds the softmax of a positive among the positives of its batch, corrected for how often they come there:

        softmax over the batch's items j of score(user, j) - log q_j

    Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019, eq. 5-6.
    For models in which `score` of users [B, 1] and items [1, B] computes each side once, such as `two_tower`.

    Args:
        model: Whose scores are compared.
        log_q: [I], the log of the probability that an example's positive is item j. The paper estimates it while data
            stream by; here they lie still, and `sampling.log_frequency` counts. None for no correction. It is looked up
            by the batch's ids, so steps must be dense (`reads=None`).

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`, the sum over the examples whose `where` is true. The
        positive elsewhere in the batch is no negative, unlike in the paper. Under several devices the others are those
        of the same device, so that the outcome depends on their number. The metrics are sums: `loss` and `examples`.

    Raises:
        ValueError: When it is used, if the table "item" has other rows than `log_q`, as in a step on the touched rows.
    """

    def objective(params, batch, key, reduce):
        del key, reduce  # deterministic; see above
        num_rows = len(params["tables"].get("item", ()))
        if log_q is not None and num_rows not in (0, len(log_q)):
            raise ValueError(f"Expected {len(log_q)} rows of the table item, got {num_rows}: log_q needs dense steps.")
        users, items, where = batch["users"], batch["pos"], batch["where"]
        scores = model.score(params, users[:, None], items[None])
        if log_q is not None:
            scores = scores - jnp.asarray(log_q)[items][None]
        relevant = jnp.eye(len(items), dtype=scores.dtype)
        counts = where[None] & ((items[:, None] != items[None]) | (relevant > 0))
        total = jnp.sum(jnp.where(where, losses.softmax(scores, relevant, counts), 0))
        return total, {"loss": total, "examples": jnp.sum(where)}

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
    checks.non_negative(l2=l2)

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
