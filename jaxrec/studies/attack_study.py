"""Many attacks on the trained models of a run: each model is measured once, and its measurements are kept on disk."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxrec import (
    adversaries,
    display,
    files,
    measurements,
    robustness,
    run_directory,
    surrogates,
    victims,
)
from jaxrec.robustness import Measurement
from jaxrec.types import InputError, Params

K = 10  # cutoff of the comparisons


class Training(NamedTuple):
    """One trained model of a run: its stage, "bpr" or "apr", and its seed."""

    stage: str
    seed: int


class Threat(NamedTuple):
    """An adversary, and the attacks that it mounts.

    Attributes:
        oracle: What it may ask and which loss it raises, in words.
        adversary: The same as a value.
        attacks: {name: epsilon -> attack}; no name twice in a study.
        surrogate: Which other training it knows (see `surrogates`); None for none.
        draws: How often each attack is mounted, each time with another key; from the second on its name says which.
    """

    oracle: str
    adversary: adversaries.Adversary
    attacks: Mapping[str, robustness.MakeAttack]
    surrogate: Callable[[Training], Training] | None = None
    draws: int = 1


class Study(NamedTuple):
    """An open study of a run's models; made by `opened`.

    Attributes:
        folder: Where its results go.
        trainings: Those of the run, stage after stage.
        first: The first of them, loaded.
    """

    experiment: str
    folder: pathlib.Path
    source: pathlib.Path
    data_dir: pathlib.Path | None
    trainings: list[Training]
    first: victims.Loaded

    def load(self, training: Training) -> victims.Loaded:
        return victims.of_run(self.source, stage=training.stage, seed=training.seed, data_dir=self.data_dir)

    @property
    def seeds(self) -> list[int]:
        """Those of the trainings, ascending."""
        return sorted({each.seed for each in self.trainings})

    def twin(self, training: Training) -> Training:
        """The same seed's other stage."""
        return training._replace(stage="apr" if training.stage == "bpr" else "bpr")

    def next_seed(self, training: Training) -> Training:
        """The same stage of the next seed; the first after the last, and so itself where there is one seed."""
        return training._replace(seed=self.seeds[(self.seeds.index(training.seed) + 1) % len(self.seeds)])


Findings = Mapping[Training, list[Measurement]]


@contextlib.contextmanager
def opened(experiment: str, config: Any) -> Iterator[Study]:
    """Opens the study of a finished run of `experiments.ml1m_apr`; the same config on the same run goes on.

    Args:
        config: With `run`, `out` (by default a folder in the run with the experiment's name) and `data_dir`.

    Raises:
        InputError: If there is no such run, it is not finished, or the study began with another config or run.
    """
    if config.run is None:
        raise InputError("Expected --run, a finished run: python -m experiments.ml1m_apr --num-seeds 10.")
    trainings = [Training(stage, seed) for stage in ("bpr", "apr") for seed in victims.seeds_of(config.run)]
    first = victims.of_run(config.run, stage="bpr", seed=trainings[0].seed, data_dir=config.data_dir)
    data = {"sha256": first.fingerprint, "run": files.sha256(config.run / "results.json")}
    folder = config.out or config.run / experiment
    with run_directory.open_run(folder, config, data, may_change=("run", "out", "data_dir")):
        yield Study(experiment, folder, config.run, config.data_dir, trainings, first)


def run(
    study: Study,
    threats: Sequence[Threat],
    epsilons: Mapping[str, Sequence[float]],
    *,
    name: str = "measured",
    change: Callable[[Params], Params] = lambda params: params,
) -> Findings:
    """Measures every training under every threat; a study that was stopped goes on at the model where it was.

    Args:
        epsilons: {unit: radii}.
        name: Of the folder where measurements are kept, a file for each training.
        change: Done to the parameters first, such as a rescaling.
    """
    num_attacked = sum(threat.draws * len(threat.attacks) for threat in threats) * sum(map(len, epsilons.values()))
    (study.folder / name).mkdir(exist_ok=True)
    found = {}
    for training in study.trainings:
        path = study.folder / name / f"{training.stage}-{training.seed}.npz"
        if not path.exists():
            with display.counting(f"{name}: {training.stage}, seed {training.seed}", num_attacked) as report:
                measurements.write(path, _measure(study, training, threats, epsilons, change, report))
        found[training] = measurements.read(path)
    return found


def _measure(
    study: Study,
    training: Training,
    threats: Sequence[Threat],
    epsilons: Mapping[str, Sequence[float]],
    change: Callable[[Params], Params],
    report: Callable[[Any], None],
) -> list[Measurement]:
    """The clean measurement of one model, then those of every threat."""
    victim = study.load(training).victim
    protocol_key, attack_key = jax.random.split(jax.random.key(training.seed))
    protocol = robustness.protocol(victim.split, protocol_key, list_length=K)
    params = change(victim.params)
    found: list[Measurement] = []
    for threat in threats:
        given = params["given"]
        if threat.surrogate is not None:
            given = {**given, surrogates.GIVEN: study.load(threat.surrogate(training)).victim.params["tables"]}
        for draw in range(threat.draws):
            clean, *attacked = robustness.measure(
                victim.model,
                {**params, "given": given},
                protocol,
                threat.attacks,
                epsilons,
                surface=victim.surface,
                key=jax.random.fold_in(attack_key, draw),
                adversary=threat.adversary,
                oracle=threat.oracle,
                report=lambda measurement: report(measurement) if measurement.attack != "none" else None,
            )
            if not found:
                found.append(clean)
            found += [dataclasses.replace(each, attack=name_of(each.attack, draw)) for each in attacked]
    return found


def name_of(attack: str, draw: int) -> str:
    """The name of one draw of an attack."""
    return attack if draw == 0 else f"{attack}, draw {draw + 1}"
