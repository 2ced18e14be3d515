"""What goes on from the same BPR models: one program trains all settings and seeds of a way of going on.

BPR is trained once for each seed. Each continuation begins at its seed's last tables with the optimiser anew, and goes
through the same order of the data with the same negatives as the others of that seed: what differs is the objective.
"""

import contextlib
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax

from jaxrec import checkpoint, display, files, loop, objectives, sampling, surfaces, sweep, sweep_loop, train
from jaxrec.defences import apr
from jaxrec.types import Attack, InputError, Interactions, Model, Objective, PyTree, Scalar


class Setting(NamedTuple):
    """Of adversarial training; with weight 0 the clean loss alone is descended."""

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


class Start(NamedTuple):
    """The BPR that all go on from, `epochs` on the batches of `BEGINNING`, for each seed, on the pairs of `data`."""

    model: Model
    data: Interactions
    optimizer: optax.GradientTransformation
    epochs: int
    seeds: tuple[int, ...]


def dimension(start: Start) -> int:
    """Length of an embedding."""
    return jax.eval_shape(start.model.init, jax.random.key(0))["tables"]["user"].shape[1]


Make = Callable[[sweep.Hyper], Objective]  # {name of a setting's field: traced scalar} -> objective


def apr_by(attack: Callable[[Scalar], Attack], model: Model) -> Make:
    """APR of both tables against `attack`, epsilon -> attack, at a setting's epsilon and weight."""
    clean, surface = objectives.pairwise(model=model), surfaces.tables("user", "item")

    def make(hyper):
        built = attack(hyper["epsilon"])
        return apr.objective(clean=clean, attack=built, surface=surface, adv_weight=hyper["adv_weight"])

    return make


def begun(directory: pathlib.Path, start: Start) -> PyTree:
    """BPR's last tables for each seed, [S, ...]."""
    first, second, _ = zip(*map(_keys, start.seeds), strict=True)
    states = [
        train.init_state(start.model.init(init_key), start.optimizer, key)
        for init_key, key in zip(first, second, strict=True)
    ]
    clean = objectives.pairwise(model=start.model)
    return _fit(directory, start, "BPR", BEGINNING, lambda _: clean, start.epochs, [CONTROL], states).trained


def gone_on(
    directory: pathlib.Path,
    start: Start,
    name: str,
    make: Make,
    *,
    settings: Sequence[Setting],
    num_epochs: int,
    begun: PyTree,
    cell: Cell = BEGINNING,
) -> train.TrainState:
    """Every setting for every seed, setting by setting, [settings x S, ...]; a stopped sweep goes on.

    Args:
        directory: With the folders `checkpoints` and `logs`.
        name: Of the logs and checkpoints. The same name with more epochs goes on from where it was.
        begun: From `begun`.

    Raises:
        NonFiniteLoss: If the loss of a setting ceases to be finite, which is named.
        InputError: If it went on for more epochs before: the models after `num_epochs` are gone.
    """
    states = [
        train.init_state(sweep.model(begun, place), start.optimizer, _keys(seed)[2])
        for place, seed in enumerate(start.seeds)
    ]
    return _fit(directory, start, name, cell, make, num_epochs, settings, states)


def _keys(seed: int) -> jax.Array:
    """Of a seed's initial tables, of its BPR, and of what goes on from there: the same negatives in all settings."""
    return jax.random.split(jax.random.key(seed), 3)


def _fit(
    directory: pathlib.Path,
    start: Start,
    name: str,
    cell: Cell,
    make: Make,
    num_epochs: int,
    settings: Sequence[Setting],
    states: Sequence[train.TrainState],
) -> train.TrainState:
    """Every setting from every seed's state, setting by setting; each seed has an order of the data of its own."""
    pairs = [(setting, place) for setting in settings for place in range(len(start.seeds))]
    models = sweep.stack(
        [states[place] for _, place in pairs],
        hyper=[setting._asdict() for setting, _ in pairs],
        orders=[place for _, place in pairs],
    )
    make_step = lambda hyper: train.make_step(make(hyper), start.optimizer, reads=start.model.reads)
    with contextlib.ExitStack() as stack:
        log, timings = (
            stack.enter_context(contextlib.closing(files.Log(directory / "logs" / f"{files.stem(name)}{end}.jsonl")))
            for end in ("", ".times")
        )
        checkpoints = stack.enter_context(checkpoint.Checkpoints(directory / "checkpoints" / files.stem(name)))
        report = stack.enter_context(display.progress(f"{name}, {len(pairs)} models", num_epochs))
        fitted = sweep_loop.fit(
            sweep.parallel(make_step, num_models=len(pairs)),
            models,
            start.data,
            names=[{"model": str(setting), "seed": start.seeds[place]} for setting, place in pairs],
            num_epochs=num_epochs,
            batch_size=cell.batch_size,
            sampler=sampling.SAMPLERS[cell.batching],
            order_seeds=start.seeds,
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
    num_batches = -(-len(loop.trainable(start.data)) // cell.batch_size)
    if (epochs := int(np.max(fitted.models.states.step)) // num_batches) != num_epochs:
        raise InputError(f"Expected {name} after {num_epochs} epochs in {directory}, but it has {epochs} behind it.")
    return fitted.models.states
