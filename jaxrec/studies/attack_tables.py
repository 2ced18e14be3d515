"""What a study of attacks found: the strongest of several, records, and the comparisons that were declared before."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxrec import display, provenance, records, results, robustness, splits, statistics, summaries, worst_of
from jaxrec.pictures import forest
from jaxrec.robustness import Measurement
from jaxrec.studies.attack_study import Findings, K, Study


class Declared(NamedTuple):
    """A comparison that was decided on before the measurements: does the first lower NDCG more than the second?

    Each is (stage, attack) of `Measurement.attack`, at the same epsilon.
    """

    first: tuple[str, str]
    second: tuple[str, str]


def strongest(measured: Sequence[Measurement], names: Sequence[str], *, title: str) -> list[Measurement]:
    """For each budget the one of the named attacks that raised the loss most, under a title, at the cost of all.

    One perturbation that all users share. The loss decides, never the ranking of test items.
    """
    return [
        dataclasses.replace(max(group, key=lambda each: each.loss), attack=title, **_cost(group))
        for group in _by_budget(measured, names)
    ]


def each_users_worst(measured: Sequence[Measurement], names: Sequence[str], *, title: str) -> list[Measurement]:
    """For each budget every user's worst rank over the named attacks and no attack, under a title.

    A private adversary for each user who knows the test item: a bound, and no attack on one model. A user's list is the
    one of the perturbation that was worst, or the clean one.
    """
    clean = measured[0]
    made = []
    for group in _by_budget(measured, names):
        candidates = [clean, *group]
        worst, users = np.argmax([each.ranks.ranks for each in candidates], axis=0), clean.ranks.users
        lists = clean.lists.copy()
        lists[users] = np.stack([each.lists for each in candidates])[worst, users]
        scores = np.stack([each.target_scores for each in candidates])[worst, np.arange(len(users))]
        made.append(
            dataclasses.replace(
                max(group, key=lambda each: each.achieved_norm),
                attack=title,
                ranks=worst_of.per_user([each.ranks for each in candidates]),
                lists=lists,
                target_scores=scores,
                loss=float("nan"),
                **_cost(group),
            )
        )
    return made


def _by_budget(measured: Sequence[Measurement], names: Sequence[str]) -> list[list[Measurement]]:
    """The measurements of the named attacks, together by unit and epsilon, in their order."""
    groups: dict[tuple[str, float], list[Measurement]] = {}
    for each in measured:
        if each.attack in names:
            groups.setdefault((each.unit, each.epsilon), []).append(each)
    if any(len(group) != len(names) for group in groups.values()) or not groups:
        raise ValueError(f"Expected measurements of {', '.join(names)} at the same budgets, got others.")
    return list(groups.values())


def _cost(group: Sequence[Measurement]) -> dict[str, int]:
    return {name: sum(getattr(each, name) for each in group) for name in ("gradient_evaluations", "queries")}


def publish(
    study: Study, found: Findings, declared: Sequence[Declared], *, also: Sequence[records.Record] = ()
) -> None:
    """Writes results.json, results.md and table.png; prints the table and what came of the declared comparisons.

    Args:
        found: The measurements, of one seed or more.
        declared: Comparisons to test; with a single seed they are left out, as nothing can be said of the next.
        also: Other records for the table, not for the picture.
    """
    made = records_of(study, found)
    several = len({training.seed for training in found}) > 1
    compared = declared_records(found, declared, made) if several and declared else []
    everything = [*made, *also, *compared]
    results.write(study.folder, everything)
    forest.draw(study.folder / "table.png", made, metric="ndcg", k=K)
    display.records_table([*made, *also])
    if compared:
        display.comparisons(compared)
    display.say(f"Everything lies in {study.folder}/: results.md, results.json, table.png")


def records_of(study: Study, found: Findings, *, note: str | None = None) -> list[records.Record]:
    """The records of all measurements, and what each attack took from the clean NDCG.

    Args:
        found: From `run`, the same conditions for each training.
        note: What tells these models from the run's, if anything.

    Returns:
        For each stage and condition the records of `summaries.records_of`, with t intervals over seeds;
        `mean_row_norm_TABLE`, how far its rows were moved; and `ndcg_gain@10` against the clean model (negative: what
        the attack took), with an interval over seeds and users and the p value of sign flips over seeds.
    """
    first, made = study.first, []
    for stage, by_seed in _by_stage(found).items():
        of_stage = summaries.records_of(
            by_seed,
            seeds=[training.seed for training in found if training.stage == stage],
            cutoffs=[K],
            tail=splits.tail_items(first.victim.split.train),
            surface="user and item tables",
            gauge=first.victim.model.gauge,
            experiment=study.experiment,
            model=first.model if note is None else f"{first.model}, {note}",
            defence=None if stage == "bpr" else stage.upper(),
            dataset=first.dataset,
            split="leave-one-out, a validation item",
            protocol=robustness.PROTOCOL,
            step=None,
            chosen_by="validation epoch",
            training=f"{stage.upper()} of {study.source}",
            device=provenance.device(),
            commit=provenance.commit(),
            fingerprint=first.fingerprint,
        )
        clean = [[measured[0]] * len(measured) for measured in by_seed]
        gains = summaries.gain_records(clean, by_seed, of_stage, k=K)
        made += [*of_stage, *(each for each in gains if each.attack is not None), *_norm_records(by_seed, of_stage)]
    return made


def _norm_records(by_seed: Sequence[Sequence[Measurement]], of_stage: Sequence[records.Record]) -> list[records.Record]:
    """How far the rows of each table were moved: mean L2 norm, a record for each condition and table."""
    of_condition = [record for record in of_stage if record.metric == "ndcg"]
    return [
        dataclasses.replace(
            record,
            metric=f"mean_row_norm_{name}",
            k=None,
            value=float(np.mean([each.mean_norms[name] for each in condition])),
            interval=None,
        )
        for record, condition in zip(of_condition, zip(*by_seed, strict=True), strict=True)
        for name in condition[0].mean_norms
    ]


def declared_records(
    found: Findings, declared: Sequence[Declared], base: Sequence[records.Record]
) -> list[records.Record]:
    """What came of the comparisons that were declared before, at every budget, and what is left of them after Holm.

    Args:
        base: From `records_of`, whose fields are taken over.

    Returns:
        For each comparison and budget `ndcg_less_SECOND@10` (NDCG of the first less that of the second: negative where
        the first is the stronger attack or the weaker model), with its interval over seeds and users
        (`statistics.over_seeds_and_users`), `ndcg_less_SECOND_p@10` of sign flips over seeds, and
        `ndcg_less_SECOND_holm_p@10`, adjusted for all comparisons and budgets together.

    Raises:
        ValueError: If a declared stage or attack was not measured: left out, it would make Holm's family smaller.
    """
    stages = _by_stage(found)
    made, p_values = [], []
    for (stage, attack), (other_stage, other_attack) in declared:
        for condition, others in zip(
            _conditions(stages, stage, attack), _conditions(stages, other_stage, other_attack), strict=True
        ):
            gain = summaries.per_user(condition, "ndcg", K) - summaries.per_user(others, "ndcg", K)
            mean, low, high = statistics.over_seeds_and_users(gain, seed=0)
            p_values.append(statistics.sign_flip_test(gain.mean(axis=1), np.zeros(len(gain))).p_value)
            like = next(record for record in base if _is_of(record, stage, condition[0]))
            name = f"ndcg_less_{other_attack if other_stage == stage else other_stage.upper()}"
            made.append(dataclasses.replace(like, metric=name, value=mean, interval=(low, high)))
    adjusted = statistics.holm(np.array(p_values))
    with_p = [
        [
            record,
            dataclasses.replace(record, metric=f"{record.metric}_p", value=p_value, interval=None),
            dataclasses.replace(record, metric=f"{record.metric}_holm_p", value=float(holm_p), interval=None),
        ]
        for record, p_value, holm_p in zip(made, p_values, adjusted, strict=True)
    ]
    return [record for group in with_p for record in group]


def _by_stage(found: Findings) -> dict[str, list[list[Measurement]]]:
    """{stage: for each seed its measurements}."""
    stages: dict[str, list[list[Measurement]]] = {}
    for training, measured in found.items():
        stages.setdefault(training.stage, []).append(measured)
    return stages


def _conditions(
    stages: Mapping[str, Sequence[Sequence[Measurement]]], stage: str, attack: str
) -> list[tuple[Measurement, ...]]:
    """For each budget the measurements of one attack on one stage, one for each seed."""
    found = [each for each in zip(*stages.get(stage, ()), strict=True) if each[0].attack == attack]
    if not found:
        raise ValueError(f"Expected measurements of the declared {attack} on {stage}, got none.")
    return found


def _is_of(record: records.Record, stage: str, measurement: Measurement) -> bool:
    budget = (measurement.attack, measurement.epsilon, measurement.unit)
    return (
        record.metric == "ndcg"
        and record.defence == (None if stage == "bpr" else stage.upper())
        and (record.attack, record.epsilon, record.epsilon_unit) == budget
    )
