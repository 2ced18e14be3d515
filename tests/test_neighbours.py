"""The nearest rows against a search of all pairs, and the weights against formulas."""

import math

import numpy as np
import pytest
import scipy.sparse

from jaxrec import neighbours

RNG = np.random.default_rng(1)
PAIRS = (RNG.random((9, 7)) < 0.4).astype(np.float32)
PAIRS[2] = 0
PAIRS[5] = PAIRS[0]  # equally similar to everyone


def sparse(array):
    return scipy.sparse.csr_array(array)


def by_all_pairs(vectors, k, shrinkage, asymmetry):
    """[(similarity, id)] of each row, best first, only those above 0."""
    found = []
    for x in range(len(vectors)):
        row = []
        for y in range(len(vectors)):
            below = np.linalg.norm(vectors[x]) ** (2 * asymmetry) * np.linalg.norm(vectors[y]) ** (2 - 2 * asymmetry)
            dot = vectors[x] @ vectors[y]
            if x != y and dot > 0:
                row.append((dot / (below + shrinkage), y))
        found.append(sorted(row, key=lambda pair: (-round(pair[0], 6), pair[1]))[:k])
    return found


@pytest.mark.parametrize(("k", "shrinkage", "asymmetry"), [(3, 0.0, 0.5), (20, 2.0, 0.5), (3, 1.0, 0.2)])
@pytest.mark.parametrize("chunk_size", [4, 100])
def test_nearest_are_those_of_a_search_of_all_pairs(k, shrinkage, asymmetry, chunk_size):
    found = neighbours.nearest(
        sparse(PAIRS), num_neighbours=k, shrinkage=shrinkage, asymmetry=asymmetry, chunk_size=chunk_size
    )
    assert found.ids.shape == (9, min(k, 8))
    for row, expected in enumerate(by_all_pairs(PAIRS.astype(float), k, shrinkage, asymmetry)):
        num = len(expected)
        np.testing.assert_allclose(found.similarities[row, :num], [value for value, _ in expected], rtol=1e-5)
        np.testing.assert_array_equal(found.ids[row, :num], [other for _, other in expected])
        np.testing.assert_array_equal(found.ids[row, num:], -1)
        np.testing.assert_array_equal(found.similarities[row, num:], 0)


def test_a_single_row_has_no_neighbour():
    found = neighbours.nearest(sparse(PAIRS[:1]), num_neighbours=3)
    np.testing.assert_array_equal(found.ids, [[-1]])


def test_weights_are_those_of_the_formulas():
    pairs = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0]], np.float32)
    rare, common = math.log(5 / 2), max(math.log(5 / 5), 0)
    np.testing.assert_allclose(
        neighbours.weighted(sparse(pairs), "tfidf").toarray(), pairs * [common, rare, rare], rtol=1e-6
    )
    factor = 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / (6 / 5)))
    bm25 = neighbours.weighted(sparse(pairs), "bm25").toarray()
    np.testing.assert_allclose([bm25[0, 1], bm25[3, 2]], [factor * rare] * 2, rtol=1e-6)
    np.testing.assert_array_equal(neighbours.weighted(sparse(pairs), "none").toarray(), pairs)


def test_a_term_in_every_document_weighs_nothing_rather_than_less():
    pairs = np.ones((3, 1), np.float32)
    np.testing.assert_array_equal(neighbours.weighted(sparse(pairs), "tfidf").toarray(), 0)


@pytest.mark.parametrize(
    ("name", "value"), [("num_neighbours", 0), ("shrinkage", -1.0), ("asymmetry", 1.5), ("weighting", "idf")]
)
def test_wrong_settings_are_refused_by_name(name, value):
    right = {"num_neighbours": 3, "shrinkage": 0.0, "asymmetry": 0.5, "weighting": "none"}
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        neighbours.check(**{**right, name: value})
