"""Settles claims about adversarial training: continuations of the same BPR, measured clean, under noise and attack.

An `Arm` is a way of going on, with the settings that are traced in it; all its models are one sweep. After each of its
`looks`, epochs, every model takes each `Exam`. Nothing is chosen: what is compared is a number of epochs that was
fixed before. Measurements are kept; a study that was stopped goes on at the next model.
"""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

from jaxrec import (
    display,
    evaluate,
    exposure,
    files,
    measurements,
    objectives,
    robustness,
    summaries,
    surfaces,
    sweep,
    worst_of,
)
from jaxrec.attacks import fgsm, pgd
from jaxrec.models import mf
from jaxrec.robustness import Measurement
from jaxrec.studies import attack_tables, continued, study
from jaxrec.studies.continued import Setting
from jaxrec.types import Interactions, Key, PyTree, Split

SURFACE = surfaces.tables("user", "item")
STRONGEST = ("FGSM", "PGD-10")  # of which the one that raises the loss more is the worst of them
WORST, NOISE = "worst of FGSM and PGD-10", "noise, worse of 2 draws"
ATTACKS: Mapping[str, robustness.MakeAttack] = {
    NOISE: lambda epsilon: worst_of.control(len(STRONGEST), epsilon=epsilon),
    "FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon),
    "PGD-10": lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=10),
}
Items = Literal["test", "valid", "train"]


class Arm(NamedTuple):
    """A way of going on.

    Attributes:
        name: Of the records; "BPR continued" for the control.
        make: A setting's traced fields -> objective.
        settings: What varies.
        looks: Epochs after which the models are measured, ascending.
    """

    name: str
    make: continued.Make
    settings: tuple[Setting, ...]
    looks: tuple[int, ...]

    def models(self, items: Items = "test") -> list["Which"]:
        """All of them, look by look."""
        return [Which(self.name, setting, epochs, items) for epochs in self.looks for setting in self.settings]


class Exam(NamedTuple):
    """Which items are ranked, and the attacks and relative epsilons under which they are, beside clean.

    Attributes:
        items: The test items; the validation items, of which the model knows no more than of those; or for each user
            one training item, among the same unseen items: what the model has learned by heart.
    """

    items: Items
    attacks: Mapping[str, robustness.MakeAttack]
    epsilons: tuple[float, ...]


class Which(NamedTuple):
    """One model but for its seed, and the items it ranked."""

    arm: str
    setting: Setting
    epochs: int
    items: Items = "test"

    def __str__(self) -> str:
        setting = f", {self.setting}" if self.setting != continued.CONTROL else ""
        return f"{self.arm}{setting}, {self.epochs} epochs"


Found = dict[Which, list[list[Measurement]]]  # for each seed the conditions, the clean one first


def start_of(config: Any, data: study.Data) -> continued.Start:
    """BPR of the config's `epochs`, `dimension`, `learning_rate`, and `num_seeds` seeds from `seed` on."""
    train = data.split.train
    return continued.Start(
        mf.model(num_users=train.num_users, num_items=train.num_items, dimension=config.dimension),
        train,
        optax.adagrad(config.learning_rate, initial_accumulator_value=0.1),  # TensorFlow 1's start
        config.epochs,
        tuple(range(config.seed, config.seed + config.num_seeds)),
    )


def control(start: continued.Start, looks: tuple[int, ...]) -> Arm:
    """BPR continued: the same epochs, order of the data and negatives, and no adversary."""
    clean = objectives.pairwise(model=start.model)
    return Arm("BPR continued", lambda _: clean, (continued.CONTROL,), looks)


def run(
    directory: pathlib.Path, start: continued.Start, split: Split, arms: Sequence[Arm], exams: Sequence[Exam]
) -> Found:
    """Trains and measures every arm; what is done is not done again."""
    for folder in ("checkpoints", "logs", "measured"):
        (directory / folder).mkdir(exist_ok=True)
    begun = functools.cache(lambda: continued.begun(directory, start))
    found: Found = {}
    for arm in arms:
        for epochs in arm.looks:
            whiches = [Which(arm.name, setting, epochs, exam.items) for setting in arm.settings for exam in exams]
            if not all(_path(directory, which, seed).exists() for which in whiches for seed in start.seeds):
                _measure(directory, start, split, arm, epochs, exams, begun())
            for which in whiches:
                kept = [measurements.read(_path(directory, which, seed)) for seed in start.seeds]
                found[which] = [with_strongest(measured) for measured in kept]
    return found


def per_user(by_seed: Sequence[Sequence[Measurement]], attack: str, epsilon: float, *, k: int = 10) -> np.ndarray:
    """NDCG@k of each seed and user [S, U] under an attack ("none" for clean, at epsilon 0)."""
    one = lambda measured: next(each for each in measured if (each.attack, each.epsilon) == (attack, epsilon))
    return summaries.per_user([one(measured) for measured in by_seed], "ndcg", k)


def chosen(found: Found, models: Sequence[Which], attack: str = "none", epsilon: float = 0.0) -> Which:
    """The model that ranks the validation items best over its seeds, clean or under an attack; of equals the first."""
    return max(models, key=lambda which: per_user(found[which._replace(items="valid")], attack, epsilon).mean())


def tail_share(by_seed: Sequence[Sequence[Measurement]], tail: np.ndarray) -> float:
    """Mean over seeds of the long tail's share of the clean lists."""
    return float(np.mean([exposure.long_tail_share(measured[0].lists, tail).mean() for measured in by_seed]))


def _path(directory: pathlib.Path, which: Which, seed: int) -> pathlib.Path:
    return directory / "measured" / f"{files.stem(str(which))}-{which.items}-{seed}.npz"


def with_strongest(measured: list[Measurement]) -> list[Measurement]:
    """The measurements, and the strongest attack of those that were made."""
    if not set(STRONGEST) <= {each.attack for each in measured}:
        return measured
    return [*measured, *attack_tables.strongest(measured, STRONGEST, title=WORST)]


def _measure(
    directory: pathlib.Path,
    start: continued.Start,
    split: Split,
    arm: Arm,
    epochs: int,
    exams: Sequence[Exam],
    begun: PyTree,
) -> None:
    """Trains an arm to a look, and measures those of its models there that are not measured yet."""
    states = continued.gone_on(
        directory, start, arm.name, arm.make, settings=arm.settings, num_epochs=epochs, begun=begun
    )
    pairs = [(setting, seed) for setting in arm.settings for seed in start.seeds]
    with display.counting(f"{arm.name}, {epochs} epochs, attacked", len(pairs)) as report:
        for number, (setting, seed) in enumerate(pairs):
            params = {**sweep.model(states.trained, number), "given": {}}
            protocol_key, attack_key = jax.random.split(jax.random.key(seed))
            for exam in exams:
                path = _path(directory, Which(arm.name, setting, epochs, exam.items), seed)
                if path.exists():
                    continue
                measured = robustness.measure(
                    start.model,
                    params,
                    _protocol(split, exam.items, protocol_key),
                    exam.attacks,
                    {"relative": exam.epsilons},
                    surface=SURFACE,
                    key=attack_key,
                )
                measurements.write(path, measured)
            report(number)


def _protocol(split: Split, items: Items, key: Key) -> robustness.Protocol:
    protocol = robustness.protocol(split, key, valid=items == "valid")
    if items != "train":
        return protocol
    return protocol._replace(ranking=evaluate.prepare([split.train, split.valid], learned(split.train)))


def learned(data: Interactions) -> Interactions:
    """One random training pair of each user who has one, the same at every call."""
    order = np.random.default_rng(0).permutation(len(data))
    _, first = np.unique(data.users[order], return_index=True)
    return data.take(order[first])
