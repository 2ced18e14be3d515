"""What a page shows of an audit, as plain values: curves, what moved, who pays, radii, changed lists."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxrec import audit, evaluate, metrics, robustness, shifts, statistics
from jaxrec.audit import NOISE, Findings, Victim
from jaxrec.types import Split

METRICS = {"ndcg": metrics.ndcg, "hit_rate": metrics.hit_rate}


def curves(findings: Findings, metric: str = "ndcg") -> list[dict[str, Any]]:
    """A metric against epsilon, for each unit: series of values with 95 % intervals over users (Student's t)."""
    found = []
    for unit, radii in findings.epsilons.items():
        series: list[tuple[str, str, Iterable[evaluate.Ranks], Sequence[float]]] = []
        if unit in findings.bounds:
            bounds = findings.bounds[unit]
            series += [
                ("certified, both", "certified", bounds.both, bounds.epsilons),
                ("certified, items", "certified", bounds.item, bounds.epsilons),
                ("held-out oracle", "held_out", bounds.held_out, bounds.epsilons),
            ]
        series.append(("worst attack", "worst_of", [m.ranks for m in audit.strongest(findings, unit)], radii))
        series.append(("worst for each user", "held_out", audit.private(findings, unit), radii))
        for name, measured in findings.attacked[unit].items():
            if name == NOISE or not name.startswith(NOISE):
                kind = "noise" if name == NOISE else "attack"
                series.append((name, kind, [measurement.ranks for measurement in measured], radii))
        num_draws = sum(name.startswith(NOISE) for name in findings.attacked[unit])
        if num_draws > 1:
            series.append((f"noise, worst of {num_draws}", "noise", audit.private(findings, unit, noise=True), radii))
        clean = value(findings.clean.ranks, metric, findings.k).mean
        entry = {"unit": unit, "metric": metric, "k": findings.k, "clean": clean, "series": []}
        for name, kind, ranks, epsilons in series:
            values = [value(at_epsilon, metric, findings.k) for at_epsilon in ranks]
            entry["series"].append(
                {
                    "name": name,
                    "kind": kind,
                    "epsilons": list(map(float, epsilons)),
                    "values": [value.mean for value in values],
                    "low": [_end(value.low) for value in values],
                    "high": [_end(value.high) for value in values],
                }
            )
        found.append(entry)
    return found


def _end(of_interval: float) -> float | None:
    """None where one unit has no interval."""
    return None if np.isnan(of_interval) else of_interval


def value(ranks: evaluate.Ranks, metric: str, k: int) -> statistics.Summary:
    return statistics.summary(per_user(ranks, metric, k))


def per_user(ranks: evaluate.Ranks, metric: str, k: int) -> np.ndarray:
    """The metric of each user."""
    return METRICS[metric](ranks.ranks, k, int(ranks.num_candidates.max()))


def shifts_of(findings: Findings) -> list[dict[str, Any]]:
    """What each attack and noise did to lists, ranks and scores, at each epsilon: means over users."""
    clean = findings.clean
    return [
        {
            "attack": measurement.attack,
            "unit": measurement.unit,
            "epsilon": measurement.epsilon,
            "prediction_shift": float(np.mean(shifts.prediction_shift(clean.target_scores, measurement.target_scores))),
            "rank_shift": float(np.mean(shifts.rank_shift(clean.ranks.ranks, measurement.ranks.ranks))),
            "attack_success": _mean(shifts.attack_success(clean.ranks.ranks, measurement.ranks.ranks, findings.k)),
            "jaccard": float(np.mean(shifts.jaccard(clean.lists, measurement.lists))),
            "rbo": float(np.mean(shifts.rank_biased_overlap(clean.lists, measurement.lists))),
        }
        for by_attack in findings.attacked.values()
        for name, measured in by_attack.items()
        if name == NOISE or not name.startswith(NOISE)
        for measurement in measured
    ]


def _mean(values: np.ndarray) -> float | None:
    """The mean of what is no NaN; None where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def groups(findings: Findings, split: Split, unit: str, epsilon: float, *, num: int = 4) -> list[dict[str, Any]]:
    """Who pays: NDCG clean and under the strongest shared attack, by activity of users and popularity of their items.

    Users are cut into `num` groups of equal size, by how many training items they have, and by how many users have
    their held-out item.
    """
    attacked = _at(audit.strongest(findings, unit), epsilon)
    users = findings.clean.ranks.users
    before, after = (per_user(m.ranks, "ndcg", findings.k) for m in (findings.clean, attacked))
    found = []
    for by, sizes in (
        ("training items of the user", _activity(split)[users]),
        ("training users of the held-out item", _popularity(split)[_targets(split)]),
    ):
        entry = {"by": by, "attack": attacked.attack, "unit": unit, "epsilon": epsilon, "metric": "ndcg", "groups": []}
        for part in np.array_split(np.argsort(sizes, kind="stable"), num):
            if not len(part):
                continue
            value = statistics.summary(after[part])
            low, high = int(sizes[part].min()), int(sizes[part].max())
            entry["groups"].append(
                {
                    "name": f"{low:,} to {high:,}",
                    "users": len(part),
                    "clean": float(before[part].mean()),
                    "attacked": value.mean,
                    "low": _end(value.low),
                    "high": _end(value.high),
                }
            )
        found.append(entry)
    return found


def _at(measured: Sequence[robustness.Measurement], epsilon: float) -> robustness.Measurement:
    return next(measurement for measurement in measured if measurement.epsilon == epsilon)


def _activity(split: Split) -> np.ndarray:
    return np.bincount(split.train.users, minlength=split.train.num_users)


def _popularity(split: Split) -> np.ndarray:
    return np.bincount(split.train.items, minlength=split.train.num_items)


def _targets(split: Split) -> np.ndarray:
    """The held-out item of each user who has one, users ascending."""
    return split.test.items[np.argsort(split.test.users, kind="stable")]


def radii_of(
    findings: Findings, victim: Victim, unit: str, *, num: int = 10, least_users: int = 5
) -> dict[str, list[dict[str, Any]]]:
    """The users and items with the largest and the smallest certified radius, of those that are in a list at all.

    An item's radius is the mean over the users whose held-out item it is, of items with at least `least_users`; those
    in whose list it is not count as 0, and so do those with an infinite radius: they have too few candidates.
    """
    nothing = {f"{most}_robust_{what}": [] for most in ("least", "most") for what in ("users", "items")}
    if unit not in findings.bounds:
        return nothing
    radius, targets = findings.bounds[unit].radius, _targets(victim.split)
    users = findings.clean.ranks.users
    finite = np.flatnonzero((radius > 0) & np.isfinite(radius))
    by_radius = finite[np.argsort(radius[finite], kind="stable")]
    activity, popularity = _activity(victim.split), _popularity(victim.split)

    def user(place):
        return {
            "user": victim.users[int(users[place])],
            "activity": int(activity[users[place]]),
            "item": victim.items[int(targets[place])],
            "radius": float(radius[place]),
            "unit": unit,
        }

    counts = np.bincount(targets, minlength=len(popularity))
    means = np.bincount(targets, weights=np.where(np.isfinite(radius), radius, 0), minlength=len(popularity))
    means = means / np.maximum(counts, 1)
    known = np.flatnonzero((counts >= least_users) & (means > 0))
    by_mean = known[np.argsort(means[known], kind="stable")]

    def item(id):
        return {
            "item": victim.items[id],
            "popularity": int(popularity[id]),
            "radius": float(means[id]),
            "unit": unit,
        }

    return {
        "least_robust_users": [user(int(place)) for place in by_radius[:num]],
        "most_robust_users": [user(int(place)) for place in by_radius[::-1][:num]],
        "least_robust_items": [item(int(id)) for id in by_mean[:num]],
        "most_robust_items": [item(int(id)) for id in by_mean[::-1][:num]],
    }


def changed_lists(
    findings: Findings, victim: Victim, unit: str, epsilon: float, *, num: int = 3
) -> list[dict[str, Any]]:
    """Lists before and after the strongest shared attack: of the users they changed most for, and of middling ones."""
    attacked = _at(audit.strongest(findings, unit), epsilon)
    overlap = shifts.rank_biased_overlap(findings.clean.lists, attacked.lists)
    order = np.argsort(overlap, kind="stable")
    middle = len(order) // 2
    chosen = dict.fromkeys(map(int, [*order[:num], *order[middle : middle + num]]))
    names = lambda items: [victim.items[item] for item in items if item >= 0]
    return [
        {
            "user": victim.users[user],
            "attack": attacked.attack,
            "unit": unit,
            "epsilon": epsilon,
            "before": names(findings.clean.lists[user]),
            "after": names(attacked.lists[user]),
        }
        for user in chosen
    ]
