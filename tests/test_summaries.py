"""Laws of how measurements become records."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxrec import evaluate, robustness, summaries

COMMON = {
    "experiment": "e", "model": "m", "defence": None, "dataset": "d", "split": "s", "protocol": "p", "training": "t",
    "step": 1, "chosen_by": None, "device": "cpu", "commit": "c", "fingerprint": "f",
}  # fmt: skip
TAIL = np.array([False, False, True, True])


def measurement(ranks, *, attack="none", unit="absolute") -> robustness.Measurement:
    """Of three users and four items, lists of two."""
    users = np.arange(3)
    found = evaluate.Ranks(users=users, ranks=np.array(ranks, float), num_candidates=np.full(3, 4), num_left_out=0)
    lists = np.array([[0, 1], [0, 2], [0, 1]])
    return robustness.Measurement(
        attack=attack,
        epsilon=0.5,
        unit=unit,
        ranks=found,
        lists=lists,
        target_scores=np.zeros(3, np.float32),
        achieved_norm=0.5,
        loss=0.1,
        gradient_evaluations=int(attack != "none"),
        queries=1,
        oracle=robustness.WHITE_BOX,
        mean_norms={},
    )


def records_of(by_seed, *, gauge="canonical"):
    seeds = range(len(by_seed))
    found = summaries.records_of(by_seed, seeds=seeds, cutoffs=[2], tail=TAIL, surface="x", gauge=gauge, **COMMON)
    return {(record.attack, record.metric): record for record in found}


def test_of_one_seed_the_interval_is_over_users():
    found = records_of([[measurement([1, 2, 3])]])
    dcg = 1 / math.log2(3)
    assert found[None, "hit_rate"].value == pytest.approx(2 / 3)
    assert found[None, "ndcg"].value == pytest.approx((1 + dcg) / 3)
    half = 4.302653 * np.std([1, 1, 0], ddof=1) / math.sqrt(3)  # Student's t, 2 degrees of freedom
    assert found[None, "hit_rate"].interval == pytest.approx((2 / 3 - half, 2 / 3 + half), rel=1e-6)
    assert found[None, "coverage"].value == 3 / 4
    assert found[None, "long_tail_share"].value == pytest.approx(1 / 6)
    assert (None, "hit_rate_sd") not in found


def test_of_several_seeds_it_is_over_seeds_and_their_deviation_stands_beside_it():
    found = records_of([[measurement([1, 2, 3])], [measurement([3, 3, 1])]])
    record = found[None, "hit_rate"]
    assert (record.value, record.seeds) == (pytest.approx(1 / 2), (0, 1))
    half = 12.706205 * np.std([2 / 3, 1 / 3], ddof=1) / math.sqrt(2)
    assert record.interval == pytest.approx((1 / 2 - half, 1 / 2 + half), rel=1e-6)
    assert found[None, "hit_rate_sd"].value == pytest.approx(np.std([2 / 3, 1 / 3], ddof=1))


def test_a_relative_budget_is_recorded_in_the_gauge_it_was_stated_in():
    by_seed = [[measurement([1, 2, 3], attack="FGSM", unit="relative"), measurement([3, 2, 3], attack="PGD")]]
    for gauge in ("canonical", "as trained"):
        found = records_of(by_seed, gauge=gauge)
        assert found["FGSM", "ndcg"].gauge == gauge
        assert found["PGD", "ndcg"].gauge == "as trained"  # an absolute one never leaves it
