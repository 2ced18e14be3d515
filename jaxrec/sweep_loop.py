"""The loop around the steps of many models: epochs, validation, checkpoints, logs; each model may stop for itself.

As in `loop`, a run that is killed and started again ends with the same bytes as one that was never stopped.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrec import checkpoint, files, loop, sampling, sweep
from jaxrec.types import InputError, Interactions, Params, PyTree

NOT_FINITE = "not finite"


class Progress(NamedTuple):
    """What is remembered of S models beside their states; arrays of the host.

    Attributes:
        best: {"tables", "weights"}, [S, ...], as they were when validation liked them best.
        best_score: float32 [S]; -inf before the first look.
        best_step: int32 [S].
        last_step: int32 [S], steps taken.
        looks: int32 [S], at the validation items since the best.
        running: bool [S].
    """

    best: PyTree
    best_score: np.ndarray
    best_step: np.ndarray
    last_step: np.ndarray
    looks: np.ndarray
    running: np.ndarray


class Fitted(NamedTuple):
    """What training left, on the host; `sweep.model(tree, s)` is model s's part of any of it."""

    models: sweep.Models
    progress: Progress


def fit(
    trainer: sweep.Trainer,
    models: sweep.Models,
    data: Interactions,
    *,
    names: Sequence[Mapping[str, Any]],
    num_epochs: int,
    batch_size: int,
    sampler: loop.Sampler,
    order_seeds: Sequence[int],
    checkpoints: checkpoint.Checkpoints,
    log: files.Log,
    timings: files.Log,
    log_start: int = 0,
    given: PyTree | None = None,
    validate: Callable[[Params], dict[str, float]] | None = None,
    score: str = "",
    validate_every: int = 10,
    patience: int | None = None,
    chunk_size: int = 16 * loop.CHUNK_SIZE,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Fitted:
    """Trains all models for `num_epochs`, from the newest good checkpoint if there is one: `loop.fit` for many.

    A model whose loss or tables cease to be finite is stopped where it is, with a line in the log, and the others go
    on; so is one that validation has not liked better at `patience` looks.

    Args:
        names: For each model the fields that begin its log lines.
        order_seeds: Of the orders of the data, K; `sweep.Models.order` says which is whose.
        checkpoints: Where all models go together; its score is None, for the best of each is in `Progress`.
        log: For each chunk a line for each model that still runs.
        timings: A line a chunk.
        validate: params of one model -> {name: value}.
        patience: Looks at the validation items without a better score after which a model stops; None: never.
        chunk_size: Examples times orders sent to the device at once.
        report: Called with the mean over running models of what all log, and the timing.

    Other arguments are those of `loop.fit`.

    Raises:
        ValueError: As `loop.fit`; if there is not one name for each model, or an order without a seed.
        InputError: If there is nothing to train on, or the checkpoint is of epochs of another length, or of other
            names, orders or hyperparameters, those of the optimiser by `optax.inject_hyperparams` among them.
        SystemExit: With status 128 + the signal's number, after saving, on SIGTERM or SIGINT.
    """
    loop.check_validation(validate_every, patience, validate, score)
    order = _order(models, names, order_seeds)
    seen, data = sampling.seen(data), loop.trainable(data)
    given = {} if given is None else given
    size = loop.epoch_size(data, batch_size)
    num_batches = size["num_batches"]
    last_step = num_epochs * num_batches
    begun = _begun(models, names, order_seeds)
    models, progress, step, log_end = _resume(checkpoints, models, size, begun, log_start, validate is not None)
    if step >= last_step or not progress.running.any():
        return Fitted(jax.device_get(models), progress)
    log.truncate(log_end)
    batches_from = _batches_from(data, sampler, order_seeds, batch_size, chunk_size)
    state, batches = trainer.put(models), batches_from(step)
    with loop.signals() as caught:
        while step < last_step and progress.running.any():
            started = time.perf_counter()
            state, metrics = trainer.run(state, given, seen, batches, progress.running)
            step, used = step + batches["where"].shape[1], batches
            batches = batches_from(step) if step < last_step else {}  # on the host, while the device is at work
            place = {"epoch": (step - 1) // num_batches + 1, "step": step}
            chunk = _Chunk(jax.device_get(metrics), used, order, place, time.perf_counter() - started)
            due = step % (validate_every * num_batches) == 0 or step == last_step
            host = trainer.get(state) if due else None
            lines, progress = _logged(chunk, progress)
            if host is not None:
                lines, progress = _looked(lines, host, progress, given, validate, score, patience)
            for number, line in lines.items():
                log.write({**names[number], **line})
            timing = _timing(chunk, len(lines))
            timings.write(timing)
            report(_means(list(lines.values())) | timing)
            stop = bool(caught)  # a signal from here on is seen after the next chunk
            if due or stop:
                saved = {"models": host or trainer.get(state), "progress": progress}
                meta = {"epoch": step // num_batches, **size, **begun, "log_end": log.position()}
                checkpoints.save(step, saved, meta, None)
            if stop:
                break
    if caught:
        checkpoints.wait()
        raise SystemExit(128 + caught[0])
    return Fitted(trainer.get(state), progress)


def _order(models: sweep.Models, names: Sequence[Any], order_seeds: Sequence[int]) -> np.ndarray:
    """Which order of the data is whose, [S]; a ValueError where names or seeds are not as many as they should be."""
    order = np.asarray(models.order)
    if len(names) != len(order) or order.max() >= len(order_seeds):
        raise ValueError(
            f"Expected a name for each of {len(order)} models and a seed for each of {order.max() + 1} orders, "
            f"got {len(names)} names and {len(order_seeds)} seeds."
        )
    return order


def _begun(models: sweep.Models, names: Sequence[Mapping[str, Any]], order_seeds: Sequence[int]) -> dict[str, Any]:
    """What a checkpoint says of the models that it began with, beside what it restores: as JSON gives it back."""
    rates = optax.tree_utils.tree_get_all_with_path(models.states.opt_state, "hyperparams")
    begun = {"names": names, "order_seeds": list(order_seeds), "optimizer": [values for _, values in rates]}
    return files.as_json(begun)


def _batches_from(
    data: Interactions, sampler: loop.Sampler, order_seeds: Sequence[int], batch_size: int, chunk_size: int
) -> Callable[[int], dict[str, np.ndarray]]:
    """step -> the batches [K, steps, B] of the chunk that begins there."""
    num_batches, most = -(-len(data) // batch_size), chunk_size // (batch_size * len(order_seeds))
    order_of = functools.lru_cache(maxsize=len(order_seeds))(lambda seed, epoch: sampler(data, seed=seed, epoch=epoch))

    def batches_from(step):
        epoch, first, num = loop.chunk_at(step, num_batches, most)
        cut = lambda seed: sampling.batches(data, order_of(seed, epoch), batch_size=batch_size, first=first, num=num)
        made = [cut(seed) for seed in order_seeds]
        return {name: np.stack([each[name] for each in made]) for name in made[0]}

    return batches_from


def _resume(
    checkpoints: checkpoint.Checkpoints,
    models: sweep.Models,
    size: Mapping[str, int],
    begun: Mapping[str, Any],
    log_start: int,
    validated: bool,
) -> tuple[sweep.Models, Progress, int, int]:
    """(models, progress, steps taken, length of the log) of the newest good checkpoint; of the start without one."""
    num_models = len(models.order)
    start = Progress(
        best=jax.device_get(models.states.trained) if validated else {},
        best_score=np.full(num_models, -np.inf, np.float32),
        best_step=np.zeros(num_models, np.int32),
        last_step=np.zeros(num_models, np.int32),
        looks=np.zeros(num_models, np.int32),
        running=np.ones(num_models, bool),
    )
    restored = checkpoints.restore({"models": models, "progress": start})
    if restored is None:
        return models, start, 0, log_start
    loop.check_epochs(checkpoints, restored, size)
    found, progress = restored.state["models"], jax.device_get(restored.state["progress"])
    theirs, mine = ({**each.hyper, "order": np.asarray(each.order)} for each in (found, models))
    differing = [name for name in mine if not np.array_equal(theirs[name], mine[name])]
    differing += [name for name in begun if restored.meta.get(name, begun[name]) != begun[name]]  # older do not say
    if differing:
        raise InputError(f"Expected the {', '.join(differing)} that {checkpoints.directory} began with, got others.")
    return found, progress, restored.step, restored.meta["log_end"]


class _Chunk(NamedTuple):
    """Steps that were trained at once; `place` is the epoch they are of, and the number of steps taken by their end."""

    metrics: dict[str, np.ndarray]  # [S, steps]
    batches: dict[str, np.ndarray]  # [K, steps, B]
    order: np.ndarray  # [S]
    place: dict[str, int]
    seconds: float


Lines = dict[int, dict[str, Any]]  # of the models that run


def _logged(chunk: _Chunk, progress: Progress) -> tuple[Lines, Progress]:
    """A line for each model that ran; one whose loss is not finite runs no more."""
    lines, running, last_step = {}, progress.running.copy(), progress.last_step.copy()
    for number in np.flatnonzero(progress.running).tolist():
        of_one = {name: values[number] for name, values in chunk.metrics.items()}
        batches = {name: column[chunk.order[number]] for name, column in chunk.batches.items()}
        last_step[number] = chunk.place["step"]
        if all(np.isfinite(values).all() for values in of_one.values()):
            lines[number] = chunk.place | loop.summarise(of_one, batches)
        else:
            running[number] = False
            lines[number] = chunk.place | {"stopped": NOT_FINITE}
    return lines, progress._replace(running=running, last_step=last_step)


def _looked(
    lines: Lines,
    host: sweep.Models,
    progress: Progress,
    given: PyTree,
    validate: Callable[[Params], dict[str, float]] | None,
    score: str,
    patience: int | None,
) -> tuple[Lines, Progress]:
    """The lines with what validation says of the models that run, the best of each, and who stops."""
    lines, running = dict(lines), progress.running.copy()
    scores, looks = np.full(len(running), -np.inf, np.float32), progress.looks.copy()
    for number in np.flatnonzero(running).tolist():
        trained = sweep.model(host.states.trained, number)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained)):
            running[number] = False
            lines[number] = lines[number] | {"stopped": NOT_FINITE}
        elif validate is not None:
            values = validate({**trained, "given": given})
            lines[number] = lines[number] | values
            scores[number] = values[score]
            looks[number] = 0 if scores[number] > progress.best_score[number] else looks[number] + 1
            if patience is not None and looks[number] >= patience:
                running[number] = False
                lines[number] = lines[number] | {"stopped": f"not better at {patience} looks"}
    better = scores > progress.best_score
    choose = lambda new, old: np.where(better.reshape(-1, *(1,) * (old.ndim - 1)), new, old)
    return lines, Progress(
        best=jax.tree.map(choose, host.states.trained, progress.best) if validate else progress.best,
        best_score=choose(scores, progress.best_score),
        best_step=choose(progress.last_step, progress.best_step),
        last_step=progress.last_step,
        looks=looks,
        running=running,
    )


def _timing(chunk: _Chunk, num_models: int) -> dict[str, float]:
    """Of all models that ran; an example counts once for each of them."""
    examples = float(chunk.batches["where"][0].sum()) * num_models
    return {
        **chunk.place,
        "models": num_models,
        "seconds": chunk.seconds,
        "examples_per_second": examples / chunk.seconds,
    }


def _means(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of the numbers that all lines have."""
    shared = [name for name in lines[0] if all(isinstance(line.get(name), int | float) for line in lines)]
    return {name: float(np.mean([line[name] for line in lines])) for name in shared}
