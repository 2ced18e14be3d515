"""What a study of trade-offs found: records, which points are chosen and which non-dominated, and the picture."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrec import display, provenance, records, results, summaries, tradeoff
from jaxrec.pictures import points
from jaxrec.studies.attack_study import K, Study, Training
from jaxrec.studies.tradeoff_study import AS_TRAINED, LOSS, Findings, Losses, Point

AIMS = ("ndcg", "intra_list_diversity", "novelty")  # what a point is dominated in
PROTOCOL = f"top-{K} lists of the unseen items; intra-list diversity by genres"


def records_of(study: Study, found: Findings, losses: Losses, *, keep: float) -> list[records.Record]:
    """The records of all points on the test items, and what validation says of them.

    Args:
        keep: Share of the validation NDCG as trained that a chosen point keeps.

    Returns:
        For each stage and point the metrics with t intervals over seeds, `ndcg_gain` over the same seed's model as
        trained, `validation_ndcg`, `non_dominated` (1 where no point of any stage is better in one of `AIMS` and as
        good in the others, means on validation) and `chosen` (1 for the point of each stage and method with the
        largest relative gain in diversity and novelty together, on validation, among those that keep enough NDCG).
    """
    chosen, front = _choices(found, keep)
    first, made = study.first, []
    for stage, seeds in _stages(found).items():
        common: dict[str, Any] = {
            "experiment": study.experiment, "defence": None if stage == "bpr" else stage.upper(),
            "dataset": first.dataset, "split": "leave-one-out, a validation item", "protocol": PROTOCOL,
            **records.NOBODY, "seeds": tuple(seeds), "step": None,
            "users": len(np.unique(first.victim.split.test.users)), "chosen_by": "validation epoch",
            "device": provenance.device(), "commit": provenance.commit(), "fingerprint": first.fingerprint,
        }  # fmt: skip
        points = found[Training(stage, seeds[0])]
        by_point = {point: [found[Training(stage, seed)][point] for seed in seeds] for point in points}
        base = by_point[Point(AS_TRAINED, "")]
        for point, measured in by_point.items():
            went_on = f", then {losses.training}" if point.method == LOSS else ""
            about = {
                **common, "model": f"{first.model}, {point}", "training": f"{stage.upper()} of {study.source}{went_on}"
            }  # fmt: skip
            values = {name: [each["test"][name] for each in measured] for name in measured[0]["test"]}
            values["ndcg_gain"] = [a - b["test"]["ndcg"] for a, b in zip(values["ndcg"], base, strict=True)]
            values["validation_ndcg"] = [each["validation"]["ndcg"] for each in measured]
            made += [summaries.of_seeds(each, metric=name, k=K, **about) for name, each in values.items()]
            for name, places in (("non_dominated", front), ("chosen", chosen)):
                made.append(summaries.of_seeds([float((stage, point) in places)], metric=name, k=None, **about))
    return made


def publish(study: Study, found: Findings, made: Sequence[records.Record]) -> None:
    """Writes results.json, results.md and curve.png; prints what was chosen."""
    made = results.write(study.folder, made)
    points.draw(
        study.folder / "curve.png",
        _series(found, made),
        x=("intra-list diversity, genres", "novelty, bits"),
        y=f"NDCG@{K}",
        title=f"{study.first.dataset}, test items; filled: non-dominated on validation",
        joined={point.method for point in next(iter(found.values()))} - {AS_TRAINED, LOSS},
    )
    chosen = {(r.model, r.defence) for r in made if r.metric == "chosen" and r.value}
    shown = (*AIMS, "coverage", "gini", "long_tail_share")
    look = [r for r in made if r.metric in shown and ((r.model, r.defence) in chosen or r.model.endswith(AS_TRAINED))]
    display.records_table([dataclasses.replace(record, interval=None) for record in look], results.table)
    display.say(f"Everything lies in {study.folder}/: results.md, results.json, curve.png")


def _stages(found: Findings) -> dict[str, list[int]]:
    """{stage: its seeds}."""
    stages: dict[str, list[int]] = {}
    for training in found:
        stages.setdefault(training.stage, []).append(training.seed)
    return stages


def _choices(found: Findings, keep: float) -> tuple[set[tuple[str, Point]], set[tuple[str, Point]]]:
    """(stage, point) of those that are chosen, and of those that are non-dominated, by means on validation."""
    means = {
        (stage, point): np.mean(
            [[found[Training(stage, seed)][point]["validation"][name] for name in AIMS] for seed in seeds], axis=0
        )
        for stage, seeds in _stages(found).items()
        for point in found[Training(stage, seeds[0])]
    }
    kept = tradeoff.non_dominated(np.stack(list(means.values())))
    front = {place for place, is_kept in zip(means, kept, strict=True) if is_kept}
    chosen = set()
    for stage in _stages(found):
        base = means[stage, Point(AS_TRAINED, "")]
        for method in dict.fromkeys(point.method for of, point in means if of == stage and point.method != AS_TRAINED):
            places = [place for place in means if place[0] == stage and place[1].method == method]
            shares = np.stack([means[place] for place in places]) / np.maximum(base, 1e-12)
            best = tradeoff.furthest_within(shares[:, 1:].sum(axis=1).tolist(), shares[:, 0].tolist(), at_least=keep)
            chosen |= set() if best is None else {places[best]}
    return chosen, front


def _series(found: Findings, made: Sequence[records.Record]) -> dict[str, list[points.Point]]:
    """The points of each stage and method, for the picture."""
    values = {(r.defence, r.model, r.metric): r.value for r in made}
    series: dict[str, list[points.Point]] = {}
    for record in made:
        if record.metric == "ndcg":
            of = lambda name, record=record: values[record.defence, record.model, name]
            method = next(point.method for point in next(iter(found.values())) if record.model.endswith(f", {point}"))
            shown = points.Point((of(AIMS[1]), of(AIMS[2])), of("ndcg"), bool(of("non_dominated")))
            series.setdefault(f"{record.defence or 'BPR'}, {method}", []).append(shown)
    return series
