"""Lists chosen again out of their candidates, so that they are relevant *and* unlike each other: MMR and DPP.

A reranker is built from keyword hyperparameters and is a pure function for one user, to be vmapped over users:

    (relevance [N], vectors [N, F], where [N] or None) -> places int32 [K]

`relevance` are numbers (of `unit_range` if hyperparameters are to mean the same for all users), the likeness of two
candidates is the cosine of their `vectors`, and `where` marks the candidates that count; it answers with the places of
the chosen ones, in the order they were chosen, and -1 where nothing is left to choose. Of equal gains the earlier
candidate wins. A vector of zeros is like nothing else, as in `exposure.intra_list_diversity`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Num

from jaxrec import checks
from jaxrec.types import Array, InputError, Scalar

Rerank = Callable[[Array, Array, Array | None], Array]
_SPENT = 1e-5  # a candidate of which less is left over the span of the chosen ones lies in it, up to float32's rounding


def mmr(*, k: int, trade_off: Scalar) -> Rerank:
    """Builds the reranker that k times adds the candidate of maximal marginal relevance:

        trade_off * relevance - (1 - trade_off) * largest cosine with a chosen one (0 for the first)

    Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
    Summaries", SIGIR 1998.

    Args:
        k: Length of the new list.
        trade_off: The paper's lambda, in [0, 1]: 1 is the order of relevance alone. May be traced.

    Returns:
        A reranker; see the module. With k above the number of candidates the list ends in -1.

    Raises:
        ValueError: If `k < 1` or `trade_off` is outside [0, 1].
    """
    checks.counts(k=k)
    if not isinstance(trade_off, jax.Array) and not 0 <= trade_off <= 1:
        raise ValueError(f"Expected trade_off in [0, 1], got trade_off={trade_off}.")

    def rerank(relevance: Array, vectors: Array, where: Array | None = None) -> Array:
        unit = _unit(vectors)

        def choose(state, step):
            free, closest = state
            gains = trade_off * relevance - (1 - trade_off) * jnp.where(step > 0, closest, 0)
            place, found = _best(gains, free)
            closest = jnp.maximum(closest, unit @ unit[place])
            return (free.at[place].set(False), closest), jnp.where(found, place, -1)

        start = _free(relevance, where), jnp.full(relevance.shape, -jnp.inf, unit.dtype)
        return jax.lax.scan(choose, start, jnp.arange(k))[1]

    return rerank


def dpp(*, k: int, relevance_weight: Scalar, ridge: Scalar = 0.0) -> Rerank:
    """Builds the reranker that k times adds the candidate that raises the determinant of the chosen ones' kernel most:

        L = diag(q) (S + ridge * 1) diag(q),   q = exp(relevance_weight * relevance),   S the cosines of the vectors

    Greedy inference of the most probable set of a determinantal point process by Cholesky rows, O(K N) of them a user:
    Chen, Zhang and Zhou, "Fast Greedy MAP Inference for Determinantal Point Process to Improve Recommendation
    Diversity", NeurIPS 2018, arXiv:1709.05135 (algorithm 1; L as in section 4). The gain of a candidate is kept as
    2 * relevance_weight * relevance + log of what S leaves over it, so that no weight overflows.

    Args:
        k: Length of the new list.
        relevance_weight: The paper's alpha, >= 0: 0 is diversity alone, infinity the order of relevance. May be traced.
        ridge: Added to the diagonal, 0 or at least 1e-5: a smaller one is lost in float32's rounding. Without it no
            candidate in the span of the chosen ones is ever added: no two of the same vector, and never more than F.
            Smaller is more averse to likeness. May be traced.

    Returns:
        A reranker; see the module. With ridge 0 the list ends in -1 where nothing outside the span is left, as the
        paper's algorithm stops there.

    Raises:
        ValueError: If `k < 1`, or a weight is negative.
        InputError: If the ridge is above 0 and below 1e-5.
    """
    checks.counts(k=k)
    checks.non_negative(relevance_weight=relevance_weight, ridge=ridge)
    if not isinstance(ridge, jax.Array) and 0 < ridge < _SPENT:
        raise InputError(f"Expected ridge 0 or >= {_SPENT:g}, got ridge={ridge}, which float32 cannot tell from 0.")

    def rerank(relevance: Array, vectors: Array, where: Array | None = None) -> Array:
        unit = _unit(vectors)

        def choose(state, step):
            free, left, factor = state
            gains = 2 * relevance_weight * relevance + jnp.log(left)  # NaN only where nothing is left
            place, found = _best(gains, free & (left > _SPENT))
            row = (unit @ unit[place] - factor[:, place] @ factor) / jnp.sqrt(left[place])  # its own entry is not used
            return (free.at[place].set(False), left - row**2, factor.at[step].set(row)), jnp.where(found, place, -1)

        num = relevance.shape[0]
        start = _free(relevance, where), jnp.full(num, 1 + ridge, unit.dtype), jnp.zeros((k, num), unit.dtype)
        return jax.lax.scan(choose, start, jnp.arange(k))[1]

    return rerank


def lists(
    rerank: Rerank, candidates: Int[Array, "U N"], relevance: Float[Array, "U N"], vectors: Num[Array, "I F"]
) -> Int[Array, "U K"]:
    """Each user's candidates reranked, in chunks of users: no [U, N, F] array. To be jitted.

    Args:
        rerank: From `mmr` or `dpp`.
        candidates: Items, -1 in an empty place.
        relevance: Of the candidates.
        vectors: Of all items.

    Returns:
        Items, -1 in an empty place.
    """

    def of_user(row):
        items, relevance = row
        places = rerank(relevance, vectors[items], items >= 0)
        return jnp.where(places >= 0, items[places], -1)

    return jax.lax.map(of_user, (candidates, relevance), batch_size=256)


def unit_range(scores: Float[Array, "... N"], where: Array) -> Float[Array, "... N"]:
    """Scores shifted and scaled so that those that count (`where`) run from 0 to 1.

    All 0 where they are equal; what does not count is 0.
    """
    low = jnp.min(scores, axis=-1, keepdims=True, where=where, initial=jnp.inf)
    high = jnp.max(scores, axis=-1, keepdims=True, where=where, initial=-jnp.inf)
    return jnp.where(where, (scores - low) / jnp.where(high > low, high - low, 1), 0)


def _unit(vectors: Array) -> Array:
    """The vectors at length 1; a vector of zeros stays."""
    lengths = jnp.sqrt(jnp.sum(jnp.square(vectors), axis=-1, keepdims=True))
    return vectors / jnp.where(lengths > 0, lengths, 1)


def _free(relevance: Array, where: Array | None) -> Array:
    return jnp.ones(relevance.shape, bool) if where is None else where


def _best(gains: Array, free: Array) -> tuple[Array, Array]:
    """The place of the largest gain among those that are free, and whether there is one."""
    place = jnp.argmax(jnp.where(free, gains, -jnp.inf)).astype(jnp.int32)
    return place, free[place]
