"""Accuracy of rankings, user by user, in the definitions of trec_eval (what lists expose: `exposure`).

The names trec_eval uses stand in the docstrings (https://github.com/usnistgov/trec_eval).

Every accuracy metric reads the *ranks of a user's relevant items*, 1 = best:

    [U]     one relevant item a user (leave-one-out),
    [U, R]  up to R of them: `inf` where an item was not retrieved, NaN in a place beyond a user's last item.

`ranks_in_lists` makes the second form out of top-K lists. A rank may be fractional (averaged ties); it is within the
cutoff when `rank <= k`. Values come back as float64 [U], for a paired test to use; the caller averages.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from jaxrec.types import InputError

Ranks = Num[np.ndarray, "U *R"]
Values = Float[np.ndarray, " U"]


def check_cutoff(k: int, num_items: int) -> None:
    """Raises an InputError unless 1 <= k <= num_items."""
    if not 1 <= k <= num_items:
        raise InputError(f"Expected a cutoff k in [1, num_items], got k={k} with num_items={num_items}.")


def ranks_in_lists(lists: Int[np.ndarray, "U K"], relevant: Int[np.ndarray, "U R"]) -> Float[np.ndarray, "U R"]:
    """Ranks of relevant items in top-K lists.

    Args:
        lists: Items, best first, each at most once; -1 in an empty place.
        relevant: Each user's relevant items, each at most once; -1 in an empty place.

    Returns:
        1 for the first place of the list, `inf` for an item that is not in it, NaN where `relevant` is -1.
    """
    num_ids = 1 + max(lists.max(initial=0), relevant.max(initial=0))
    row = np.arange(len(lists), dtype=np.int64)[:, None] * num_ids
    listed = np.where(lists >= 0, row + lists, -1).ravel()
    wanted = (row + relevant).ravel()
    order = np.argsort(listed, kind="stable")
    place = order[np.minimum(np.searchsorted(listed, wanted, sorter=order), listed.size - 1)]
    rank = np.where(listed[place] == wanted, place % lists.shape[1] + 1.0, np.inf)
    return np.where(relevant >= 0, rank.reshape(relevant.shape), np.nan)


def hit_rate(ranks: Ranks, k: int, num_items: int) -> Values:
    """1 for a user with a relevant item among the first k, else 0 (trec_eval's `success`).

    Args:
        ranks: Ranks of the relevant items, [U] or [U, R]; see the module.
        k: Cutoff.
        num_items: Size of the catalogue.

    Raises:
        InputError: If `k < 1` or `k > num_items`; likewise in all metrics with a cutoff.
        ValueError: If a user has no relevant item (leave such users out, and count them), or a rank is below 1.
    """
    return _hits(ranks, k, num_items)[:, 0].astype(np.float64)


def precision(ranks: Ranks, k: int, num_items: int) -> Values:
    """Share of the first k places that hold a relevant item (`P`); k divides, however short the list is."""
    return _hits(ranks, k, num_items).sum(axis=1) / k


def recall(ranks: Ranks, k: int, num_items: int) -> Values:
    """Share of a user's relevant items that stand among the first k (`recall`)."""
    return _hits(ranks, k, num_items).sum(axis=1) / _num_relevant(ranks)


def f1(ranks: Ranks, k: int, num_items: int) -> Values:
    """Harmonic mean of precision and recall at k: 2 hits / (k + relevant items), 0 without a hit (`set_F`)."""
    return 2 * _hits(ranks, k, num_items).sum(axis=1) / (k + _num_relevant(ranks))


def ndcg(ranks: Ranks, k: int, num_items: int) -> Values:
    """Normalised discounted cumulative gain with gain 1 and discount 1 / log2(rank + 1) (`ndcg_cut`).

    The ideal list puts all relevant items first, and is cut at k too.
    """
    hits = _hits(ranks, k, num_items)
    gains = np.where(hits, 1 / np.log2(1 + np.where(hits, _sorted(ranks), 1)), 0).sum(axis=1)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1, k + 1)))
    return gains / ideal[np.minimum(_num_relevant(ranks), k) - 1]


def reciprocal_rank(ranks: Ranks, k: int, num_items: int) -> Values:
    """1 / rank of the first relevant item, 0 when that lies beyond k (`recip_rank`; its mean is MRR at k)."""
    first = _sorted(ranks)[:, 0]
    return np.where(_hits(ranks, k, num_items)[:, 0], 1 / first, 0)


def average_precision(ranks: Ranks, k: int, num_items: int) -> Values:
    """Sum of the precision at each relevant item among the first k, over the number of relevant items (`map_cut`).

    The divisor is the number of all of a user's relevant items, also when k is smaller. The mean over users is MAP.
    """
    hits = _hits(ranks, k, num_items)
    at = np.arange(1, hits.shape[1] + 1) / np.where(hits, _sorted(ranks), 1)
    return np.where(hits, at, 0).sum(axis=1) / _num_relevant(ranks)


def auc(ranks: Ranks, num_candidates: Int[np.ndarray, " U"]) -> Values:
    """Share of (relevant, other) pairs of candidates in the right order: the area under the ROC curve.

    Averaged ties give the usual AUC, where a tie counts half; ties against the model give 0 for a tie.

    Args:
        ranks: Ranks among all the candidates, [U] or [U, R]; see the module.
        num_candidates: Number of items ranked for each user, the relevant ones included.

    Returns:
        [U]; 0.5 for a user all of whose candidates are relevant: there is nothing to order.

    Raises:
        ValueError: If a rank is above its user's number of candidates, as the `inf` of a cut list is.
    """
    ordered = _sorted(ranks)
    if (ordered > num_candidates[:, None]).any():
        row = int(np.flatnonzero((ordered > num_candidates[:, None]).any(axis=1))[0])
        raise ValueError(f"Expected ranks among all candidates, got one above num_candidates={num_candidates[row]}.")
    num_relevant = _num_relevant(ranks)
    others = num_candidates - num_relevant
    others_above = np.nansum(ordered - np.arange(1, ordered.shape[1] + 1), axis=1)
    return np.where(others > 0, 1 - others_above / np.maximum(num_relevant * others, 1), 0.5)


def _sorted(ranks: Ranks) -> Float[np.ndarray, "U R"]:
    """Each user's ranks, best first, with the NaN of empty places last; checked."""
    ordered = np.sort(np.asarray(ranks, np.float64).reshape(len(ranks), -1), axis=1)
    if ordered.shape[1] == 0 or np.isnan(ordered[:, 0]).any():
        raise ValueError("Expected at least one relevant item for each user, got a user with none: leave them out.")
    if (ordered[:, 0] < 1).any():
        raise ValueError(f"Expected ranks >= 1, got {ordered[:, 0].min()}.")
    return ordered


def _num_relevant(ranks: Ranks) -> Int[np.ndarray, " U"]:
    """Number of each user's relevant items."""
    return (~np.isnan(_sorted(ranks))).sum(axis=1)


def _hits(ranks: Ranks, k: int, num_items: int) -> Bool[np.ndarray, "U R"]:
    """Whether each of a user's ranks, best first, lies within the cutoff."""
    check_cutoff(k, num_items)
    return _sorted(ranks) <= k
