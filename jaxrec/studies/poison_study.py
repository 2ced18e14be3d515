"""An experiment on poisoning: attacks crafted and kept, victims trained anew on each, detectors asked, all resumed."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import sklearn.metrics

from jaxrec import (
    display,
    fake_files,
    fake_profiles,
    files,
    injection,
    poison_evaluation,
    poisoning_training,
    provenance,
    recovery,
    splits,
)
from jaxrec.fake_profiles import Direction
from jaxrec.studies import study
from jaxrec.studies.poison_victims import Victim
from jaxrec.types import Detector, InputError, Interactions, Key, Poison

DEFENCES = ("removal", "down-weighting", "poisoning training")


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
        data: With ratings, or without: detectors then see no more than victims do. Training and validation
            interactions are what attackers and victims know.
        make: {attack: (number of fakes, direction) -> poison}.
        victims: {name: victim}, of implicit feedback.
        detectors: {name: detector}; the first one's suspicion is what defences go by.
        targets: {group: items}.
        surrogate: Whose empirical risk poisoning training lowers; None where nothing is defended.
        defended: Attacks whose pushes defences are tried on.
        unrated: Attacks that read no ratings and are dear: crafted for implicit feedback alone, and seen there alone.
        cutoffs: Of all that is ranked.
    """

    data: study.Data
    make: Mapping[str, Callable[[int, Direction], Poison]]
    victims: Mapping[str, Victim]
    detectors: Mapping[str, Detector]
    targets: Mapping[str, np.ndarray]
    surrogate: injection.Surrogate | None = None
    defended: Sequence[str] = ()
    unrated: Sequence[str] = ()
    cutoffs: Sequence[int] = poison_evaluation.CUTOFFS

    @property
    def rated(self) -> Interactions:
        return splits.joined(self.data.split.train, self.data.split.valid)

    @property
    def known(self) -> Interactions:
        return dataclasses.replace(self.rated, ratings=None)


def cases_of(attacks: Sequence[str], aims: Sequence[tuple[Direction, str]], shares: Sequence[float]) -> list[Case]:
    """Every attack for every aim and budget."""
    return [Case(name, *aim, share) for aim, name, share in itertools.product(aims, attacks, shares)]


def num_fakes(share: float, num_users: int, flag: str) -> int:
    """The share of the users in whole fakes.

    Raises:
        InputError: If that is none; it names the flag.
    """
    if not (num := round(share * num_users)):
        raise InputError(f"Expected {flag} that make one of {num_users} users or more, got {flag} {share}.")
    return num


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
            defended = _defended(setting, data, seed) if is_defended(setting, case) else {}
            for name, victim in setting.victims.items():
                key = jax.random.key(seed)
                measure = functools.partial(_measured, victim, key, benches[case.group], setting.cutoffs, data)
                if not (path := path_of(directory, "measured", name, case, seed)).exists():
                    files.write_json(path, measure(data))
                for defence, made in defended.items():
                    path = path_of(directory, "defended", f"{name}-{defence}", case, seed)
                    if not path.exists():
                        files.write_json(path, measure(made()))
            report(case)


def crafted(directory: pathlib.Path, setting: Setting, case: Case, seed: int, *, rated: bool) -> Interactions:
    """The fakes of a case, from its attack file, which is made if it is not there."""
    path = path_of(directory, "attacks", "rated" if rated else "implicit", case, seed).with_suffix(".npz")
    known = setting.rated if rated else setting.known
    of = provenance.fingerprint(known)
    if not path.exists():
        poison = setting.make[case.attack](round(case.share * known.num_users), case.direction)
        targets = setting.targets[case.group]
        about = {**case._asdict(), "seed": seed, "targets": targets.tolist(), "of": of}
        fake_files.write(path, poison(attack_key(seed), known, targets), about)
    return fake_files.read(path, of=of)[0]


def attack_key(seed: int) -> Key:
    """The key of a seed's attacks; its trainings have `jax.random.key(seed)`."""
    return jax.random.fold_in(jax.random.key(seed), 1)


def _clean(directory: pathlib.Path, setting: Setting, benches: Mapping[str, Any], seed: int) -> None:
    """Measures each victim without an attack, on both groups of targets."""
    for name, victim in setting.victims.items():
        path = clean_path(directory, name, seed)
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
    model, params = victim(train, key, None if train is all_known else all_known)
    return poison_evaluation.figures(poison_evaluation.measure(model, params, on), cutoffs)


def _detect(directory: pathlib.Path, setting: Setting, case: Case, seed: int) -> None:
    """Keeps each detector's AUC, on ratings where there are some and on implicit feedback, and how far fakes lie from
    real users.
    """

    path = path_of(directory, "detected", "all", case, seed)
    if path.exists():
        return
    values = {}
    rated = setting.rated.ratings is not None and case.attack not in setting.unrated
    kinds = {"ratings": setting.rated} if rated else {}
    for kind, known in {**kinds, "implicit": setting.known}.items():
        fakes = crafted(directory, setting, case, seed, rated=kind == "ratings")
        data = fake_profiles.contaminate(known, fakes)
        for name, detector in setting.detectors.items():
            auc = sklearn.metrics.roc_auc_score(fake_profiles.is_fake(data, fakes), detector(data))
            values[f"{name}, {kind}"] = float(auc)
        of_fakes, of_real = poison_evaluation.distances(known, fakes)
        values[f"distance, {kind}"] = float(of_fakes.mean() - of_real.mean())
    files.write_json(path, values)


def _defended(setting: Setting, data: Interactions, seed: int) -> dict[str, Callable[[], Interactions]]:
    """Each defence, and the training data that it makes, once: it knows the attack's share, but not who is a fake.

    No defender knows that share: what removal does here is an upper bound on it. Poisoning training adds as many users
    as there are fakes. Figures are of the real users, so that they are in none.
    """
    suspicion = functools.cache(lambda: next(iter(setting.detectors.values()))(data))
    share = 1 - setting.known.num_users / data.num_users
    key, num_fakes = jax.random.key(seed), data.num_users - setting.known.num_users
    add = functools.partial(poisoning_training.add, num_added=num_fakes, surrogate=setting.surrogate)
    made = {
        "removal": lambda: recovery.remove(data, suspicion(), share=share),
        "down-weighting": lambda: recovery.down_weight(key, data, suspicion()),
        "poisoning training": lambda: add(jax.random.fold_in(key, 2), data),
    }
    return {name: functools.cache(make) for name, make in made.items()}


def is_defended(setting: Setting, case: Case) -> bool:
    """Whether a case is a push by an attack that defences are tried on."""
    return case.attack in setting.defended and case.direction == "push"


def clean_path(directory: pathlib.Path, victim: str, seed: int) -> pathlib.Path:
    """Where a victim without an attack is kept, measured on each group of targets: {group: figures}."""
    return directory / "measured" / f"{files.stem(victim)}-clean-{seed}.json"


def path_of(directory: pathlib.Path, folder: str, name: str, case: Case, seed: int) -> pathlib.Path:
    """Where what `run` has found of a case is kept: in one of its folders, by the name of a victim or of a kind."""
    words = (name, case.attack, case.direction, case.group, f"{case.share:g}")
    return directory / folder / f"{'-'.join(map(files.stem, words))}-{seed}.json"
