"""What detectors that learn from the defender's own fakes are worth on others: of kinds they have not seen, and of an
attacker who knows them; and whether fakes that the defender perturbs against the detector itself help.

All detectors are asked as in life: who is a fake among users whom they take for real. A threshold comes from the table
as it was before the attack: the suspicion that a share of its users, all taken for real, exceed.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import sklearn.metrics

from jaxrec import display, fake_files, fake_profiles, files, poison_evaluation, splits
from jaxrec.detectors import classifier
from jaxrec.fake_profiles import Direction
from jaxrec.poisoning import adaptive
from jaxrec.studies import poison_study, study
from jaxrec.studies.poison_victims import Victim
from jaxrec.types import Detector, Interactions, Key, Poison

UNSEEN, SEEN = "all other kinds", "all kinds"  # what a detector learned from
PLAIN, OVERSAMPLED, HARDENED = "plain", "oversampled", "hardened"
GENERATED = "generated"  # the kind that hardening adds beside perturbed fakes


class Setting(NamedTuple):
    """What is measured on what.

    Attributes:
        data: Read as implicit feedback; training and validation interactions are known to all.
        kinds: {name: (number of fakes, direction) -> poison}, with all that `plain`, `start` and `GENERATED` name.
        tested: The kinds that are left out in turn.
        plain: The kinds that detectors which are to be hardened learn from.
        start: The kind that adaptive fakes begin as.
        estimators: {name: as of `classifier.detector`}.
        references: {name: detector} without labels.
        victim: Whom pushes are measured on.
        num_fakes: Of the attacker.
        num_own: Of the defender, of each kind.
        num_exchanges: Of an adaptive fake, the attacker's or the defender's.
        num_targets: Of the head, drawn for each seed.
        rate: Share of users taken for real above the threshold.
        cutoff: Of the targets' hit ratio.
    """

    data: study.Data
    kinds: Mapping[str, Callable[[int, Direction], Poison]]
    tested: Sequence[str]
    plain: Sequence[str]
    start: str
    estimators: Mapping[str, Any]
    references: Mapping[str, Detector]
    victim: Victim
    num_fakes: int
    num_own: int
    num_exchanges: int
    num_targets: int
    rate: float
    cutoff: int = 50

    @property
    def known(self) -> Interactions:
        return dataclasses.replace(splits.joined(self.data.split.train, self.data.split.valid), ratings=None)

    def targets(self, seed: int) -> np.ndarray:
        return poison_study.draw_targets(self.known, num=self.num_targets, seed=seed)["head"]


class Row(NamedTuple):
    """What a detector made of an attack: which it was, what it learned from, and figures."""

    model: str
    learned: str | None
    attack: str
    figures: dict[str, float]


def run(directory: pathlib.Path, setting: Setting, *, seeds: Sequence[int]) -> None:
    """Fills fakes/ and measured/, a file for each seed and kind left out or estimator hardened; what is there stays."""
    for folder in ("fakes", "measured"):
        (directory / folder).mkdir(exist_ok=True)
    with display.counting("cells", len(seeds) * (len(setting.tested) + len(setting.estimators))) as report:
        for seed in seeds:
            limit = functools.cache(functools.partial(threshold, setting))  # of detectors that are asked more than once
            whole = {
                name: learner(setting, name, [own(directory, setting, kind, seed) for kind in setting.tested], seed)
                for name in setting.estimators
            }
            for cell in (*setting.tested, *setting.estimators):
                if not (path := path_of(directory, cell, seed)).exists():
                    if cell in setting.tested:
                        rows = left_out(directory, setting, cell, seed, whole, limit)
                    else:
                        rows = hardened(directory, setting, cell, seed)
                    files.write_json(path, [row._asdict() for row in rows])
                report(f"{cell}, seed {seed}")


def path_of(directory: pathlib.Path, cell: str, seed: int) -> pathlib.Path:
    """Where the rows of a kind left out, or of an estimator hardened, are kept."""
    return directory / "measured" / f"{files.stem(cell)}-{seed}.json"


def attackers(directory: pathlib.Path, setting: Setting, kind: str, seed: int) -> Interactions:
    """The fakes of an attacker, for targets of the head."""
    poison = setting.kinds[kind](setting.num_fakes, "push")
    key = jax.random.fold_in(jax.random.key(seed), 1)
    return _kept(directory, f"attack-{kind}-{seed}", lambda: poison(key, setting.known, setting.targets(seed)))


def own(directory: pathlib.Path, setting: Setting, kind: str, seed: int, draw: int = 0) -> Interactions:
    """The defender's own fakes of a kind, for targets drawn at random; other ones for each `draw`."""
    poison, place = setting.kinds[kind](setting.num_own, "push"), (*setting.kinds,).index(kind)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), classifier.OWN_KEY + draw), place)
    targets = own_targets(setting, kind, seed, draw)
    return _kept(directory, f"own-{kind}-{draw}-{seed}", lambda: poison(key, setting.known, targets))


def own_targets(setting: Setting, kind: str, seed: int, draw: int = 0) -> np.ndarray:
    """The targets of the defender's own fakes of a kind."""
    rng = np.random.default_rng((seed, classifier.OWN_KEY, (*setting.kinds,).index(kind), draw))
    return rng.permutation(setting.known.num_items)[: setting.num_targets]


def learner(setting: Setting, estimator: str, fakes: Sequence[Interactions], seed: int) -> Detector:
    """The detector that learns from these fakes."""
    return classifier.detector(make=replayed(fakes), estimator=setting.estimators[estimator], seed=seed)


def replayed(fakes: Sequence[Interactions]) -> Callable[[int], list[Poison]]:
    """`make` of `classifier.detector` for fakes that are there already, whatever number it asks for."""
    return lambda _: [again(part) for part in fakes]


def again(fakes: Interactions) -> Poison:
    """The poison that makes these, whatever is attacked."""

    def poison(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        return fakes

    return poison


def threshold(setting: Setting, detector: Detector) -> float:
    """What the share `rate` of users exceeds before there is an attack; each is judged by what has not seen them."""
    return float(np.quantile(detector(setting.known), 1 - setting.rate))


def judged(setting: Setting, detector: Detector, limit: float, fakes: Interactions) -> dict[str, float]:
    """AUC; and recall, precision (0 if nobody is suspected) and the false positives' share at the threshold."""
    data = fake_profiles.contaminate(setting.known, fakes)
    is_fake, suspicion = fake_profiles.is_fake(data, fakes), detector(data)
    above = suspicion > limit
    return {
        "auc": float(sklearn.metrics.roc_auc_score(is_fake, suspicion)),
        "recall": float(above[is_fake].mean()),
        "false_positive_rate": float(above[~is_fake].mean()),
        "precision": float((above & is_fake).sum() / max(above.sum(), 1)),
    }


def left_out(
    directory: pathlib.Path,
    setting: Setting,
    kind: str,
    seed: int,
    whole: Mapping[str, Detector],
    limit: Callable[[Detector], float],
) -> list[Row]:
    """A kind against detectors that learned from the others, those that learned from all, and those without labels."""
    fakes = attackers(directory, setting, kind, seed)
    others = [own(directory, setting, other, seed) for other in setting.tested if other != kind]
    rows = []
    for name in setting.estimators:
        detector = learner(setting, name, others, seed)
        rows.append(Row(name, UNSEEN, kind, judged(setting, detector, threshold(setting, detector), fakes)))
        rows.append(Row(name, SEEN, kind, judged(setting, whole[name], limit(whole[name]), fakes)))
    return rows + [
        Row(name, None, kind, judged(setting, detector, limit(detector), fakes))
        for name, detector in setting.references.items()
    ]


def hardened(directory: pathlib.Path, setting: Setting, estimator: str, seed: int) -> list[Row]:
    """A detector, one of as many more plain fakes, and one of generated fakes and fakes perturbed against the first."""
    known, targets = setting.known, setting.targets(seed)
    of = functools.partial(own, directory, setting, seed=seed)
    plain = [of(kind) for kind in setting.plain]

    def against(fakes, own_fakes, name, targets):
        knows = {"make": replayed(own_fakes), "estimator": setting.estimators[estimator], "seed": seed}
        poison = adaptive.wrap(again(fakes), num_exchanges=setting.num_exchanges, **knows)
        return _kept(directory, f"{name}-{estimator}-{seed}", lambda: poison(jax.random.key(seed), known, targets))

    perturbed = [
        against(part, plain, f"perturbed-{kind}", own_targets(setting, kind, seed))
        for kind, part in zip(setting.plain, plain, strict=True)
    ]
    more = [of(kind, draw=1) for kind in setting.plain] + [of(setting.plain[0], draw=2)]
    on = poison_evaluation.bench(known, setting.data.split.test, targets)
    begun = attackers(directory, setting, setting.start, seed)
    before, after = (_hit_rate(setting, on, part) for part in (None, begun))
    rows = []
    for regime, learned_from in {
        PLAIN: plain,
        OVERSAMPLED: plain + more,
        HARDENED: [*plain, of(GENERATED), *perturbed],
    }.items():
        detector = learner(setting, estimator, learned_from, seed)
        judge = functools.partial(judged, setting, detector, threshold(setting, detector))
        seen = [judge(attackers(directory, setting, kind, seed)) for kind in setting.plain]
        rows.append(Row(estimator, regime, PLAIN, {name: float(np.mean([x[name] for x in seen])) for name in seen[0]}))
        rows.append(Row(estimator, regime, setting.start, judge(begun) | {"push": after - before}))
        adapted = against(begun, learned_from, f"adaptive-{regime}", targets)
        push = _hit_rate(setting, on, adapted) - before
        rows.append(Row(estimator, regime, f"{setting.start}, adaptive", judge(adapted) | {"push": push}))
    return rows


def _hit_rate(setting: Setting, on: poison_evaluation.Bench, fakes: Interactions | None) -> float:
    """Of the targets, in the victim trained with the fakes, or without."""
    data = setting.known if fakes is None else fake_profiles.contaminate(setting.known, fakes)
    model, params = setting.victim(data, jax.random.key(0))
    found = poison_evaluation.figures(poison_evaluation.measure(model, params, on), (setting.cutoff,))
    return found[f"target_hit_rate@{setting.cutoff}"]


def _kept(directory: pathlib.Path, name: str, make: Callable[[], Interactions]) -> Interactions:
    """Fakes from their file, which is made if it is not there."""
    path = directory / "fakes" / f"{files.stem(name)}.npz"
    if not path.exists():
        fake_files.write(path, make(), {"name": name})
    return fake_files.read(path)[0]
