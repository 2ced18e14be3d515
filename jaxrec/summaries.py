"""From ranks to records: the metrics of a measurement, over users or over seeds, with their intervals."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrec import exposure, metrics, statistics
from jaxrec.records import Record
from jaxrec.robustness import Measurement

RANKED = {"hit_rate": metrics.hit_rate, "ndcg": metrics.ndcg}


def records_of(
    by_seed: Sequence[Sequence[Measurement]],
    *,
    seeds: Sequence[int],
    cutoffs: Sequence[int],
    tail: np.ndarray,
    surface: str,
    gauge: str,
    **common: Any,
) -> list[Record]:
    """Records of one model's measurements, one for each condition and metric.

    Args:
        by_seed: For each training seed the measurements, in the same order of conditions.
        seeds: The training seeds.
        cutoffs: K of the hit rate and of NDCG.
        tail: bool [I], the long-tail items.
        surface: What the adversary perturbed, in words.
        gauge: Where relative budgets were stated: "canonical", or "as trained" for a model that has no such gauge.
        common: The other fields of the records.

    Returns:
        The records. Of one seed the interval is over users (Student's t): it says nothing about another seed. Of
        several it is over the seeds' means. Coverage and long-tail share are those of the lists that were measured.
    """
    made = []
    for condition in zip(*by_seed, strict=True):
        first = condition[0]
        attacked = first.attack != "none"
        adversary = {
            "surface": surface,
            "attack": first.attack,
            "oracle": first.oracle if first.gradient_evaluations or first.queries > 1 else "none",
            "epsilon": first.epsilon,
            "epsilon_unit": first.unit,
            "gauge": gauge if first.unit == "relative" else "as trained",
            "achieved_norm": max(measurement.achieved_norm for measurement in condition),
            "gradient_evaluations": first.gradient_evaluations,
            "queries": first.queries,
        }
        fields: dict[str, Any] = common | {name: value if attacked else None for name, value in adversary.items()}
        fields |= {"seeds": tuple(seeds), "users": len(first.ranks.users)}
        for k in cutoffs:
            for name in RANKED:
                made.append(of_users(per_user(condition, name, k), **fields, metric=name, k=k))
        num_items = len(tail)
        shares = [np.mean(exposure.long_tail_share(measurement.lists, tail)) for measurement in condition]
        covered = [exposure.coverage(measurement.lists, num_items) for measurement in condition]
        if len(condition) > 1:
            deviations = {name: per_user(condition, name, cutoffs[0]).mean(axis=1).std(ddof=1) for name in RANKED}
            for name, sd in deviations.items():
                made.append(Record(**fields, metric=f"{name}_sd", k=cutoffs[0], value=float(sd), interval=None))
        for name, values in (("coverage", covered), ("long_tail_share", shares)):
            made.append(of_seeds(values, **fields, metric=name, k=first.lists.shape[1]))
    return made


def per_user(condition: Sequence[Measurement], metric: str, k: int) -> np.ndarray:
    """A metric of each seed and user, [S, U]."""
    return np.stack([RANKED[metric](m.ranks.ranks, k, int(m.ranks.num_candidates.max())) for m in condition])


def of_seeds(values: Sequence[Any] | np.ndarray, **fields: Any) -> Record:
    """A record of a mean over seeds, values [S], with its t interval where there are several."""
    summary = statistics.summary(np.asarray(values, np.float64))
    return Record(**fields, value=summary.mean, interval=summary.interval)


def of_users(values: np.ndarray, **fields: Any) -> Record:
    """A record of a mean over seeds and users, values [S, U].

    Its t interval is over users if there is one seed, else over the seeds' means.
    """
    summary = statistics.summary(values[0] if len(values) == 1 else values.mean(axis=1))
    return Record(**fields, value=float(values.mean()), interval=summary.interval)


def gain_records(
    base: Sequence[Sequence[Measurement]], other: Sequence[Sequence[Measurement]], records: Sequence[Record], *, k: int
) -> list[Record]:
    """What `other` gains in NDCG@k over `base` in each condition, paired by user (and by seed), with a p value.

    Args:
        base, other: As `by_seed` of `records_of`, of the same conditions.
        records: Those of `other`, whose fields are taken over.

    Returns:
        For each condition `ndcg_gain@k` with its interval and `ndcg_gain_p@k`. Of one seed: Student's t over users
        and a randomisation test over users, *these two models differ*. Of several: `statistics.over_seeds_and_users`
        and sign flips over seeds, *the method is better*; with few seeds no p value can be small.
    """
    of_condition = [record for record in records if record.metric == "ndcg" and record.k == k]
    made = []
    for record, before, after in zip(of_condition, zip(*base, strict=True), zip(*other, strict=True), strict=True):
        gain = per_user(after, "ndcg", k) - per_user(before, "ndcg", k)
        if len(gain) == 1:
            of_one = statistics.summary(gain[0])
            mean, interval = of_one.mean, of_one.interval
            test = statistics.randomisation_test(gain[0], np.zeros_like(gain[0]), seed=0, num_resamples=1999)
        else:
            mean, low, high = statistics.over_seeds_and_users(gain, seed=0)
            interval = low, high
            test = statistics.sign_flip_test(gain.mean(axis=1), np.zeros(len(gain)))
        made.append(dataclasses.replace(record, metric="ndcg_gain", value=mean, interval=interval))
        made.append(dataclasses.replace(record, metric="ndcg_gain_p", value=test.p_value, interval=None))
    return made
