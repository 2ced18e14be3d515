"""Shifts against values worked out by hand, and against sets."""

import numpy as np
import pytest

from jaxrec import shifts


def test_attack_success_counts_the_items_that_were_in_the_list():
    before, after = np.array([1.0, 10, 10.5, 3]), np.array([11.0, 10, 2, 400])
    np.testing.assert_array_equal(shifts.attack_success(before, after, 10), [1, 0, np.nan, 1])


def test_rank_shift_is_positive_where_the_item_fell():
    np.testing.assert_array_equal(shifts.rank_shift(np.array([1.0, 5]), np.array([4.0, 2])), [3, -3])


def test_prediction_shift_does_not_depend_on_the_unit_of_scores():
    before, after = np.array([1.0, 3.0]), np.array([2.0, 2.5])
    np.testing.assert_allclose(shifts.prediction_shift(before, after), [1.0, -0.5])
    np.testing.assert_allclose(shifts.prediction_shift(7 * before, 7 * after), [1.0, -0.5])
    np.testing.assert_array_equal(shifts.prediction_shift(np.ones(2), np.array([1.0, 2.0])), [0, 1])


def random_lists(rng, num, k):
    lists = np.stack([rng.permutation(k + 3)[:k] for _ in range(num)])
    lists[rng.random(num) < 0.3, -2:] = -1
    return lists


def test_jaccard_is_that_of_sets():
    rng = np.random.default_rng(0)
    before, after = random_lists(rng, 50, 6), random_lists(rng, 50, 6)
    for x, y, found in zip(before, after, shifts.jaccard(before, after), strict=True):
        x, y = set(x) - {-1}, set(y) - {-1}
        assert found == pytest.approx(len(x & y) / len(x | y))
    assert shifts.jaccard(np.full((1, 3), -1), np.full((1, 3), -1)) == 1


def test_rank_biased_overlap_is_the_written_out_sum():
    rng = np.random.default_rng(1)
    before, after = random_lists(rng, 20, 5), random_lists(rng, 20, 5)
    for x, y, found in zip(before, after, shifts.rank_biased_overlap(before, after, 0.8), strict=True):
        common = [len(set(x[:d]) & set(y[:d]) - {-1}) for d in range(1, 6)]
        expected = 0.8**5 * common[4] / 5 + sum(0.25 * 0.8**d * common[d - 1] / d for d in range(1, 6))
        assert found == pytest.approx(expected)


def test_rank_biased_overlap_is_one_for_equal_lists_and_zero_for_disjoint_ones():
    lists = np.arange(10)[None]
    np.testing.assert_allclose(shifts.rank_biased_overlap(lists, lists), 1)
    np.testing.assert_array_equal(shifts.rank_biased_overlap(lists, lists + 10), 0)
    swapped_top, swapped_end = lists[:, [1, 0, *range(2, 10)]], lists[:, [*range(8), 9, 8]]
    assert shifts.rank_biased_overlap(lists, swapped_top) < shifts.rank_biased_overlap(lists, swapped_end) < 1


def test_wrong_shapes_and_persistence_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        shifts.jaccard(np.zeros((2, 3), int), np.zeros((2, 4), int))
    with pytest.raises(ValueError, match="p=1"):
        shifts.rank_biased_overlap(np.zeros((1, 3), int), np.zeros((1, 3), int), 1)
