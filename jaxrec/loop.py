"""The loop around the step: epochs, validation, checkpoints, logs, and a stop that loses nothing.

Everything that decides the outcome is a function of the seed and the number of the step: a run that is killed and
started again goes on from its newest good checkpoint and ends with the same bytes as one that was never stopped.
"""

import contextlib
import functools
import json
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrec import checkpoint, checkpoint_step, checks, files, sampling, train
from jaxrec.types import InputError, Interactions, Model, Objective, Params, PyTree

CHUNK_SIZE = 2**20  # examples sent to the device at once: 9 MB of ids, a second or so between looks at the clock
Sampler = Callable[..., np.ndarray]  # (train, *, seed, epoch) -> rows in order


class NonFiniteLoss(FloatingPointError):
    """The loss became infinite or not a number; the message names step and batch, and the checkpoint to go back to."""


class _Looks(NamedTuple):
    """The best score that validation has seen, and its looks since then."""

    best: float | None = None
    since: int = 0

    def after(self, score: float | None) -> "_Looks":
        if score is None:
            return self
        return _Looks(score) if self.best is None or score > self.best else _Looks(self.best, self.since + 1)

    def are_enough(self, patience: int | None) -> bool:
        return patience is not None and self.since >= patience


class Fitted(NamedTuple):
    """What training left: the final state on the host, and the length of the log when it was done, in bytes."""

    state: train.TrainState
    log_end: int


def fit(
    trainer: train.Trainer,
    state: train.TrainState,
    data: Interactions,
    *,
    name: Mapping[str, Any],
    num_epochs: int,
    batch_size: int,
    sampler: Sampler,
    seed: int,
    checkpoints: checkpoint.Checkpoints,
    log: files.Log,
    timings: files.Log,
    log_start: int = 0,
    given: PyTree | None = None,
    validate: Callable[[Params], dict[str, float]] | None = None,
    score: str = "",
    other_scores: Sequence[str] = (),
    validate_every: int = 10,
    patience: int | None = None,
    chunk_size: int = CHUNK_SIZE,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Fitted:
    """Trains for `num_epochs`, from the newest good checkpoint if there is one.

    Args:
        trainer: From `train.parallel`.
        state: Where training starts if there is no checkpoint.
        data: Training interactions. Users who have seen every item are left out: they have no negative.
        name: Fields that begin each log line, such as the model's name and the seed.
        batch_size: Examples of the global batch; the last batch of an epoch is smaller, none is dropped.
        sampler: `sampling.shuffled` or `sampling.user_blocked`.
        seed: Of the data's order.
        checkpoints: Where states go, every `validate_every` epochs, at the end and on SIGTERM or Ctrl-C.
        log: One line a chunk (an epoch, unless that has more than `chunk_size` examples), means over its examples.
        timings: Examples a second and wall time a chunk; not part of what is byte-identical.
        log_start: Length of the log when this training began: lines after it, or after the checkpoint, are dropped.
        given: The part of params that is not trained.
        validate: params -> {name: value}, asked every `validate_every` epochs and after the last.
        score: Which of these values chooses the best checkpoint (larger is better).
        patience: Looks at the validation items without a better score after which training stops (early stopping); the
            last log line then says so. None: never.
        other_scores: Values by each of which one more best checkpoint is kept, such as one under attack.
        chunk_size: Examples sent to the device at once. It decides how often there is a line in the log and when a
            signal is seen, never the tables; a run may go on with another.
        report: Called with each log line and its timing, for a progress display.

    Raises:
        ValueError: If `validate_every < 1`, or `patience < 1` or is there with nothing to look at.
        InputError: If there is nothing to train on, the checkpoint is of epochs of another length, or another training
            has written to the log after it: its lines would be lost.
        NonFiniteLoss: At the first step whose loss is not finite, or when what it left in the tables is not; nothing
            of that is saved.
        SystemExit: With status 128 + the signal's number, after saving, on SIGTERM or SIGINT.
    """
    check_validation(validate_every, patience, validate, score)
    seen, data = sampling.seen(data), trainable(data)
    given = {} if given is None else given
    size = epoch_size(data, batch_size)
    num_batches = size["num_batches"]
    state, step, log_end, looks = _resume(checkpoints, state, size, log_start)
    last_step = num_epochs * num_batches
    if step >= last_step or looks.are_enough(patience):
        return Fitted(jax.device_get(state), log_end)
    _check_last(log.path, log_end, name, checkpoints)
    log.truncate(log_end)

    padded_size = -(-batch_size // trainer.count) * trainer.count
    order_of = functools.lru_cache(maxsize=1)(lambda epoch: sampler(data, seed=seed, epoch=epoch))

    def batches_from(step):
        epoch, first, num = chunk_at(step, num_batches, chunk_size // batch_size)
        order = order_of(epoch)
        return sampling.batches(data, order, batch_size=batch_size, first=first, num=num, padded_size=padded_size)

    with signals() as caught:
        for chunk in _train(trainer, state, given, seen, batches_from, step, last_step):
            state, step = chunk.state, chunk.step
            place = {**name, "epoch": (step - 1) // num_batches + 1, "step": step}
            chunk = _finite(chunk, num_batches, checkpoints)
            line = place | summarise(chunk.metrics, chunk.batches)
            timing = place | _timing(chunk)
            due = step % (validate_every * num_batches) == 0 or step == last_step
            host_state = _finite_state(trainer.get(state), checkpoints) if due else None
            if host_state is not None and validate is not None:
                line |= validate({**host_state.trained, "given": given})
                looks = looks.after(line.get(score))
                line |= {"stopped": f"not better at {patience} looks"} if looks.are_enough(patience) else {}
            log.write(line)
            timings.write(timing)
            report(line | timing)
            stop = bool(caught)  # a signal from here on is seen after the next chunk
            if due or stop:
                host_state = host_state or _finite_state(trainer.get(state), checkpoints)
                meta = {
                    "epoch": step // num_batches,
                    **size,
                    "log_end": log.position(),
                    "looks": looks,
                }
                others = {name: line[name] for name in other_scores if name in line}
                checkpoints.save(step, host_state, meta, line.get(score), others)
            if stop or looks.are_enough(patience):
                break
    if caught:
        checkpoints.wait()
        raise SystemExit(128 + caught[0])
    return Fitted(trainer.get(state), log.position())


def check_validation(
    validate_every: int, patience: int | None, validate: Callable[..., Any] | None, score: str
) -> None:
    """Raises a ValueError if there are no epochs between looks at the validation items, or patience without looks."""
    checks.counts(validate_every=validate_every)
    if patience is not None and (patience < 1 or validate is None or not score):
        raise ValueError(f"Expected patience >= 1 with validate and score, got patience={patience}, score={score!r}.")


def trainable(data: Interactions) -> Interactions:
    """The interactions of users for whom there is a negative; an InputError if there are none."""
    data = sampling.with_unseen_items(data)
    if not len(data):
        raise InputError("Expected training interactions of users who have an unseen item, got none.")
    return data


def fit_in_memory(
    model: Model,
    objective: Objective,
    data: Interactions,
    *,
    num_epochs: int,
    batch_size: int = 512,
    optimizer: optax.GradientTransformation | None = None,
    seed: int = 0,
    start: Params | None = None,
    trainer: train.Trainer | None = None,
) -> Params:
    """Trains without a run directory, for notebooks and tests: shuffled batches, one device, nothing kept or logged.

    Args:
        optimizer: Adagrad with learning rate 0.05 and accumulators that start at 0.1 by default, as in He et al.
        seed: Decides the initial tables, the data's order and the negatives.
        start: The params to go on from, the optimiser anew; by default the model's initial ones.
        trainer: Of this objective and optimiser, compiled once where many such models are trained; made by default.

    Returns:
        The params after the last epoch.
    """
    optimizer = optimizer or optax.adagrad(0.05, initial_accumulator_value=0.1)
    init_key, key = jax.random.split(jax.random.key(seed))
    params = model.init(init_key) if start is None else start
    make = lambda devices: train.make_step(objective, optimizer, reads=model.reads, devices=devices)
    trainer = trainer or train.parallel(make)
    state, seen = train.init_state(params, optimizer, key), sampling.seen(data)
    data = sampling.with_unseen_items(data)
    for epoch in range(num_epochs):
        order = sampling.shuffled(data, seed=seed, epoch=epoch)
        batches = sampling.batches(data, order, batch_size=batch_size, first=0, num=-(-len(order) // batch_size))
        state, _ = trainer.run(state, params["given"], seen, batches)
    return {**state.trained, "given": params["given"]}


def _resume(
    checkpoints: checkpoint.Checkpoints, start: train.TrainState, size: Mapping[str, int], log_start: int
) -> tuple[train.TrainState, int, int, _Looks]:
    """(state, steps taken, length of the log, looks) of the newest good checkpoint; of the start if there is none."""
    restored = checkpoints.restore(start)
    if restored is None:
        return start, 0, log_start, _Looks()
    check_epochs(checkpoints, restored, size)
    return restored.state, restored.step, restored.meta["log_end"], _Looks(*restored.meta.get("looks", ()))


def epoch_size(data: Interactions, batch_size: int) -> dict[str, int]:
    """What a checkpoint says of its epochs."""
    return {"num_batches": -(-len(data) // batch_size), "batch_size": batch_size, "num_examples": len(data)}


def check_epochs(
    checkpoints: checkpoint.Checkpoints, restored: checkpoint_step.Restored, size: Mapping[str, int]
) -> None:
    """Raises an InputError if a checkpoint is of epochs of another `epoch_size`."""
    saved = {name: restored.meta.get(name, now) for name, now in size.items()}  # older checkpoints do not say all
    differing = "".join(f"; {name}: {saved[name]} -> {now}" for name, now in size.items() if saved[name] != now)
    if differing or restored.meta["epoch"] != restored.step // size["num_batches"]:
        raise InputError(
            f"Expected the batch size and data that {checkpoints.directory} began with: its step {restored.step} has "
            f"{restored.meta['epoch']} epochs behind it, got {size['num_batches']} batches an epoch{differing}."
        )


def chunk_at(step: int, num_batches: int, most: int) -> tuple[int, int, int]:
    """(epoch, first batch, number of batches) of what is trained at once after `step` steps."""
    epoch, first = divmod(step, num_batches)
    return epoch, first, min(max(1, most), num_batches - first)


def _check_last(log: pathlib.Path, log_end: int, name: Mapping[str, Any], checkpoints: checkpoint.Checkpoints) -> None:
    """Raises an InputError if a line after `log_end`, where this training goes on, is another one's."""
    for line in map(json.loads, log.read_bytes()[log_end:].splitlines()):
        if not {**name}.items() <= line.items():
            other = {field: line.get(field) for field in name}
            raise InputError(
                f"Expected only lines of {dict(name)} in {log} after byte {log_end}, where the newest good step in "
                f"{checkpoints.directory} ends, got one of {other}, which would be lost: begin in an empty directory."
            )


class _Chunk(NamedTuple):
    """Steps that were trained at once; `step` is the number of those taken by their end."""

    state: train.TrainState
    metrics: dict[str, np.ndarray]  # [S]
    batches: dict[str, np.ndarray]  # [S, B]
    step: int
    seconds: float


def _train(
    trainer: train.Trainer,
    state: train.TrainState,
    given: PyTree,
    seen: sampling.Seen,
    batches_from: Callable[[int], dict[str, np.ndarray]],
    step: int,
    last_step: int,
) -> Iterator[_Chunk]:
    """Trains chunk after chunk; each state is on the devices, and donated when the next chunk is asked for."""
    state, batches = trainer.put(state), batches_from(step)
    while step < last_step:
        started = time.perf_counter()
        state, metrics = trainer.run(state, given, seen, batches)
        step, used = step + len(batches["where"]), batches
        batches = batches_from(step) if step < last_step else {}  # on the host, while the device is at work
        yield _Chunk(state, jax.device_get(metrics), used, step, time.perf_counter() - started)


def _finite(chunk: _Chunk, num_batches: int, checkpoints: checkpoint.Checkpoints) -> _Chunk:
    """The chunk, if its metrics are finite; raises a NonFiniteLoss otherwise."""
    bad = np.flatnonzero(~np.all([np.isfinite(x) for x in chunk.metrics.values()], axis=0))
    if len(bad):
        before = chunk.step - len(chunk.batches["where"]) + int(bad[0])
        epoch, batch = divmod(before, num_batches)
        values = ", ".join(f"{name} {x[bad[0]]}" for name, x in chunk.metrics.items())
        raise NonFiniteLoss(
            f"The loss is not finite in step {before + 1} (epoch {epoch + 1}, batch {batch + 1} of {num_batches}; "
            f"all counted from 1): {values}. {_advice(checkpoints)}"
        )
    return chunk


def _finite_state(state: train.TrainState, checkpoints: checkpoint.Checkpoints) -> train.TrainState:
    """The state, if its tables and weights are finite: the loss of a step says nothing of the update after it."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.trained)):
        raise NonFiniteLoss(f"Tables are not finite after step {int(state.step)}. {_advice(checkpoints)}")
    return state


def _advice(checkpoints: checkpoint.Checkpoints) -> str:
    return (
        f"Training stopped; the last good checkpoint, if there was one, is in {checkpoints.directory}. "
        "Try a smaller learning rate."
    )


def summarise(step_metrics: Mapping[str, np.ndarray], batches: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over a chunk's examples of the metrics [S] that its steps on batches [S, B] summed."""
    sums = {name: x.sum(dtype=np.float64) for name, x in step_metrics.items()}
    means = {name: float(x / sums["examples"]) for name, x in sums.items() if name != "examples"}
    if "adv_margin" in means:
        means["margin_shift"] = means["adv_margin"] - means["margin"]
    return means | {"distinct_users": _distinct_users(batches)}


def _distinct_users(batches: Mapping[str, np.ndarray], most: int = 16) -> float:
    """Mean number of distinct users of a batch, over the first few batches."""
    first = zip(batches["users"][:most], batches["where"][:most], strict=True)
    return float(np.mean([len(np.unique(users[where])) for users, where in first]))


def _timing(chunk: _Chunk) -> dict[str, float]:
    return {"seconds": chunk.seconds, "examples_per_second": float(chunk.batches["where"].sum() / chunk.seconds)}


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying of them; a second SIGINT interrupts at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # only the main thread may install handlers
        return

    def handler(number, frame):
        if number == signal.SIGINT and caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, old in before.items():
            signal.signal(number, old)
