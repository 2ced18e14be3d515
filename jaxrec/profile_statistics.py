"""What parts fake profiles from real ones, a row of statistics for each user.

Chirita, Nejdl and Zamfir, "Preventing Shilling Attacks in Online Recommender Systems", WIDM 2005,
https://doi.org/10.1145/1097047.1097061 (RDMA, degree of similarity); Burke, Mobasher, Williams and Bhaumik,
"Classification Features for Attack Detection in Collaborative Recommender Systems", KDD 2006,
https://doi.org/10.1145/1150402.1150465 (WDMA, length variance, filler mean variance).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn.preprocessing

from jaxrec import profiles
from jaxrec.types import Interactions

NAMES = ("rdma", "wdma", "degree_similarity", "length_variance", "filler_variance_push", "filler_variance_nuke")
NUM_NEIGHBOURS = 25  # whose mean cosine is the degree of similarity
CHUNK = 512  # users whose similarities with all others are held at a time


def statistics(interactions: Interactions, *, num_neighbours: int = NUM_NEIGHBOURS) -> np.ndarray:
    """The statistics `NAMES` of every user, float64 [U, 6]; r is a rating, m_i an item's mean, l_i its ratings.

        rdma                  mean over the user's items of |r - m_i| / l_i
        wdma                  mean over the user's items of |r - m_i| / l_i^2
        degree_similarity     mean cosine of the user's profile with the nearest `num_neighbours` others
        length_variance       |n_u - mean n| / sum over users of (n - mean n)^2, n being lengths of profiles
        filler_variance_push  mean of (r - m_i)^2 over the items that the user does not rate highest
        filler_variance_nuke  mean of (r - m_i)^2 over the items that the user does not rate lowest

    Where Chirita et al. take Pearson's correlation, the cosine is taken, which implicit feedback has too. There r is 1
    and m_i the share of users who have the item (our reading), so that rdma tells how rare the user's items are, and
    both filler variances are over all items. A user without interactions has zeros, but for the length.
    """
    matrix = profiles.ratings(interactions)
    counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    divisor = matrix.shape[0] if interactions.ratings is None else np.maximum(counts, 1)
    means = matrix.sum(axis=0) / divisor
    users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    lengths = np.diff(matrix.indptr)
    deviation, num = np.abs(matrix.data - means[matrix.indices]), counts[matrix.indices]

    def mean(values: np.ndarray, where: np.ndarray | bool = True) -> np.ndarray:
        counted = np.broadcast_to(where, values.shape).astype(float)
        below = np.bincount(users, counted, len(lengths))
        return np.bincount(users, values * counted, len(lengths)) / np.maximum(below, 1)

    spread = np.square(lengths - lengths.mean()).sum()
    filler = {"push": True, "nuke": True}
    if interactions.ratings is not None:
        ends = {"push": np.full(len(lengths), -np.inf), "nuke": np.full(len(lengths), np.inf)}
        np.maximum.at(ends["push"], users, matrix.data)
        np.minimum.at(ends["nuke"], users, matrix.data)
        filler = {name: matrix.data != end[users] for name, end in ends.items()}
    columns = [
        mean(deviation / num),
        mean(deviation / num**2),
        _degree_similarity(matrix, num_neighbours),
        np.abs(lengths - lengths.mean()) / (spread or 1),
        *(mean(np.square(deviation), where) for where in filler.values()),
    ]
    return np.stack(columns, axis=1)


def _degree_similarity(matrix: Any, num_neighbours: int) -> np.ndarray:
    """Mean cosine with the nearest others, in chunks of users."""
    unit: Any = sklearn.preprocessing.normalize(matrix)
    num = unit.shape[0]
    k = max(min(num_neighbours, num - 1), 1)
    found = np.empty(num)
    for start in range(0, num, CHUNK):
        near = (unit[start : start + CHUNK] @ unit.T).toarray()
        rows = np.arange(len(near))
        near[rows, start + rows] = 0
        found[start : start + CHUNK] = -np.partition(-near, k - 1, axis=1)[:, :k].mean(axis=1)
    return found
