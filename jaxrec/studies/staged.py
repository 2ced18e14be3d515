"""Trainings stage after stage, for each seed, and attacks on what came out (the figures: `publish`)."""

import functools
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from jaxrec import checkpoint, display, evaluate, loop, metrics, robustness, run_directory, train
from jaxrec.studies import study
from jaxrec.types import InputError, Key, Model, Objective, Params, Surface

SAME_TRAINING = ("epochs", "batch_size", "sampler", "learning_rate", "dimension", "seed", "robust_epsilon")
ROBUST_SCORE = "valid_robust_ndcg"  # of `robustness.validation`
REUSED = "reused-from"  # in a model's folder: its log lines stand in the run it was taken from


class Setting(NamedTuple):
    """What all trainings of an experiment share."""

    model: Model
    data: study.Data
    optimizer: optax.GradientTransformation
    batch_size: int
    num_devices: int


class Stage(NamedTuple):
    """One training of a chain: each stage starts from the last weights of the one before, its optimiser anew.

    Attributes:
        name: Short; of its checkpoints and log lines.
        objective: What it minimises.
        num_epochs: How long.
        sampler: Which pairs share a batch.
        defence: For the records; None where there is none.
        training: The schedule in words, for the records.
    """

    name: str
    objective: Objective
    num_epochs: int
    sampler: loop.Sampler
    defence: str | None
    training: str


class Choosing(NamedTuple):
    """What chooses a second epoch: NDCG@10 of the validation items under `attack` at a relative `epsilon`."""

    attack: robustness.MakeAttack
    epsilon: float


class Adversary(NamedTuple):
    """Who attacks the trained models: `attacks` and `epsilons` as in `robustness.measure`, on `surface`; with
    `choosing`, also who chooses an epoch of each by how it withstands.
    """

    attacks: Mapping[str, robustness.MakeAttack]
    epsilons: Mapping[str, Sequence[float]]
    surface: Surface
    surface_name: str
    choosing: Choosing | None = None


class Outcome(NamedTuple):
    """A stage's models, for each seed: what was measured at the epoch that validation chose, and after the last.

    `robust` is of the epoch that validation under attack chose, empty where that was not asked. The steps are the
    optimiser's until then.
    """

    stage: Stage
    best: list[list[robustness.Measurement]]
    last: list[list[robustness.Measurement]]
    robust: list[list[robustness.Measurement]]
    best_steps: list[int]
    last_steps: list[int]
    robust_steps: list[int]


def run(
    directory: run_directory.Run,
    setting: Setting,
    stages: Sequence[Stage],
    adversary: Adversary,
    *,
    seeds: Sequence[int],
) -> list[Outcome]:
    """Trains and attacks every stage for every seed; a stopped run goes on where it was.

    A seed decides the initial tables, the order of the data, the negatives, and the attacks' randomness.
    """
    outcomes = [Outcome(stage, [], [], [], [], [], []) for stage in stages]
    drivers = [_driver(setting, stage.objective) for stage in stages]
    split = setting.data.split
    clean = evaluate.prepare([split.train], split.valid)
    log_end = 0
    for seed in seeds:
        init_key, protocol_key, attack_key, *keys = jax.random.split(jax.random.key(seed), 3 + len(stages))
        params = jax.jit(setting.model.init)(init_key)
        protocol = robustness.protocol(split, protocol_key)
        validate = _validate(setting, adversary, clean, jax.random.fold_in(attack_key, len(stages)))
        measure = functools.partial(_measure, setting, adversary, protocol, attack_key)
        for outcome, driver, key in zip(outcomes, drivers, keys, strict=True):
            fitted = _fit(directory, setting, outcome.stage, driver, validate, params, key, seed, log_end)
            given, log_end = params["given"], fitted.log_end
            name = f"{outcome.stage.name}, seed {seed}"
            outcome.best.append(measure({**fitted.best.trained, "given": given}, name))
            outcome.best_steps.append(int(fitted.best.step))
            if adversary.choosing is not None:
                outcome.robust.append(measure({**fitted.robust.trained, "given": given}, f"{name}, robust"))
                outcome.robust_steps.append(int(fitted.robust.step))
            params = {**fitted.last.trained, "given": given}
            outcome.last.append(
                robustness.measure(setting.model, params, protocol, {}, {}, surface=adversary.surface, key=attack_key)
            )
            outcome.last_steps.append(int(fitted.last.step))
    return outcomes


def _measure(
    setting: Setting, adversary: Adversary, protocol: robustness.Protocol, key: Key, params: Params, name: str
) -> list[robustness.Measurement]:
    """A model clean and under all attacks."""
    num_attacked = len(adversary.attacks) * sum(map(len, adversary.epsilons.values()))
    with display.counting(f"attacks on {name}", 1 + num_attacked) as report:
        return robustness.measure(
            setting.model,
            params,
            protocol,
            adversary.attacks,
            adversary.epsilons,
            surface=adversary.surface,
            key=key,
            report=report,
        )


def _validate(
    setting: Setting, adversary: Adversary, plan: evaluate.RankPlan, key: Key
) -> Callable[[Params], dict[str, float]]:
    """params -> the clean scores of the validation items, and their NDCG under attack where that is to choose."""
    num_items = setting.data.split.train.num_items
    k, choosing = min(10, num_items), adversary.choosing
    withstands = choosing and robustness.validation(
        setting.model,
        setting.data.split,
        choosing.attack,
        epsilon=choosing.epsilon,
        surface=adversary.surface,
        key=key,
        k=k,
    )

    def validate(params):
        ranks = evaluate.evaluate(setting.model, params, plan).ranks
        scores = {
            "valid_hit_rate": float(metrics.hit_rate(ranks, k, num_items).mean()),
            "valid_ndcg": float(metrics.ndcg(ranks, k, num_items).mean()),
        }
        return scores | (withstands(params) if withstands else {})

    return validate


def reuse(source: pathlib.Path, directory: run_directory.Run, config: Any, stage: Stage, seeds: Sequence[int]) -> None:
    """Takes a stage's finished trainings over from another run, with the same flags on the same data.

    Args:
        source: The other run directory. Seeds that it has not finished are trained here.
        config: This run's; of it the fields of `SAME_TRAINING` must be as they are there, and where PGD chooses an
            epoch (`robust_epsilon`), its `num_steps`.

    Raises:
        InputError: If it is no run directory, or differs; then every difference is named.
    """
    try:
        theirs = json.loads((source / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"Expected a run directory with a config.json, got {source}: {error}.") from None
    mine = json.loads((directory.path / "config.json").read_text())
    names = (*SAME_TRAINING, *(("num_steps",) if config.robust_epsilon is not None else ()))
    pairs = {name: (theirs["config"].get(name), getattr(config, name)) for name in names}
    pairs["data"] = theirs["data"]["sha256"], mine["data"]["sha256"]
    if differences := [f"{name}: {there} -> {here}" for name, (there, here) in pairs.items() if there != here]:
        raise InputError(f"Expected {source} to have trained {stage.name} as this run does: {', '.join(differences)}.")
    for seed in seeds:
        there, here = (path / "checkpoints" / f"{stage.name}-{seed}" for path in (source, directory.path))
        newest = checkpoint.newest(there) if there.is_dir() else None
        if not here.exists() and newest is not None and newest["epoch"] == stage.num_epochs:
            part = here.with_name(f".{here.name}")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(there, part)
            (part / REUSED).write_text(f"{source}\n")
            part.rename(here)


def _driver(setting: Setting, objective: Objective) -> train.Trainer:
    make = lambda devices: train.make_step(objective, setting.optimizer, reads=setting.model.reads, devices=devices)
    return train.parallel(make, num_devices=setting.num_devices)


class _Fitted(NamedTuple):
    """States of one training: the last, and the best by each score; the length of the log."""

    last: train.TrainState
    best: train.TrainState
    robust: train.TrainState
    log_end: int


def _fit(
    directory: run_directory.Run,
    setting: Setting,
    stage: Stage,
    driver: train.Trainer,
    validate: Callable[[Params], dict[str, float]],
    start: Params,
    key: Key,
    seed: int,
    log_start: int,
) -> _Fitted:
    """One training; the last state stands for a best one where nothing was scored."""
    state = train.init_state(start, setting.optimizer, key)
    with (
        checkpoint.Checkpoints(directory.path / "checkpoints" / f"{stage.name}-{seed}") as checkpoints,
        display.progress(f"{stage.name}, seed {seed}", stage.num_epochs) as report,
    ):
        fitted = loop.fit(
            driver,
            state,
            setting.data.split.train,
            name={"model": stage.name, "seed": seed},
            num_epochs=stage.num_epochs,
            batch_size=setting.batch_size,
            sampler=stage.sampler,
            seed=seed,
            checkpoints=checkpoints,
            log=directory.metrics,
            timings=directory.timings,
            log_start=log_start,
            given=start["given"],
            validate=validate,
            score="valid_ndcg",
            other_scores=(ROBUST_SCORE,),
            report=report,
        )
        found = [checkpoints.restore_best(state, name=name) for name in (None, ROBUST_SCORE)]
    best, robust = (fitted.state if each is None else each.state for each in found)
    log_end = log_start if (checkpoints.directory / REUSED).exists() else fitted.log_end
    return _Fitted(fitted.state, best, robust, log_end)
