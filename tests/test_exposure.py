"""Formulas with the numbers of the case, and slow loops over random lists with empty places."""

import itertools
import math

import numpy as np
import pytest

from jaxrec import exposure

LISTS = np.array([[0, 3, -1], [3, 4, 0], [-1, -1, -1]])


def random_lists(seed, *, num_users=30, num_items=12, k=5):
    """Lists of different lengths, popular items more often than others."""
    rng = np.random.default_rng(seed)
    chances = np.arange(1, num_items + 1) / np.arange(1, num_items + 1).sum()
    lists = np.stack([rng.choice(num_items, k, replace=False, p=chances) for _ in range(num_users)])
    for row, length in zip(lists, rng.integers(0, k + 1, num_users), strict=True):
        row[length:] = -1
    return lists, rng


def test_coverage_and_long_tail_share_pass_over_empty_places():
    tail = np.array([False, False, True, True, True])
    assert exposure.coverage(LISTS, 5) == pytest.approx(3 / 5)
    np.testing.assert_allclose(exposure.long_tail_share(LISTS, tail), [1 / 2, 2 / 3, 0], rtol=1e-12)


def test_gini_and_entropy_of_counts_by_hand():
    # Items 0 and 3 twice, 4 once, 1 and 2 never; pairs of items differ by 2 (4 times), 1 (2 and 2 times), 0 (2 times).
    assert exposure.gini(LISTS, 5) == pytest.approx((4 * 2 + 4 * 1) / (5 * 5), rel=1e-12)
    assert exposure.entropy(LISTS, 5) == pytest.approx(2 * -0.4 * math.log2(0.4) - 0.2 * math.log2(0.2), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gini_is_the_mean_difference_of_all_pairs(seed):
    lists, _ = random_lists(seed)
    counts = [sum(item in row for row in lists) for item in range(12)]
    differences = sum(abs(a - b) for a, b in itertools.combinations(counts, 2))
    assert exposure.gini(lists, 12) == pytest.approx(differences / (12 * sum(counts)), rel=1e-12)
    shares = [count / sum(counts) for count in counts if count]
    assert exposure.entropy(lists, 12) == pytest.approx(-sum(p * math.log2(p) for p in shares), rel=1e-12)


def test_extremes_of_gini_and_entropy():
    equal, alone = np.arange(8).reshape(4, 2), np.full((6, 1), 3)
    assert exposure.gini(equal, 8) == pytest.approx(0, abs=1e-12)
    assert exposure.entropy(equal, 8) == pytest.approx(3, rel=1e-12)
    assert exposure.gini(alone, 8) == pytest.approx(1 - 1 / 8, rel=1e-12)
    assert exposure.entropy(alone, 8) == 0
    for measure in (exposure.gini, exposure.entropy):
        with pytest.raises(ValueError, match="at least one item"):
            measure(np.full((2, 2), -1), 8)


def test_novelty_is_the_mean_self_information():
    information = exposure.self_information(np.array([8, 4, 1, 0]), 8)
    np.testing.assert_allclose(information, [0, 1, 3, 3], rtol=1e-12)  # nobody's item is as new as one person's
    lists = np.array([[0, 1, 2], [2, -1, -1], [-1, -1, -1]])
    np.testing.assert_allclose(exposure.novelty(lists, information), [4 / 3, 3, 0], rtol=1e-12)


def test_serendipity_counts_what_is_relevant_and_not_expected():
    lists = np.array([[5, 1, 7, 2], [5, 1, -1, -1], [-1, -1, -1, -1]])
    relevant = np.array([[1, 2, 7], [5, -1, -1], [3, -1, -1]])
    expected = np.array([[7, 0], [0, 1], [0, -1]])
    np.testing.assert_allclose(exposure.serendipity(lists, relevant, expected), [2 / 4, 1 / 4, 0], rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("binary", [True, False])
def test_intra_list_diversity_equals_a_loop_over_pairs(seed, binary):
    lists, rng = random_lists(seed)
    vectors = (rng.random((12, 4)) < 0.4).astype(float) if binary else rng.normal(size=(12, 4))
    vectors[3] = 0

    def distance(a, b):
        lengths = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
        return 1 - vectors[a] @ vectors[b] / lengths if lengths else 1

    listed = [[item for item in row if item >= 0] for row in lists]
    pairs = [list(itertools.combinations(row, 2)) for row in listed]
    expected = [np.mean([distance(*pair) for pair in of_user]) if of_user else 0 for of_user in pairs]
    np.testing.assert_allclose(exposure.intra_list_diversity(lists, vectors), expected, atol=1e-12)


def test_diversity_of_copies_and_of_strangers():
    vectors = np.array([[1, 1, 0], [2, 2, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    lists = np.array([[0, 1], [0, 2], [3, 4], [0, -1]])
    np.testing.assert_allclose(exposure.intra_list_diversity(lists, vectors), [0, 1, 1, 0], atol=1e-12)
