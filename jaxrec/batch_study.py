"""Does the batch decide what APR does? A grid of batchings, epsilons and weights, each from the same BPR models.

For each composition and size of the batches one sweep trains all settings and seeds: APR at each epsilon and weight,
and its control, BPR continued on the same batches with the same negatives (`CONTROL`). What is compared is the last
epoch of each, so that nothing is chosen; per-user values are kept for the tests.
"""

import contextlib
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrec import (
    bench,
    checkpoint,
    display,
    exposure,
    files,
    loop,
    metrics,
    objectives,
    sampling,
    splits,
    statistics,
    surfaces,
    sweep,
    sweep_loop,
    train,
)
from jaxrec.attacks import fgsm
from jaxrec.defences import apr
from jaxrec.types import Model, PyTree


class Setting(NamedTuple):
    """Of APR; with weight 0 the clean loss alone is descended."""

    epsilon: float
    adv_weight: float

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:g}, weight {self.adv_weight:g}" if self.adv_weight else "BPR continued"


CONTROL = Setting(0.0, 0.0)


class Cell(NamedTuple):
    """Which pairs share a batch, and how many."""

    batching: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.batching.replace('_', '-')}, batch {self.batch_size}"


BEGINNING = Cell("shuffled", 512)  # of the BPR that all go on from


class Plan(NamedTuple):
    """What all trainings share.

    Attributes:
        epochs: Of BPR before, on the batches of `BEGINNING`.
        adv_epochs: Of each setting, from BPR's last weights, the optimiser anew.
    """

    model: Model
    on: bench.Bench
    optimizer: optax.GradientTransformation
    epochs: int
    adv_epochs: int
    seeds: tuple[int, ...]
    settings: tuple[Setting, ...]


class Measured(NamedTuple):
    """A cell's models after the last epoch: [settings, S, U] and [settings, S]; shifts are of the mean margin,
    perturbed less clean, in the first and in the last epoch.
    """

    ndcg: np.ndarray
    long_tail_share: np.ndarray
    coverage: np.ndarray
    first_shift: np.ndarray
    last_shift: np.ndarray
    distinct_users: np.ndarray


def run(directory: pathlib.Path, plan: Plan, cells: Sequence[Cell]) -> dict[Cell, Measured]:
    """Trains and measures every cell; what is done is not done again, and a stopped sweep goes on."""
    for folder in ("checkpoints", "logs", "measured"):
        (directory / folder).mkdir(exist_ok=True)
    found, begun = {}, functools.cache(lambda: _begun(directory, plan))
    for cell in cells:
        path = directory / "measured" / f"{files.stem(str(cell))}.npz"
        if not path.exists():
            _write(path, _measure(directory, plan, cell, _gone_on(directory, plan, cell, begun())))
        with np.load(path, allow_pickle=False) as read:
            found[cell] = Measured(*(read[name] for name in Measured._fields))
    return found


def _begun(directory: pathlib.Path, plan: Plan) -> PyTree:
    """BPR's last tables for each seed, [S, ...]."""
    clean = objectives.pairwise(model=plan.model)
    make = lambda hyper: train.make_step(clean, plan.optimizer, reads=plan.model.reads)
    keys = map(_keys, plan.seeds)
    states = [train.init_state(plan.model.init(first), plan.optimizer, second) for first, second, _ in keys]
    return _fit(directory, plan, "BPR", BEGINNING, make, plan.epochs, [CONTROL], states).trained


def _gone_on(directory: pathlib.Path, plan: Plan, cell: Cell, begun: PyTree) -> train.TrainState:
    """Every setting for every seed, setting by setting, [settings x S, ...]."""
    clean, surface = objectives.pairwise(model=plan.model), surfaces.tables("user", "item")

    def make(hyper: sweep.Hyper) -> train.Step:
        attack = fgsm.attack(epsilon=hyper["epsilon"])
        objective = apr.objective(clean=clean, attack=attack, surface=surface, adv_weight=hyper["adv_weight"])
        return train.make_step(objective, plan.optimizer, reads=plan.model.reads)

    states = [
        train.init_state(sweep.model(begun, place), plan.optimizer, _keys(seed)[2])
        for place, seed in enumerate(plan.seeds)
    ]
    return _fit(directory, plan, str(cell), cell, make, plan.adv_epochs, plan.settings, states)


def _keys(seed: int) -> jax.Array:
    """Of a seed's initial tables, of its BPR, and of what goes on from there: the same negatives in all settings."""
    return jax.random.split(jax.random.key(seed), 3)


def _fit(
    directory: pathlib.Path,
    plan: Plan,
    name: str,
    cell: Cell,
    make: Callable[[sweep.Hyper], train.Step],
    num_epochs: int,
    settings: Sequence[Setting],
    states: Sequence[train.TrainState],
) -> train.TrainState:
    """Every setting from every seed's state, setting by setting; each seed has an order of the data of its own."""
    pairs = [(setting, place) for setting in settings for place in range(len(plan.seeds))]
    models = sweep.stack(
        [states[place] for _, place in pairs],
        hyper=[setting._asdict() for setting, _ in pairs],
        orders=[place for _, place in pairs],
    )
    with contextlib.ExitStack() as stack:
        log, timings = (
            stack.enter_context(contextlib.closing(files.Log(directory / "logs" / f"{files.stem(name)}{end}.jsonl")))
            for end in ("", ".times")
        )
        checkpoints = stack.enter_context(checkpoint.Checkpoints(directory / "checkpoints" / files.stem(name)))
        report = stack.enter_context(display.progress(f"{name}, {len(pairs)} models", num_epochs))
        fitted = sweep_loop.fit(
            sweep.parallel(make, num_models=len(pairs)),
            models,
            plan.on.split.train,
            names=[{"model": str(setting), "seed": plan.seeds[place]} for setting, place in pairs],
            num_epochs=num_epochs,
            batch_size=cell.batch_size,
            sampler=sampling.SAMPLERS[cell.batching],
            order_seeds=plan.seeds,
            checkpoints=checkpoints,
            log=log,
            timings=timings,
            report=report,
        )
    if not fitted.progress.running.all():
        stopped = [str(pairs[number][0]) for number in np.flatnonzero(~fitted.progress.running)]
        raise loop.NonFiniteLoss(
            f"The loss is not finite in {name}: {', '.join(stopped)}. Try a smaller learning rate."
        )
    return fitted.models.states


def _measure(directory: pathlib.Path, plan: Plan, cell: Cell, states: train.TrainState) -> Measured:
    """Of all models of a cell, on the test items."""
    train_pairs, tail = plan.on.split.train, splits.tail_items(plan.on.split.train)
    shape = len(plan.settings), len(plan.seeds)
    ndcg, shares, coverages = [], [], []
    with display.counting(f"rankings of {cell}", shape[0] * shape[1]) as report:
        for number in range(shape[0] * shape[1]):
            params = {**sweep.model(states.trained, number), "given": {}}
            measured = bench.measure(plan.model, params, plan.on.test)
            k = measured.lists.shape[1]
            ndcg.append(metrics.ndcg(measured.ranks, k, plan.on.test.num_ranked))
            shares.append(float(exposure.long_tail_share(measured.lists, tail).mean()))
            coverages.append(exposure.coverage(measured.lists, train_pairs.num_items))
            report(number)
    log = (directory / "logs" / f"{files.stem(str(cell))}.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]

    def logged(name: str, epoch: int) -> np.ndarray:
        of = lambda setting, seed: [
            line[name] for line in lines if (line["model"], line["seed"], line["epoch"]) == (str(setting), seed, epoch)
        ]
        return np.array([[np.mean(of(setting, seed)) for seed in plan.seeds] for setting in plan.settings])

    last = plan.adv_epochs
    return Measured(
        ndcg=np.reshape(ndcg, (*shape, -1)),
        long_tail_share=np.reshape(shares, shape),
        coverage=np.reshape(coverages, shape),
        first_shift=logged("margin_shift", 1),
        last_shift=logged("margin_shift", last),
        distinct_users=logged("distinct_users", last),
    )


def _write(path: pathlib.Path, measured: Measured) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}")
    with open(part, "wb") as file:
        np.savez_compressed(file, **measured._asdict())
    part.rename(path)


class Gain(NamedTuple):
    """What a setting gains over BPR continued on the same batches.

    Attributes:
        interval: Of the mean difference in NDCG, crossed bootstrap over seeds and users (one seed: t over users).
        p: Of sign flips over seeds, Holm's correction for all settings of all cells.
        smallest_p: The smallest that so many seeds can reach after that correction: above .05, the test cannot tell.
        shift, tail: Mean margin shift of the first epoch; the long tail's share less the control's.
    """

    cell: Cell
    setting: Setting
    interval: statistics.Interval
    p: float
    smallest_p: float
    shift: float
    tail: float


def gains(found: Mapping[Cell, Measured], settings: Sequence[Setting], *, seed: int = 0) -> list[Gain]:
    """Every setting but the control against the control of its cell. The tests declared: one a setting and cell."""
    made: list[Gain] = []
    place = list(settings).index(CONTROL)
    for cell, measured in found.items():
        for number, setting in enumerate(settings):
            if setting == CONTROL:
                continue
            difference = measured.ndcg[number] - measured.ndcg[place]
            by_seed = measured.ndcg.mean(axis=2)
            test = statistics.sign_flip_test(by_seed[number], by_seed[place])
            tail = float((measured.long_tail_share[number] - measured.long_tail_share[place]).mean())
            shift = float(measured.first_shift[number].mean())
            interval = _interval(difference, seed)
            made.append(Gain(cell, setting, interval, test.p_value, test.smallest_p_value, shift, tail))
    adjusted = statistics.holm(np.array([gain.p for gain in made]))
    least = min(1.0, len(made) * max(gain.smallest_p for gain in made))
    return [gain._replace(p=float(p), smallest_p=least) for gain, p in zip(made, adjusted, strict=True)]


def _interval(difference: np.ndarray, seed: int) -> statistics.Interval:
    if len(difference) > 1:
        return statistics.crossed_bootstrap(difference, seed=seed)
    summary = statistics.summary(difference[0])
    return statistics.Interval(summary.mean, summary.low, summary.high)


def predictors(found: Sequence[Gain]) -> dict[str, float]:
    """Spearman's rank correlation of the gain with what might predict it, over settings and cells; NaN where one does
    not vary.
    """
    import scipy.stats

    outcome = [gain.interval.mean for gain in found]
    by: dict[str, list[Any]] = {
        "epsilon": [gain.setting.epsilon for gain in found],
        "epsilon x weight": [gain.setting.epsilon * gain.setting.adv_weight for gain in found],
        "margin shift": [-gain.shift for gain in found],
    }
    varies = lambda values: len(set(values)) > 1
    rank_correlation: Any = scipy.stats.spearmanr
    return {
        name: float(rank_correlation(values, outcome)[0]) if varies(values) and varies(outcome) else np.nan
        for name, values in by.items()
    }
