"""Profile statistics against loops over the definitions."""

import numpy as np
import pytest

from jaxrec import profile_statistics
from jaxrec.types import Interactions

USERS, ITEMS = np.array([0, 0, 0, 1, 1, 2, 3, 3], np.int32), np.array([0, 1, 2, 0, 1, 2, 0, 3], np.int32)
RATINGS = np.array([5, 3, 1, 4, 4, 2, 1, 5], np.float32)
NUM_USERS, NUM_ITEMS = 5, 5


@pytest.mark.parametrize("rated", [True, False])
def test_they_are_what_the_papers_define(rated):
    data = Interactions(USERS, ITEMS, NUM_USERS, NUM_ITEMS, ratings=RATINGS if rated else None)
    found = dict(zip(profile_statistics.NAMES, profile_statistics.statistics(data, num_neighbours=2).T, strict=True))
    table = np.zeros((NUM_USERS, NUM_ITEMS))
    table[USERS, ITEMS] = RATINGS if rated else 1
    counts = (table > 0).sum(axis=0)
    means = table.sum(axis=0) / (np.maximum(counts, 1) if rated else NUM_USERS)
    lengths = (table > 0).sum(axis=1)
    norms = np.maximum(np.linalg.norm(table, axis=1), 1e-12)
    for user in range(NUM_USERS):
        items = np.flatnonzero(table[user])
        off = [abs(table[user, i] - means[i]) for i in items]
        expected = {
            "rdma": sum(x / counts[i] for x, i in zip(off, items, strict=True)) / max(len(items), 1),
            "wdma": sum(x / counts[i] ** 2 for x, i in zip(off, items, strict=True)) / max(len(items), 1),
            "length_variance": abs(lengths[user] - lengths.mean()) / ((lengths - lengths.mean()) ** 2).sum(),
        }
        near = [table[user] @ table[other] / norms[user] / norms[other] for other in range(NUM_USERS) if other != user]
        expected["degree_similarity"] = np.mean(sorted(near)[-2:])
        for name, end in (("push", max), ("nuke", min)):
            extreme = end((table[user, i] for i in items), default=0)
            fillers = [x for x, i in zip(off, items, strict=True) if not rated or table[user, i] != extreme]
            expected[f"filler_variance_{name}"] = np.mean(np.square(fillers)) if fillers else 0
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][user], value, rtol=1e-9, atol=1e-12, err_msg=f"{name} of {user}")
