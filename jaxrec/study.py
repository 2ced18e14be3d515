"""What experiments do with the parts: train stage after stage, attack what came out, publish the figures."""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrec import checkpoint, display, evaluate, loop, metrics, records, robustness, splits, summaries, train
from jaxrec.types import InputError, Key, Model, Objective, Params, Split, Surface

SAME_TRAINING = ("epochs", "batch_size", "sampler", "learning_rate", "dimension", "seed")
REUSED = "reused-from"  # in a model's folder: its log lines stand in the run it was taken from


class Setting(NamedTuple):
    """What all trainings of an experiment share."""

    model: Model
    split: Split
    optimizer: optax.GradientTransformation
    batch_size: int
    num_devices: int
    run: records.Run


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
    epsilons: Mapping[robustness.Unit, Sequence[float]]
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


def run_path(experiment: str, data: str, config: Any) -> pathlib.Path:
    """The run directory that belongs to a config: the same flags find it again, other flags do not meet it."""
    decisive = {name: value for name, value in vars(config).items() if name not in records.PLACES}
    name = hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return pathlib.Path("runs") / experiment / f"{data}-{name}"


def run(setting: Setting, stages: Sequence[Stage], adversary: Adversary, *, seeds: Sequence[int]) -> list[Outcome]:
    """Trains and attacks every stage for every seed; a stopped run goes on where it was.

    A seed decides the initial tables, the order of the data, the negatives, and the attacks' randomness.
    """
    outcomes = [Outcome(stage, [], [], [], []) for stage in stages]
    drivers = [_driver(setting, stage.objective) for stage in stages]
    validation = evaluate.prepare([setting.split.train], setting.split.valid)
    log_end = 0
    for seed in seeds:
        init_key, protocol_key, attack_key, *keys = jax.random.split(jax.random.key(seed), 3 + len(stages))
        params = jax.jit(setting.model.init)(init_key)
        protocol = robustness.protocol(setting.split, protocol_key)
        for outcome, driver, key in zip(outcomes, drivers, keys, strict=True):
            last, best, log_end = _fit(setting, outcome.stage, driver, validation, params, key, seed, log_end)
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


def reuse(source: pathlib.Path, setting: Setting, config: Any, stage: Stage, seeds: Sequence[int]) -> None:
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
    mine = json.loads((setting.run.path / "config.json").read_text())
    pairs = {name: (theirs["config"].get(name), getattr(config, name)) for name in SAME_TRAINING}
    pairs["data"] = theirs["data"]["sha256"], mine["data"]["sha256"]
    if differences := [f"{name}: {there} -> {here}" for name, (there, here) in pairs.items() if there != here]:
        raise InputError(f"Expected {source} to have trained {stage.name} as this run does: {', '.join(differences)}.")
    for seed in seeds:
        there, here = (path / "checkpoints" / f"{stage.name}-{seed}" for path in (source, setting.run.path))
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
    num_items = setting.split.train.num_items
    k = min(10, num_items)

    def validate(params):
        ranks = evaluate.evaluate(setting.model, params, validation).ranks
        return {
            "valid_hit_rate": float(metrics.hit_rate(ranks, k, num_items).mean()),
            "valid_ndcg": float(metrics.ndcg(ranks, k, num_items).mean()),
        }

    with (
        checkpoint.Checkpoints(setting.run.path / "checkpoints" / f"{stage.name}-{seed}") as checkpoints,
        display.progress(f"{stage.name}, seed {seed}", stage.num_epochs) as report,
    ):
        fitted = loop.fit(
            driver,
            state,
            setting.split.train,
            name={"model": stage.name, "seed": seed},
            num_epochs=stage.num_epochs,
            batch_size=setting.batch_size,
            sampler=stage.sampler,
            seed=seed,
            checkpoints=checkpoints,
            log=setting.run.metrics,
            timings=setting.run.timings,
            log_start=log_start,
            given=start["given"],
            validate=validate,
            score="valid_ndcg",
            report=report,
        )
        best = checkpoints.restore_best(state)
    log_end = log_start if (checkpoints.directory / REUSED).exists() else fitted.log_end
    return fitted.state, fitted.state if best is None else best.state, log_end


def records_of(
    setting: Setting, outcomes: Sequence[Outcome], adversary: Adversary, *, seeds: Sequence[int], **common: Any
) -> list[records.Record]:
    """The records of all outcomes, and for those after the first what they gain over the first.

    Args:
        common: The fields `experiment`, `model`, `dataset`, `split`, `protocol` and `fingerprint` of the records.
    """
    num_items = setting.split.train.num_items
    common |= {"device": records.device(), "commit": records.commit()}
    made = []
    for outcome in outcomes:
        stage = outcome.stage
        parts = {"validation": (outcome.best, outcome.best_steps), "last": (outcome.last, outcome.last_steps)}
        for chosen_by, (measured, steps) in parts.items():
            of_stage = summaries.records_of(
                measured,
                seeds=seeds,
                cutoffs=[k for k in (10, 50, 100) if k <= num_items],
                tail=splits.tail_items(setting.split.train),
                surface=adversary.surface_name,
                defence=stage.defence,
                training=stage.training,
                step=round(float(np.mean(steps))),
                chosen_by=f"{chosen_by} epoch",
                **common,
            )
            made += of_stage
            if outcome is not outcomes[0]:
                base = outcomes[0].best if chosen_by == "validation" else outcomes[0].last
                made += summaries.gain_records(base, measured, of_stage, k=10)
    return made


def publish(path: pathlib.Path, found: Sequence[records.Record]) -> None:
    """Writes results.json, results.md and curve.png."""
    records.write_records(path / "results.json", found)
    records.write_text(path / "results.md", records.markdown_table(found))
    display.curves(path / "curve.png", found, metric="ndcg", k=10)


def show(path: pathlib.Path, found: Sequence[records.Record], *, epsilon: float) -> None:
    """Prints the models clean and attacked at one absolute epsilon, and where a run's files lie."""
    near = [r for r in found if r.attack is None or (r.epsilon == epsilon and r.epsilon_unit == "absolute")]
    display.records_table(near)
    display.say(f"Everything lies in {path}/: results.md, results.json, curve.png, metrics.jsonl, checkpoints/")
