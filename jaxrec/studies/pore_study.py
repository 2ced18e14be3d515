"""An experiment on a bagged recommender: its votes, kept piece by piece, certified, and cast anew among fake users."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec import bagging, display, fake_profiles, files, profiles, provenance, records, results, statistics
from jaxrec.certificates import pore
from jaxrec.run_directory import Run
from jaxrec.studies import study
from jaxrec.types import Interactions, Poison

PIECE = 100  # base models that are cast, and kept, at once
ANY = "any (certified)"
METRICS = ("precision", "recall", "f1")

Kept = Mapping[tuple[str | None, int], np.ndarray]  # (attack or None, fake users) -> relevant items listed, [U]


class Setting(NamedTuple):
    """What is bagged and certified.

    Attributes:
        data: For its words.
        known: The real users' interactions, which are trained on and not recommended again.
        held_out: Their relevant items.
        ensemble: How base models are made.
        num_models: T.
        k: Length of the lists.
        alpha: Probability that the certificate is wrong anywhere.
        seed: Of the base models' samples, and of the attacks.
    """

    data: study.Data
    known: Interactions
    held_out: Interactions
    ensemble: bagging.Ensemble
    num_models: int
    k: int
    alpha: float
    seed: int

    @property
    def relevant(self) -> np.ndarray:
        """bool [U, I]."""
        return profiles.matrix(self.held_out).toarray() > 0

    @property
    def candidates(self) -> np.ndarray:
        """bool [U, I]: what the users do not know."""
        return profiles.matrix(self.known).toarray() == 0

    @property
    def measured(self) -> np.ndarray:
        """bool [U]: who has a relevant item."""
        return np.isin(np.arange(self.known.num_users), self.held_out.users)


def counts(run: Run, setting: Setting, name: str, interactions: Interactions) -> np.ndarray:
    """Votes [U, I] for the real users of base models that are trained on `interactions`, which begin with them.

    A piece that lies in votes/ is not cast again. timings.jsonl gets a line for each that is.
    """
    folder, total, bag = run.path / "votes", np.zeros(setting.candidates.shape, np.int64), None
    folder.mkdir(exist_ok=True)
    pieces = range(0, setting.num_models, PIECE)
    with display.counting(f"{name}: base models, hundreds", len(pieces)) as report:
        for first in pieces:
            num = min(PIECE, setting.num_models - first)
            path = folder / f"{files.stem(name)}-{first}-{num}.npy"
            if not path.exists():
                compiles, bag = bag is None, bag or bagging.prepare(interactions)
                taken = _cast(path, bag, setting, first, num)
                run.timings.write({"votes": name, "models": num, "compiles": compiles, **taken})
            total += bagging.count(np.load(path), setting.known.num_items)
            report(first)
    return total


def _cast(path: pathlib.Path, bag: bagging.Bag, setting: Setting, first: int, num: int) -> dict[str, float]:
    """Writes the votes of a piece, whole or not at all; the seconds that they took."""
    clock, cpu = time.perf_counter(), time.process_time()
    votes = bagging.votes(
        bag,
        jax.random.key(setting.seed),
        first,
        ensemble=setting.ensemble,
        num_models=num,
        num_served=setting.known.num_users,
    )
    votes = np.asarray(votes)
    taken = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    with files.whole(path) as file:
        np.save(file, votes)
    return taken


def seconds_per_thousand(run: Run) -> dict[str, float]:
    """{"seconds", "cpu_seconds"} of 1,000 base models, over all pieces but those that were compiled first."""
    lines = [json.loads(line) for line in (run.path / "timings.jsonl").read_text().splitlines()]
    warm = [line for line in lines if not line["compiles"]] or lines
    models = sum(line["models"] for line in warm)
    return {name: 1000 * sum(line[name] for line in warm) / models for name in ("seconds", "cpu_seconds")}


def certified(setting: Setting, votes: np.ndarray, num_fakes: Sequence[int]) -> Kept:
    """How many relevant items stay listed whatever so many fakes do, for each user who has some."""
    of = setting.measured
    relevant, candidates = setting.relevant[of], setting.candidates[of]
    kept = pore.certify(
        pore.bounds(votes[of], relevant, num_models=setting.num_models, alpha=setting.alpha),
        relevant,
        candidates,
        num_users=setting.known.num_users,
        num_sampled=setting.ensemble.num_sampled,
        num_recommended=setting.ensemble.num_recommended,
        num_fakes=num_fakes,
        k=setting.k,
    )
    return {(ANY, num): kept[:, place] for place, num in enumerate(num_fakes)}


def listed(setting: Setting, votes: np.ndarray) -> np.ndarray:
    """How many relevant items the votes list, for each user who has some."""
    of = setting.measured
    return pore.listed(votes[of], setting.relevant[of], setting.candidates[of], k=setting.k)


def runners_up(setting: Setting, votes: np.ndarray, num: int) -> np.ndarray:
    """The items with most votes of users whose lists they miss and to whom they are not relevant, ascending.

    Who pushes them replaces relevant items with the least effort; it takes the votes and the held-out items to know.
    """
    open_votes = np.where(setting.candidates, votes, -1)
    last = -np.partition(-open_votes, setting.k - 1, axis=1)[:, setting.k - 1 : setting.k]
    missed = np.where((open_votes < last) & ~setting.relevant, open_votes, 0).clip(min=0)
    return np.sort(np.argsort(-missed.sum(axis=0), kind="stable")[:num])


def contaminated(setting: Setting, poison: Poison, targets: np.ndarray) -> Interactions:
    """The real users and an attack's fakes after them."""
    key = jax.random.fold_in(jax.random.key(setting.seed), 1)
    return fake_profiles.contaminate(setting.known, poison(key, setting.known, targets))


def records_of(experiment: str, setting: Setting, kept: Kept) -> list[records.Record]:
    """Means over users, with their t intervals."""
    made, num_relevant = [], setting.relevant[setting.measured].sum(axis=1)
    samples = f"{setting.num_models:,} base models of {setting.ensemble.num_sampled} users each"
    common: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(records.Record)) | {
        "experiment": experiment, "model": "bagged EASE", "dataset": setting.data.title,
        "split": setting.data.split_title, "protocol": "all items unknown to the user, ties against relevant ones",
        "k": setting.k, "seeds": (setting.seed,), "users": len(num_relevant),
        "training": f"{samples}, {setting.ensemble.num_recommended} items a vote, l2 {setting.ensemble.l2:g}",
        "device": provenance.device(), "commit": provenance.commit(),
        "fingerprint": setting.data.fingerprint["sha256"],
    }  # fmt: skip
    for (attack, num_fakes), items in kept.items():
        adversary = {
            "attack": attack, "surface": "fake users", "epsilon": num_fakes / setting.known.num_users,
            "epsilon_unit": "of users", "oracle": f"any profiles; alpha {setting.alpha:g}" if attack == ANY else None,
        }  # fmt: skip
        for metric, values in pore.figures(items, num_relevant, setting.k).items():
            mean = statistics.summary(values)
            found = {"metric": metric, "value": mean.mean, "interval": mean.interval}
            made.append(records.Record(**{**common, **(adversary if attack else {}), **found}))
    return made


def table(found: Sequence[records.Record], num_users: int) -> str:
    """In Markdown, a row for each number of fakes that something was attacked with, beside some that were certified."""
    of = {(r.attack, round((r.epsilon or 0) * num_users), r.metric): r for r in found}
    attacks = list(dict.fromkeys(r.attack for r in found if r.attack))
    numbers = sorted({num for _, num, _ in of})
    shown = {num for attack, num, _ in of if attack != ANY} | {
        num for num in numbers if num in (1, 2, 3) or num % 5 == 0
    }
    k = found[0].k
    heads = ["fake users", *(f"{metric}@{k}, {attack}" for metric in METRICS for attack in attacks)]
    lines = []
    clean = ", ".join(f"{metric}@{k} {results.cell_of(of[None, 0, metric])}" for metric in METRICS)
    for num in sorted(shown):
        cells = [of.get((attack, num, metric)) for metric in METRICS for attack in attacks]
        lines.append([str(num), *(f"{r.value:.4f}" if r else "" for r in cells)])
    return f"Clean: {clean}\n\n{results.markdown(results.Table([], heads, lines))}\n"
