"""Formulas with the numbers of the case, a slow loop over lists, and scikit-learn where it has the measure."""

import math

import numpy as np
import pytest
import sklearn.metrics

from jaxrec import metrics
from jaxrec.types import InputError

WITH_CUTOFF = [
    metrics.hit_rate,
    metrics.precision,
    metrics.recall,
    metrics.f1,
    metrics.ndcg,
    metrics.reciprocal_rank,
    metrics.average_precision,
]


def test_one_relevant_item_in_the_third_place():
    ranks = np.array([3])
    expected = {
        metrics.hit_rate: 1,
        metrics.precision: 1 / 5,
        metrics.recall: 1,
        metrics.f1: 2 * (1 / 5) * 1 / (1 / 5 + 1),
        metrics.ndcg: (1 / math.log2(3 + 1)) / (1 / math.log2(1 + 1)),
        metrics.reciprocal_rank: 1 / 3,
        metrics.average_precision: 1 / 3,
    }
    for metric, value in expected.items():
        assert metric(ranks, 5, 10) == pytest.approx([value], rel=1e-12), metric.__name__
    assert metrics.auc(ranks, np.array([10])) == pytest.approx([(10 - 3) / (10 - 1)], rel=1e-12)


def test_three_relevant_items_of_which_two_are_within_the_cutoff():
    ranks = np.array([[4.0, 2.0, 7.0, np.nan]])
    precision, recall = 2 / 5, 2 / 3
    expected = {
        metrics.hit_rate: 1,
        metrics.precision: precision,
        metrics.recall: recall,
        metrics.f1: 2 * precision * recall / (precision + recall),
        metrics.ndcg: (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / math.log2(4)),
        metrics.reciprocal_rank: 1 / 2,
        metrics.average_precision: (1 / 2 + 2 / 4) / 3,
    }
    for metric, value in expected.items():
        assert metric(ranks, 5, 10) == pytest.approx([value], rel=1e-12), metric.__name__
    # Above the items at 2, 4, 7 stand 1, 2, 4 of the 7 others.
    assert metrics.auc(ranks, np.array([10])) == pytest.approx([1 - (1 + 2 + 4) / (3 * 7)], rel=1e-12)


def test_ideal_gain_and_divisors_when_more_is_relevant_than_the_cutoff_holds():
    ranks = np.array([[1.0, 2.0, 3.0]])
    assert metrics.ndcg(ranks, 2, 5) == pytest.approx([1])
    assert metrics.recall(ranks, 2, 5) == pytest.approx([2 / 3])
    assert metrics.average_precision(ranks, 2, 5) == pytest.approx([2 / 3])  # map_cut divides by all that is relevant


@pytest.mark.parametrize("metric", WITH_CUTOFF)
def test_a_rank_at_the_cutoff_counts_and_beyond_it_is_zero(metric):
    values = metric(np.array([2.0, 2.5, 3.0, np.inf]), 2, 4)
    assert values[0] > 0
    assert (values[1:] == 0).all()
    assert values.dtype == np.float64


def reference(lists, relevant, k):
    """All metrics of one user, from the list and the set, by their definitions."""
    hits = [item in relevant for item in lists[:k]]
    precision, recall = sum(hits) / k, sum(hits) / len(relevant)
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
    at_hits = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
    return {
        "hit_rate": float(any(hits)),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if any(hits) else 0.0,
        "ndcg": gain / ideal,
        "reciprocal_rank": 1 / (hits.index(True) + 1) if any(hits) else 0.0,
        "average_precision": sum(at_hits) / len(relevant),
    }


@pytest.mark.parametrize("k", [1, 4, 6])
def test_metrics_of_lists_equal_a_loop(k):
    rng = np.random.default_rng(k)
    num_users, num_items = 40, 12
    lists = np.stack([rng.permutation(num_items)[:6] for _ in range(num_users)])
    lists[3, 4:] = -1
    relevant = np.full((num_users, 5), -1)
    for user, num in enumerate(rng.integers(1, 6, num_users)):
        relevant[user, rng.permutation(5)[:num]] = rng.permutation(num_items)[:num]
    ranks = metrics.ranks_in_lists(lists, relevant)
    for metric in WITH_CUTOFF:
        expected = [
            reference(list(items), {item for item in wanted if item >= 0}, k)[metric.__name__]
            for items, wanted in zip(lists, relevant, strict=True)
        ]
        np.testing.assert_allclose(metric(ranks, k, num_items), expected, rtol=1e-12, err_msg=metric.__name__)


def test_whole_rankings_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    scores, relevant = rng.normal(size=(20, 9)), rng.random((20, 9)) < 0.4
    relevant[:, 0], relevant[:, 1] = True, False
    order = np.argsort(-scores, axis=1)
    items = np.where(relevant, np.arange(9), -1)
    ranks = metrics.ranks_in_lists(order, items)
    precision = [sklearn.metrics.average_precision_score(*row) for row in zip(relevant, scores, strict=True)]
    auc = [sklearn.metrics.roc_auc_score(*row) for row in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(metrics.average_precision(ranks, 9, 9), precision, rtol=1e-12)
    np.testing.assert_allclose(metrics.auc(ranks, np.full(20, 9)), auc, rtol=1e-12)
    for k in (1, 3, 9):
        gain = [sklearn.metrics.ndcg_score(*row, k=k) for row in zip(relevant[:, None], scores[:, None], strict=True)]
        np.testing.assert_allclose(metrics.ndcg(ranks, k, 9), gain, rtol=1e-12)


def test_auc_of_averaged_ties_is_scikit_learns():
    scores = np.array([2.0, 1.0, 2.0, 2.0, 3.0])  # the relevant item is the first: one above it, two tie
    expected = sklearn.metrics.roc_auc_score([1, 0, 0, 0, 0], scores)
    assert metrics.auc(np.array([1 + 1 + 2 / 2]), np.array([5])) == pytest.approx([expected])


def test_auc_edges():
    assert metrics.auc(np.array([1, 1, 4]), np.array([1, 4, 4])).tolist() == [0.5, 1.0, 0.0]
    with pytest.raises(ValueError, match="num_candidates=4"):
        metrics.auc(np.array([[2.0, np.inf]]), np.array([4]))


def test_ranks_in_lists_mark_what_is_missing():
    ranks = metrics.ranks_in_lists(np.array([[5, 0, -1], [1, 2, 0]]), np.array([[0, 3], [-1, 2]]))
    np.testing.assert_array_equal(ranks, [[2, np.inf], [np.nan, 2]])


@pytest.mark.parametrize("metric", WITH_CUTOFF)
def test_wrong_cutoffs_and_users_without_relevant_items_are_refused(metric):
    for k in (0, 11):
        with pytest.raises(InputError, match=rf"k={k} with num_items=10"):
            metric(np.array([1]), k, 10)
    with pytest.raises(ValueError, match="at least one relevant item"):
        metric(np.array([[1.0, np.nan], [np.nan, np.nan]]), 3, 10)
    with pytest.raises(ValueError, match="ranks >= 1"):
        metric(np.array([0]), 3, 10)
    assert metric(np.array([1]), 10, 10).shape == (1,)
