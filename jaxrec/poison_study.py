"""An experiment on poisoning: attacks crafted and kept, victims trained anew on each, detectors asked, all resumed."""

import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import sklearn.metrics

from jaxrec import (
    display,
    fake_files,
    fake_profiles,
    files,
    poison_evaluation,
    provenance,
    records,
    recovery,
    splits,
    statistics,
    study,
)
from jaxrec.fake_profiles import Direction
from jaxrec.poison_victims import Victim
from jaxrec.types import Detector, InputError, Interactions, Key, Poison

DEFENCES = ("removal", "down-weighting")
LEADING = "target_hit_rate_change@50"


class Case(NamedTuple):
    """One attack: its name, what for, which targets ("head", "tail"), and fakes as a share of real users."""

    attack: str
    direction: Direction
    group: str
    share: float

    @property
    def words(self) -> str:
        return f"{self.attack}, {self.direction} {self.group}"


class Setting(NamedTuple):
    """What a table is made on.

    Attributes:
        data: With ratings; training and validation interactions are what attackers and victims know.
        make: {attack: (number of fakes, direction) -> poison}.
        victims: {name: victim}, of implicit feedback.
        detectors: {name: detector}; the first one's suspicion is what defences go by.
        targets: {group: items}.
        defended: Attacks whose pushes, at the largest budget, defences are tried on.
        cutoffs: Of all that is ranked.
    """

    data: study.Data
    make: Mapping[str, Callable[[int, Direction], Poison]]
    victims: Mapping[str, Victim]
    detectors: Mapping[str, Detector]
    targets: Mapping[str, np.ndarray]
    defended: Sequence[str] = ()
    cutoffs: Sequence[int] = poison_evaluation.CUTOFFS

    @property
    def rated(self) -> Interactions:
        return splits.joined(self.data.split.train, self.data.split.valid)

    @property
    def known(self) -> Interactions:
        return dataclasses.replace(self.rated, ratings=None)


def draw_targets(known: Interactions, *, num: int, seed: int) -> dict[str, np.ndarray]:
    """{"head": items, "tail": items}, `num` of each, drawn from `splits.tail_items` and the others; each has a user.

    Raises:
        InputError: If there are fewer.
    """
    tail, has_user = splits.tail_items(known), np.bincount(known.items, minlength=known.num_items) > 0
    drawn = {}
    for place, (group, pool) in enumerate({"head": ~tail & has_user, "tail": tail & has_user}.items()):
        if pool.sum() < num:
            raise InputError(f"Expected at least {num} items in the {group}, got {int(pool.sum())}.")
        drawn[group] = np.sort(np.random.default_rng((seed, place)).choice(np.flatnonzero(pool), num, replace=False))
    return drawn


def run(directory: pathlib.Path, setting: Setting, cases: Sequence[Case], *, seeds: Sequence[int]) -> None:
    """Fills the run directory: attacks/, detected/, measured/ and defended/.

    A file is there whole or not at all, and what is there is not made again.
    """
    for folder in ("attacks", "detected", "measured", "defended"):
        (directory / folder).mkdir(exist_ok=True)
    benches = {
        group: poison_evaluation.bench(setting.known, setting.data.split.test, targets)
        for group, targets in setting.targets.items()
    }
    work = [(seed, case) for seed in seeds for case in cases]
    with display.counting("attacks", len(work)) as report:
        for seed, case in work:
            _clean(directory, setting, benches, seed)
            fakes = crafted(directory, setting, case, seed, rated=False)
            _detect(directory, setting, case, seed)
            data = fake_profiles.contaminate(setting.known, fakes)
            for name, victim in setting.victims.items():
                key = jax.random.key(seed)
                measure = functools.partial(_measured, victim, key, benches[case.group], setting.cutoffs, data)
                _once(_path(directory, "measured", name, case, seed), lambda: measure(data))  # noqa: B023
                if _is_defended(setting, case, cases):
                    for defence, made in _defended(setting, data, seed):
                        path = _path(directory, "defended", f"{name}-{defence}", case, seed)
                        _once(path, lambda: measure(made()))  # noqa: B023
            report(case)


def crafted(directory: pathlib.Path, setting: Setting, case: Case, seed: int, *, rated: bool) -> Interactions:
    """The fakes of a case, from its attack file, which is made if it is not there."""
    path = _path(directory, "attacks", "rated" if rated else "implicit", case, seed).with_suffix(".npz")
    if not path.exists():
        known = setting.rated if rated else setting.known
        poison = setting.make[case.attack](round(case.share * known.num_users), case.direction)
        key = jax.random.fold_in(jax.random.key(seed), 1)
        targets = setting.targets[case.group]
        about = {**case._asdict(), "seed": seed, "targets": targets.tolist(), "of": provenance.fingerprint(known)}
        fake_files.write(path, poison(key, known, targets), about)
    return fake_files.read(path)[0]


def _clean(directory: pathlib.Path, setting: Setting, benches: Mapping[str, Any], seed: int) -> None:
    """Measures each victim without an attack, on both groups of targets."""
    for name, victim in setting.victims.items():
        path = directory / "measured" / f"{files.stem(name)}-clean-{seed}.json"
        if not path.exists():
            model, params = victim(setting.known, jax.random.key(seed))
            found = {
                group: poison_evaluation.figures(poison_evaluation.measure(model, params, on), setting.cutoffs)
                for group, on in benches.items()
            }
            files.write_json(path, found)


def _measured(
    victim: Victim, key: Key, on: poison_evaluation.Bench, cutoffs: Sequence[int], all_known: Interactions, train: Any
) -> dict[str, float]:
    """The figures of a victim trained on `train` that serves users of whom it knows everything."""
    model, params = victim(train, key)
    params = params if train is all_known else model.knowing(params, all_known)
    return poison_evaluation.figures(poison_evaluation.measure(model, params, on), cutoffs)


def _detect(directory: pathlib.Path, setting: Setting, case: Case, seed: int) -> None:
    """Keeps each detector's AUC, on ratings and on implicit feedback, and how far the fakes lie from real users."""

    def found() -> dict[str, float]:
        values = {}
        for kind, known in (("ratings", setting.rated), ("implicit", setting.known)):
            fakes = crafted(directory, setting, case, seed, rated=kind == "ratings")
            data = fake_profiles.contaminate(known, fakes)
            for name, detector in setting.detectors.items():
                auc = sklearn.metrics.roc_auc_score(fake_profiles.is_fake(data, fakes), detector(data))
                values[f"{name}, {kind}"] = float(auc)
            of_fakes, of_real = poison_evaluation.distances(known, fakes)
            values[f"distance, {kind}"] = float(of_fakes.mean() - of_real.mean())
        return values

    _once(_path(directory, "detected", "all", case, seed), found)


def _defended(setting: Setting, data: Interactions, seed: int) -> Iterator[tuple[str, Callable[[], Interactions]]]:
    """Each defence, and the training data that it leaves: it knows the attack's share, but not who is a fake."""
    suspicion = functools.cache(lambda: next(iter(setting.detectors.values()))(data))
    share = 1 - setting.known.num_users / data.num_users
    yield "removal", lambda: recovery.remove(data, suspicion(), share=share)
    yield "down-weighting", lambda: recovery.down_weight(jax.random.key(seed), data, suspicion())


def _is_defended(setting: Setting, case: Case, cases: Sequence[Case]) -> bool:
    """Whether a case is a push with the largest budget by an attack that defences are tried on."""
    largest = max(other.share for other in cases)
    return case.attack in setting.defended and case.direction == "push" and case.share == largest


def _path(directory: pathlib.Path, folder: str, name: str, case: Case, seed: int) -> pathlib.Path:
    words = (name, case.attack, case.direction, case.group, f"{case.share:g}")
    return directory / folder / f"{'-'.join(map(files.stem, words))}-{seed}.json"


def _once(path: pathlib.Path, make: Callable[[], dict[str, float]]) -> None:
    if not path.exists():
        files.write_json(path, make())


def records_of(
    directory: pathlib.Path, setting: Setting, cases: Sequence[Case], *, seeds: Sequence[int], experiment: str
) -> list[records.Record]:
    """Everything that `run` has put there: victims clean and attacked, defended ones, and detectors."""
    fingerprint = setting.data.fingerprint["sha256"]
    num_targets = len(next(iter(setting.targets.values())))
    common: dict[str, Any] = {
        "dataset": setting.data.title, "split": setting.data.split_title, "fingerprint": fingerprint,
        "protocol": f"all unseen items, ties against; {num_targets} targets at once, over users who know none of each",
        "experiment": experiment, "device": provenance.device(), "commit": provenance.commit(), "step": None,
        "seeds": tuple(seeds), "users": setting.known.num_users, "chosen_by": None, "training": None,
    }  # fmt: skip
    nobody = dict.fromkeys(("attack", *records.ADVERSARY))
    adversary = lambda case: nobody | {
        "attack": case.words, "surface": "fake users", "epsilon": case.share, "epsilon_unit": "of users"
    }  # fmt: skip
    read = lambda folder, name, case: [
        json.loads(_path(directory, folder, name, case, seed).read_text()) for seed in seeds
    ]
    made = []
    for victim in setting.victims:
        paths = [directory / "measured" / f"{files.stem(victim)}-clean-{seed}.json" for seed in seeds]
        clean = [json.loads(path.read_text()) for path in paths]
        own = [{name: x for name, x in one["head"].items() if not _of_targets(name)} for one in clean]
        made += _records(own, model=victim, defence=None, **common, **nobody)
        for case in cases:
            before = [one[case.group] for one in clean]
            attacked = read("measured", victim, case)
            rows = [(None, attacked)]
            if _is_defended(setting, case, cases):
                rows += [(name, read("defended", f"{victim}-{name}", case)) for name in DEFENCES]
            for defence, after in rows:
                shown = [
                    {name: x for name, x in one.items() if name != "target_score"}
                    | poison_evaluation.changes(start, one)
                    for start, one in zip(before, after, strict=True)
                ]
                made += _records(shown, model=victim, defence=defence, **common, **adversary(case))
                if defence:  # of the means over seeds: where a seed's attack moved little, its share is any number
                    share = poison_evaluation.recovered(*map(_means, (before, attacked, after)))
                    taken = {_changed(name): x for name, x in share.items() if "@" in name and np.isfinite(x)}
                    made += _records([taken], model=victim, defence=defence, **common, **adversary(case))
    for case in cases:
        found = read("detected", "all", case)
        for name in found[0]:
            metric = "excess_distance" if name.startswith("distance") else "auc"
            values = [{metric: one[name]} for one in found]
            model = f"detector: {name}" if metric == "auc" else f"profiles: {name}"
            made += _records(values, model=model, defence=None, **common, **adversary(case))
    return made


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure's mean over seeds."""
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _changed(name: str) -> str:
    return name.replace("@", "_recovered@")


def _of_targets(name: str) -> bool:
    return name.startswith(("target", "exposure"))


def _records(found: Sequence[Mapping[str, float]], **fields: Any) -> list[records.Record]:
    """A record of each figure, its mean over seeds with their interval."""
    made = []
    for name in found[0]:
        metric, _, k = name.partition("@")
        summary = statistics.summary(np.array([one[name] for one in found]))
        interval = None if summary.num == 1 else (summary.low, summary.high)
        made.append(
            records.Record(metric=metric, k=int(k) if k else None, value=summary.mean, interval=interval, **fields)
        )
    return made


def page(found: Sequence[records.Record], cutoff: int) -> str:
    """The table in Markdown: a row for each attack and budget; by how many points it moved the targets' hit ratio on
    each victim, with its interval over seeds, and the AUC of each detector on the same fakes, on ratings.
    """
    of = {(r.attack, r.epsilon, r.defence, r.model, r.metric, r.k): r for r in found}
    models = list(dict.fromkeys(r.model for r in found))
    victims = [name for name in models if ":" not in name]
    detectors = [name for name in models if name.startswith("detector")]
    rows = dict.fromkeys((r.attack, r.epsilon, r.defence) for r in found if r.attack)

    def points(row, victim):
        record = of[(*row, victim, "target_hit_rate_change", cutoff)]
        around = f" ± {100 * (record.interval[1] - record.value):.1f}" if record.interval else ""
        return f"{100 * record.value:+.1f}{around}"

    heads = ["attack", "fakes", "defence", *victims, *(name.removeprefix("detector: ") for name in detectors)]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        aucs = [of.get((*row[:2], None, name, "auc", None)) for name in detectors]
        shown = [f"{r.value:.2f}" if r and row[2] is None else "" for r in aucs]
        lines.append([row[0], f"{row[1]:.1%}", row[2] or "", *(points(row, victim) for victim in victims), *shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cases_of(attacks: Sequence[str], aims: Sequence[tuple[Direction, str]], shares: Sequence[float]) -> list[Case]:
    """Every attack for every aim and budget."""
    return [Case(name, *aim, share) for aim, name, share in itertools.product(aims, attacks, shares)]
