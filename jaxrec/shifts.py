"""What an attack did to rankings that were there before: items that left, ranks that moved, lists that changed.

Mobasher, Burke, Bhaumik and Williams, "Toward Trustworthy Recommender Systems", ACM TOIT 2007, have prediction shift
and hit ratio; rank-biased overlap is of Webber, Moffat and Zobel, "A Similarity Measure for Indefinite Rankings", ACM
TOIS 2010. All take NumPy arrays with one entry (or list) a user and return one value a user; the mean is the caller's.
"""

import numpy as np


def attack_success(before: np.ndarray, after: np.ndarray, k: int) -> np.ndarray:
    """1 where the held-out item left the top k, 0 where it stayed, NaN where it never was there; ranks [n] -> [n]."""
    was, stays = before <= k, after <= k
    return np.where(was, (was & ~stays).astype(float), np.nan)


def rank_shift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """By how many places the held-out item fell (negative: rose); ranks [n] -> [n]."""
    return np.asarray(after, float) - before


def prediction_shift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """By how much the held-out item's predicted score rose, in standard deviations of the scores before; [n] -> [n].

    Without a unit the shift of a dot-product model could be made any number by scaling its tables.
    """
    spread = float(np.std(before))
    return (np.asarray(after, float) - before) / (spread if spread > 0 else 1.0)


def jaccard(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Items in both lists over items in either; lists [n, K] of distinct ids, -1 in an empty place -> [n].

    1 where both are empty.
    """
    common = _overlaps(before, after)[:, -1]
    either = (before >= 0).sum(axis=1) + (after >= 0).sum(axis=1) - common
    return np.where(either > 0, common / np.maximum(either, 1), 1.0)


def rank_biased_overlap(before: np.ndarray, after: np.ndarray, p: float = 0.9) -> np.ndarray:
    """Mean agreement of two lists' heads, nearer the top weighing more; lists [n, K] as in `jaccard` -> [n].

    The extrapolated form for lists of one length K (eq. 32):

        p^K X_K / K + (1 - p) / p * sum_d p^d X_d / d,      X_d = items that both have among their first d

    Args:
        p: Probability that a reader goes on to the next place; .9 puts 86 % of the weight on the first ten.

    Raises:
        ValueError: If `p` is not inside (0, 1).
    """
    if not 0 < p < 1:
        raise ValueError(f"Expected 0 < p < 1, got p={p}.")
    depth = np.arange(1, before.shape[1] + 1)
    agreement = _overlaps(before, after) / depth
    return agreement[:, -1] * p ** depth[-1] + (1 - p) / p * (agreement * p**depth).sum(axis=1)


def _overlaps(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[n, K]: how many items the first d places of both lists have in common, for d = 1, ..., K."""
    if before.shape != after.shape:
        raise ValueError(f"Expected lists of one shape, got {before.shape} and {after.shape}.")
    same = (before[:, :, None] == after[:, None, :]) & (before[:, :, None] >= 0)
    heads = np.cumsum(np.cumsum(same, axis=1), axis=2)
    return np.diagonal(heads, axis1=1, axis2=2)
