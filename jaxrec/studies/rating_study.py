"""An experiment on predicted ratings: L2 and epochs chosen on validation, a model for each seed, attacked, recorded."""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrec import (
    checkpoint,
    checkpoint_step,
    display,
    files,
    loop,
    objectives,
    provenance,
    rating_attack,
    rating_metrics,
    records,
    results,
    run_directory,
    sampling,
    splits,
    summaries,
    train,
)
from jaxrec.datasets import locate
from jaxrec.pictures import shares
from jaxrec.studies import study
from jaxrec.types import InputError, Interactions, Model, Params

READS = {"user": ("users",), "item": ("pos",)}  # a rating reads no negative
SHARE = "share_driven_down"
PROTOCOL = (
    "predictions of held-out ratings; RMSE and MAE of predictions cut to 1 to 5; 4s are predictions in [3.5, 4.5), "
    "driven down are those that end at 1.5 or below, not cut"
)


class Setting(NamedTuple):
    """What all trainings share: how models of an L2 are built and stepped, and how long they may be trained."""

    model: Model
    data: study.Data
    optimizer: optax.GradientTransformation
    batch_size: int
    max_epochs: int


class Choice(NamedTuple):
    """What validation chose."""

    l2: float
    num_epochs: int
    valid_rmse: float


class Found(NamedTuple):
    """What one seed gave: errors on the test, how many predictions were about 4, and the curves of their attacks."""

    errors: dict[str, float]
    num_fours: int
    steps: int
    curves: list[rating_attack.Curve]


def data(name: str, data_dir: pathlib.Path | None, *, seed: int, num_users: int | None = None) -> study.Data:
    """The ratings of `locate.rated`, and says which they are and where they lie; the first `num_users` if given."""
    located = locate.rated(name, data_dir, seed=seed)  # type: ignore[arg-type]  # the flag's Literal
    split, title = located.split, located.name
    if located.is_sample:
        title = f"the MovieLens SAMPLE, not {name}"
        display.say(f"Every figure is of {title}.", style="bold red")
    if num_users is not None:
        split, title = splits.first_users(split, num=num_users), f"{title}, first {num_users} users"
    by_time = "each user's latest tenth for the test, the tenth before for validation"
    part = located.name[-2:]  # of ml-100k-ua and ml-100k-ub
    published = f"published split {part}, ten test ratings a user; a tenth of each user's base for validation"
    fingerprint = provenance.fingerprint(split)
    display.say(f"Data: {title}; {located.source}: {located.path}; SHA-256 {fingerprint['sha256'][:16]}")
    return study.Data(split, name, title, published if title.startswith("ml-100k") else by_time, fingerprint)


def mean_rating(pairs: Interactions) -> float:
    """Of training pairs: the model's constant."""
    return float(ratings_of(pairs).mean())


def run(
    directory: run_directory.Run,
    setting: Setting,
    bench: rating_attack.Bench,
    epsilons: Mapping[str, Sequence[float]],
    *,
    l2s: Sequence[float],
    seeds: Sequence[int],
) -> tuple[Choice, list[Found]]:
    """Chooses on validation, then for each seed trains on training and validation ratings together and attacks.

    A stopped run goes on where it was; a seed that was attacked is read from its file.
    """
    choice, states = trained(directory, setting, l2s=l2s, seeds=seeds)
    found = []
    for seed, state in zip(seeds, states, strict=True):
        attack_key = jax.random.fold_in(jax.random.key(seed), 1)
        file = directory.path / "measured" / f"{seed}.json"
        if not file.exists():
            params = {**state.trained, "given": {}}
            with display.counting(f"attacks, seed {seed}", rating_attack.num_curves(bench, epsilons)) as report:
                curves = rating_attack.measure(bench, params, epsilons, key=attack_key, report=report)
            predicted = rating_attack.predictions(setting.model, params, bench.test)
            errors = rating_metrics.errors(predicted, ratings_of(bench.test))
            num_fours = int(rating_attack.fours(predicted).sum())
            one = Found(errors, num_fours, int(state.step), curves)
            file.parent.mkdir(exist_ok=True)
            files.write_json(file, {**one._asdict(), "curves": [curve._asdict() for curve in curves]})
        read = files.read_json(file)
        found.append(Found(**{**read, "curves": [rating_attack.Curve(**curve) for curve in read["curves"]]}))
    return choice, found


def trained(
    directory: run_directory.Run, setting: Setting, *, l2s: Sequence[float], seeds: Sequence[int]
) -> tuple[Choice, Iterator[train.TrainState]]:
    """What validation chose, and for each seed the state after so many epochs on training and validation ratings.

    A seed is trained when its state is asked for; a stopped run goes on where it was.
    """
    choice, log_end = _choose(directory, setting, l2s, seeds[0])
    display.say(f"Chosen: L2 {choice.l2:g}, {choice.num_epochs} epochs (validation RMSE {choice.valid_rmse:.4f})")

    def states(log_end):
        both = splits.joined(setting.data.split.train, setting.data.split.valid)
        driver = _driver(setting, choice.l2)
        for seed in seeds:
            stretch = choice.num_epochs, log_end
            state, _, log_end = _fit(directory, setting, driver, both, f"mf-{seed}", seed, stretch)
            yield state

    return choice, states(log_end)


def records_of(
    setting: Setting, choice: Choice, found: Sequence[Found], *, seeds: Sequence[int], experiment: str, model: str
) -> list[records.Record]:
    """The errors, the smallest epsilons (where every seed reached the level), then the shares; intervals over seeds."""
    test = setting.data.split.test
    common: dict[str, Any] = {
        "experiment": experiment, "model": model, "defence": None, "dataset": setting.data.title,
        "split": setting.data.split_title, "protocol": PROTOCOL, "k": None, "seeds": tuple(seeds),
        "users": len(np.unique(test.users)), "step": round(float(np.mean([one.steps for one in found]))),
        "chosen_by": "validation", "device": provenance.device(), "commit": provenance.commit(),
        "training": f"SGD on squared error, L2 {choice.l2:g} and {choice.num_epochs} epochs chosen on validation "
        f"(RMSE {choice.valid_rmse:.4f}, seed {seeds[0]}), then trained on training and validation ratings",
        "fingerprint": setting.data.fingerprint["sha256"],
    }  # fmt: skip
    clean = {name: [one.errors[name] for one in found] for name in found[0].errors}
    clean["predicted_fours"] = [one.num_fours for one in found]
    clean["predicted_fours_share"] = [one.num_fours / len(test) for one in found]
    made = [summaries.of_seeds(values, metric=name, **common, **records.NOBODY) for name, values in clean.items()]
    by_curve = list(zip(*(one.curves for one in found), strict=True))
    for curves in by_curve:
        for place, level in enumerate(rating_attack.LEVELS):
            values = [curve.smallest[place] for curve in curves]
            if None not in values:
                metric = f"{curves[0].unit}_epsilon_{level * 100:.0f}"
                made.append(summaries.of_seeds(values, metric=metric, **common, **_adversary(curves[0])))
    for curves in by_curve:
        for place, epsilon in enumerate(curves[0].epsilons):
            reached = {
                "epsilon": epsilon, "epsilon_unit": curves[0].unit,
                "achieved_norm": max(curve.achieved_norms[place] for curve in curves),
            }  # fmt: skip
            values = [curve.shares[place] for curve in curves]
            made.append(summaries.of_seeds(values, metric=SHARE, **common, **(_adversary(curves[0]) | reached)))
    return made


def write(path: pathlib.Path, found: Sequence[records.Record]) -> None:
    """Writes results.json, results.md and curve.png."""
    found = results.write(path, found)
    shares.draw(path / "curve.png", found, metric=SHARE)


def ratings_of(pairs: Interactions) -> np.ndarray:
    """Their ratings."""
    if pairs.ratings is None:
        raise InputError("Expected pairs with ratings, got none.")
    return pairs.ratings


def _choose(directory: run_directory.Run, setting: Setting, l2s: Sequence[float], seed: int) -> tuple[Choice, int]:
    """The L2 and the epoch with the least validation RMSE, and the length of the log after it."""
    split, log_end, choices = setting.data.split, 0, []
    variance = float(np.var(ratings_of(split.valid)))
    for l2 in l2s:

        def validate(params):
            predicted = rating_attack.predictions(setting.model, params, split.valid)
            errors = rating_metrics.errors(predicted, ratings_of(split.valid))
            return {f"valid_{name}": value for name, value in errors.items()} | {
                "valid_r2": 1 - errors["rmse"] ** 2 / variance
            }

        driver, name, stretch = _driver(setting, l2), f"choice-l2-{l2:g}", (setting.max_epochs, log_end)
        _, best, log_end = _fit(directory, setting, driver, split.train, name, seed, stretch, validate)
        if best is None:
            raise InputError(f"Expected a scored checkpoint of {name} in {directory.path}, found none.")
        rmse = validate({**best.state.trained, "given": {}})["valid_rmse"]
        choices.append(Choice(l2, best.meta["epoch"], rmse))
    return min(choices, key=lambda choice: choice.valid_rmse), log_end


def _driver(setting: Setting, l2: float) -> train.Trainer:
    """Steps on the rows that a batch's ratings touch."""
    objective = objectives.rating(model=setting.model, l2=l2)
    return train.parallel(lambda devices: train.make_step(objective, setting.optimizer, reads=READS, devices=devices))


def _fit(
    directory: run_directory.Run,
    setting: Setting,
    driver: train.Trainer,
    pairs: Interactions,
    name: str,
    seed: int,
    stretch: tuple[int, int],
    validate: Callable[[Params], dict[str, float]] | None = None,
) -> tuple[train.TrainState, checkpoint_step.Restored | None, int]:
    """(last state, best by validation, length of the log) of a training of (epochs, from this length of the log)."""
    num_epochs, log_start = stretch
    init_key, key = jax.random.split(jax.random.key(seed))
    state = train.init_state(jax.jit(setting.model.init)(init_key), setting.optimizer, key)
    with (
        checkpoint.Checkpoints(directory.path / "checkpoints" / name) as checkpoints,
        display.progress(name, num_epochs) as report,
    ):
        fitted = loop.fit(
            driver,
            state,
            pairs,
            name={"model": name, "seed": seed},
            num_epochs=num_epochs,
            batch_size=setting.batch_size,
            sampler=sampling.shuffled,
            seed=seed,
            checkpoints=checkpoints,
            log=directory.metrics,
            timings=directory.timings,
            log_start=log_start,
            validate=validate,
            score="valid_r2",
            validate_every=2 if validate else 10,
            report=report,
        )
        return fitted.state, checkpoints.restore_best(state), fitted.log_end


def _adversary(curve: rating_attack.Curve) -> dict[str, Any]:
    """The fields of a record that say who attacked; the epsilon is the caller's."""
    private = curve.attack == rating_attack.PRIVATE
    return {
        "surface": curve.surface,
        "attack": curve.attack,
        "oracle": "none" if curve.attack == "noise" else f"white box, {'one prediction' if private else 'all 4s'}",
        "epsilon": None,
        "epsilon_unit": None,
        "gauge": "canonical" if curve.unit == "relative" else "as trained",
        "achieved_norm": None,
        "gradient_evaluations": curve.gradient_evaluations,
        "queries": curve.queries,
    }
