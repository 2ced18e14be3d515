"""What an experiment on poisoning has found, as records and as a page: victims, defences and detectors, over seeds."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrec import display, files, poison_evaluation, provenance, records, results, summaries
from jaxrec.pictures import poisoning
from jaxrec.records import Record
from jaxrec.studies import poison_study
from jaxrec.studies.poison_study import Case, Setting

Figures = Mapping[str, float]  # as of `poison_evaluation.figures`


def publish(
    directory: pathlib.Path, setting: Setting, cases: Sequence[Case], *, seeds: Sequence[int], experiment: str
) -> None:
    """Writes what `poison_study.run` has found into its directory: the records, both pages and the picture."""
    found = results.write(directory, records_of(directory, setting, cases, seeds=seeds, experiment=experiment))
    cutoff = max(setting.cutoffs)
    files.write_text(directory / "targets.md", page(found, cutoff))
    poisoning.draw(directory / "poisoning.png", found, metric="target_hit_rate_change", k=cutoff)
    display.say((directory / "targets.md").read_text())
    display.say(f"Everything lies in {directory}/: targets.md, results.md, results.json, poisoning.png, attacks/")


def records_of(
    directory: pathlib.Path, setting: Setting, cases: Sequence[Case], *, seeds: Sequence[int], experiment: str
) -> list[Record]:
    """Everything that `poison_study.run` has put there: victims clean and attacked, defended ones, and detectors."""
    fingerprint = setting.data.fingerprint["sha256"]
    num_targets = len(next(iter(setting.targets.values())))
    protocol = f"all unseen items, ties against; {num_targets} targets at once, each over users who have it not"
    if setting.defended:
        protocol += "; removal is told the number of fakes: an upper bound on it"
    common: dict[str, Any] = {
        "dataset": setting.data.title, "split": setting.data.split_title, "fingerprint": fingerprint,
        "protocol": protocol, "experiment": experiment, "device": provenance.device(),
        "commit": provenance.commit(), "step": None,
        "seeds": tuple(seeds), "users": setting.known.num_users, "chosen_by": None, "training": None,
    }  # fmt: skip
    read = lambda folder, name, case: [
        files.read_json(poison_study.path_of(directory, folder, name, case, seed)) for seed in seeds
    ]
    made = []
    for victim in setting.victims:
        clean = [files.read_json(poison_study.clean_path(directory, victim, seed)) for seed in seeds]
        own = [{name: x for name, x in one["head"].items() if not _of_targets(name)} for one in clean]
        made += summarised(own, model=victim, defence=None, **common, **records.NOBODY)
        for case in cases:
            rows: dict[str | None, list[Figures]] = {None: read("measured", victim, case)}
            if poison_study.is_defended(setting, case):
                rows |= {name: read("defended", f"{victim}-{name}", case) for name in poison_study.DEFENCES}
            made += _of_case([one[case.group] for one in clean], rows, model=victim, **common, **_adversary(case))
    for case in cases:
        for name, values in _by_name(read("detected", "all", case)).items():
            far = name.startswith("distance")
            found = [{"excess_distance" if far else "auc": value} for value in values]
            model = f"{'profiles' if far else 'detector'}: {name}"
            made += summarised(found, model=model, defence=None, **common, **_adversary(case))
    return made


def _adversary(case: Case) -> dict[str, Any]:
    """What the fields of an adversary say of a case."""
    return records.NOBODY | {
        "attack": case.words, "surface": "fake users", "epsilon": case.share, "epsilon_unit": "of users"
    }  # fmt: skip


def _of_case(before: Sequence[Figures], rows: Mapping[str | None, Sequence[Figures]], **fields: Any) -> list[Record]:
    """Of a victim: the figures after an attack, without a defence (None) and with each, and what they changed by."""
    made = []
    for defence, after in rows.items():
        shown = [
            {name: x for name, x in one.items() if name != "target_score"} | poison_evaluation.changes(start, one)
            for start, one in zip(before, after, strict=True)
        ]
        made += summarised(shown, defence=defence, **fields)
        if defence:  # of the means over seeds: where a seed's attack moved little, its share is any number
            share = poison_evaluation.recovered(*map(_means, (before, rows[None], after)))
            taken = {_changed(name): x for name, x in share.items() if "@" in name and np.isfinite(x)}
            made += summarised([taken], defence=defence, **fields)
    return made


def _by_name(found: Sequence[Figures]) -> dict[str, list[float]]:
    """Each figure's values over seeds."""
    return {name: [one[name] for one in found] for name in found[0]}


def _means(found: Sequence[Figures]) -> dict[str, float]:
    """Each figure's mean over seeds."""
    return {name: float(np.mean(values)) for name, values in _by_name(found).items()}


def _changed(name: str) -> str:
    return name.replace("@", "_recovered@")


def _of_targets(name: str) -> bool:
    return name.startswith(("target", "exposure"))


def summarised(found: Sequence[Figures], **fields: Any) -> list[Record]:
    """A record of each figure, its mean over seeds with their interval."""
    made = []
    for name, values in _by_name(found).items():
        metric, _, k = name.partition("@")
        made.append(summaries.of_seeds(values, metric=metric, k=int(k) if k else None, **fields))
    return made


def page(found: Sequence[Record], cutoff: int) -> str:
    """The table in Markdown: a row for each attack and budget; by how many points it moved the targets' hit ratio on
    each victim, with its interval over seeds, and the AUC of each detector on the same fakes, by kind of feedback.
    """
    of = {(r.attack, r.epsilon, r.defence, r.model, r.metric, r.k): r for r in found}
    models = list(dict.fromkeys(r.model for r in found))
    victims = [name for name in models if ":" not in name]
    detectors = [name for name in models if name.startswith("detector")]
    rows = dict.fromkeys((r.attack, r.epsilon, r.defence) for r in found if r.attack)

    heads = ["attack", "fakes", "defence", *victims, *(name.removeprefix("detector: ") for name in detectors)]
    lines = []
    for row in rows:
        aucs = [of.get((*row[:2], None, name, "auc", None)) for name in detectors]
        shown = [f"{r.value:.2f}" if r and row[2] is None else "" for r in aucs]
        changes = [of[(*row, victim, "target_hit_rate_change", cutoff)] for victim in victims]
        lines.append([row[0], f"{row[1]:.1%}", row[2] or "", *map(points, changes), *shown])
    return results.markdown(results.Table(heads, [], lines)) + "\n"


def points(record: Record | None) -> str:
    """A change in points with its interval, as a cell; nothing where it was not measured."""
    if record is None:
        return ""
    around = f" ± {100 * (record.interval[1] - record.value):.1f}" if record.interval else ""
    return f"{100 * record.value:+.1f}{around}"
