"""A table of models: each trained or solved on the same data, chosen on validation, measured on test, and recorded.

What decides a row stands in its `Row`. Every training keeps its checkpoints and its log in the run directory, and
every cell of the table its measurement; a stopped table goes on where it was, and its models can be loaded from there.
"""

import functools
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

from jaxrec import (
    bench,
    checkpoint,
    display,
    files,
    loop,
    metrics,
    run_directory,
    sampling,
    train,
)
from jaxrec.types import InputError, Interactions, Model, Objective, Params, PyTree

Curve = list[tuple[int, float]]  # (epochs, value)

MAY_CHANGE = (*run_directory.PLACES, "rows", "num_seeds", "reuse")  # of a config: what is added to a run
METRICS = {"ndcg": metrics.ndcg, "hit_rate": metrics.hit_rate, "recall": metrics.recall}


class Fit(NamedTuple):
    """How a model is trained by steps.

    Attributes:
        make: devices -> step.
        optimizer: Whose state a checkpoint holds.
        num_epochs: At most; validation chooses how many of them.
        batch_size: Examples a step.
        validate_every: Epochs between looks at the validation items.
        draw: Draws negatives (see `train.parallel`).
        examples: Training pairs -> the rows an epoch goes over.
        parts: Rows that are trained before, on the same pairs; they and the row itself are refitted (`Row.epochs`).
        start: Their params -> params to start from; `Model.init` by default.
        carried: The params a training starts from -> what its state carries (`TrainState`).
        given: Their params -> what the objective is given besides, such as a teacher; `finish` gives it back.
        first_epoch: Of the data's order and the negatives: a training that goes on from another begins with the epoch
            that comes after the other's.
    """

    make: Callable[[train.Devices], train.Step]
    optimizer: optax.GradientTransformation
    num_epochs: int
    batch_size: int
    validate_every: int = 10
    draw: sampling.Draw = sampling.negatives
    examples: Callable[[Interactions], Interactions] = lambda pairs: pairs
    parts: tuple["Row", ...] = ()
    start: Callable[..., Params] | None = None
    carried: Callable[[Params], dict[str, jax.Array]] = lambda params: {}
    given: Callable[..., dict[str, PyTree]] | None = None
    first_epoch: int = 0


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: Of the row; of its files, with spaces and slashes replaced.
        model: Built.
        training: The schedule in words, for the records.
        fit: How it is trained; None for a model that solves.
        seeds: How many of the table's seeds it takes: 1 for a model without chance. None for all.
        epochs: What decides how long it is trained. "refit": validation, for as many epochs again on training and
            validation pairs; "best": validation, and that epoch's model is taken; "fixed": `Fit.num_epochs`, as
            published, on training and validation pairs; "last": the same on training pairs alone, so that validation
            may choose among rows.
        options: {in words: model}, models that solve, among which validation chooses; `model` is then one of them.
    """

    name: str
    model: Model
    training: str
    fit: Fit | None = None
    seeds: int | None = None
    epochs: Literal["refit", "best", "fixed", "last"] = "refit"
    options: Mapping[str, Model] = {}


def chosen_by(row: Row) -> str | None:
    """What chose a row's model, for the records; None where there was nothing to choose."""
    if row.epochs == "fixed":
        return "published schedule"
    return "validation" if row.options or (row.fit and row.epochs != "last") else None


class Cell(NamedTuple):
    """What one training of one row gave.

    Attributes:
        measured: How it ranked the test items.
        step: Steps taken; None of a solved model.
        epochs: Epochs trained; 0 of a solved model.
        seconds: Of one epoch (the median), or of solving.
    """

    measured: bench.Measured
    step: int | None
    epochs: int
    seconds: float


def by_steps(
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    num_replays: int = 1,
    **others: Any,
) -> Fit:
    """The `Fit` of an objective, `others` of its attributes as they are; on the touched rows alone where that gives the
    same.

    `defences.free` carries `min_max.nothing(surface)`, takes `num_replays` steps on a batch (`train.replayed`), and has
    as many times fewer epochs.
    """

    def make(devices):
        step = train.make_step(objective, optimizer, reads=model.reads, devices=devices)
        return step if num_replays == 1 else train.replayed(step, num_replays)

    return Fit(make, optimizer, **others)


def by_direct_steps(
    model: Model,
    make_objective: Callable[[Model], Objective],
    optimizer: optax.GradientTransformation,
    **others: Any,
) -> Fit:
    """The same for plain SGD on a sum over examples (`train.make_direct_step`), where it is faster."""
    make = lambda devices: train.make_direct_step(make_objective, model, optimizer, devices=devices)
    return Fit(make, optimizer, **others)


def run(
    directory: pathlib.Path, rows: Sequence[Row], on: bench.Bench, *, seeds: Sequence[int]
) -> dict[str, list[Cell]]:
    """Trains and measures every row for every seed, {name: a cell for each seed}; nothing is measured twice."""
    for folder in ("checkpoints", "logs", "measured"):
        (directory / folder).mkdir(exist_ok=True)
    table = {}
    for row in chosen(directory, rows, on, seeds[0]):
        table[row.name] = []
        for seed in seeds_of(row, seeds):
            path = directory / "measured" / f"{_stem(row, seed)}.npz"
            if not path.exists():
                _write_cell(path, _cell(_Table(directory, on, seeds[0], _fit), row, seed))
            table[row.name].append(read_cell(path))
        display.say(_in_short(row, table[row.name], on))
    return table


def chosen(directory: pathlib.Path, rows: Sequence[Row], on: bench.Bench, seed: int) -> list[Row]:
    """The rows with the option that validation chose, once for a run; a choice that was made is read."""
    return [_choose(directory, row, on, seed) if row.options else row for row in rows]


def _choose(directory: pathlib.Path, row: Row, on: bench.Bench, seed: int) -> Row:
    """The row with the model that ranked the validation items best after it had solved the training pairs."""
    path = directory / "measured" / f"{files.stem(row.name)}-choice.json"
    if not path.exists():
        scores = {}
        with display.counting(f"options of {row.name}", len(row.options)) as report:
            for words, model in row.options.items():
                params = _solved(row._replace(model=model), on.split.train, seed)
                scores[words] = validation(model, params, on)[_chosen_by(on)]
                report(words)
        files.write_json(path, scores)
    scores = files.read_json(path)
    if set(scores) != set(row.options):
        of_old = "".join(f" and {cell}" for cell in sorted(path.parent.glob(f"{files.stem(row.name)}-*.npz")))
        raise InputError(
            f"Expected {path} to name {', '.join(row.options)}; got {', '.join(scores)}. Remove it{of_old}."
        )
    best = max(scores, key=scores.__getitem__)
    return row._replace(model=row.options[best], training=f"{row.training}; {best}, chosen of {', '.join(scores)}")


def seeds_of(row: Row, seeds: Sequence[int]) -> list[int]:
    """Those that a row takes."""
    return list(seeds[: row.seeds])


def trained(directory: pathlib.Path, row: Row, on: bench.Bench, seed: int, first_seed: int) -> Params:
    """The parameters of a row (of `chosen`) of a run that measured it, knowing what the test lets it know.

    The run is read, and not touched.

    Raises:
        InputError: If its checkpoints are not there, or not after the epoch that they should end with.
    """
    if row.fit is None:
        return _solved(row, on.both, seed)
    return _knowing(row, _final(_Table(directory, on, first_seed, _read), row, seed), on)


class Finished(NamedTuple):
    """A training at its end: params that know no interactions yet, steps taken, and seconds of an epoch (median)."""

    params: Params
    step: int
    seconds: float


def finish(directory: pathlib.Path, row: Row, on: bench.Bench, seed: int) -> Finished:
    """Trains a row of the kind "last", from its newest checkpoint if there is one; the rows that it starts from too.

    Raises:
        ValueError: If the row is of another kind.
    """
    if row.fit is None or row.epochs != "last":
        raise ValueError(f'Expected a fit of {row.name} with epochs="last", got epochs="{row.epochs}".')
    for folder in ("checkpoints", "logs"):
        (directory / folder).mkdir(exist_ok=True)
    found = _final(_Table(directory, on, seed, _fit), row, seed)
    seconds = _seconds_an_epoch(directory / "logs" / f"{_stem(row, seed)}.times.jsonl")
    return Finished({**found.state.trained, "given": found.given}, found.step, seconds)


def learning_curves(directory: pathlib.Path, rows: Sequence[Row], on: bench.Bench, seed: int) -> dict[str, Curve]:
    """What validation saw of each row that is trained by steps, {name: its points}; of the table's first seed."""
    curves = {}
    for row in rows:
        path = directory / "logs" / f"{files.stem(row.name)}-{'choice' if row.epochs == 'refit' else seed}.jsonl"
        lines = map(json.loads, path.read_text().splitlines()) if row.fit and path.exists() else ()
        points = [(line["epoch"], line[_chosen_by(on)]) for line in lines if _chosen_by(on) in line]
        if points:
            curves[row.name] = points
    return curves


def reuse(source: pathlib.Path, directory: pathlib.Path) -> None:
    """Takes the trainings of another table's run over: their checkpoints and logs, not what they were measured at.

    Raises:
        InputError: If it is no run directory of a table, or began with other flags or data; every difference is named.
    """
    try:
        theirs, mine = (json.loads((path / "config.json").read_text()) for path in (source, directory))
    except (OSError, ValueError) as error:
        raise InputError(f"Expected a run directory with a config.json, got {source}: {error}.") from None
    shared = (theirs["config"].keys() & mine["config"].keys()) - set(MAY_CHANGE)
    pairs = {name: (theirs["config"][name], mine["config"][name]) for name in sorted(shared)}
    pairs["data"] = theirs["data"]["sha256"], mine["data"]["sha256"]
    if differences := [f"{name}: {there} -> {here}" for name, (there, here) in pairs.items() if there != here]:
        raise InputError(f"Expected {source} to have trained as this run does: {', '.join(differences)}.")
    for folder, pattern in (("checkpoints", "*"), ("logs", "*"), ("measured", "*-choice.json")):
        (directory / folder).mkdir(exist_ok=True)
        for there in sorted((source / folder).glob(pattern)):
            here, part = directory / folder / there.name, directory / folder / f".{there.name}"
            if not here.exists():
                shutil.rmtree(part, ignore_errors=True)
                (shutil.copytree if there.is_dir() else shutil.copy)(there, part)
                part.rename(here)


class _Table(NamedTuple):
    """Where the trainings of a table are, what they are of, the seed of those that choose, and how one is come by."""

    directory: pathlib.Path
    on: bench.Bench
    first_seed: int
    training: Callable[..., "_Found"]  # `_fit`, or `_read` of a run that is done


class _Found(NamedTuple):
    """A training: its state, and what it was given that no interaction decides, such as features (`Fit.given`)."""

    state: train.TrainState
    given: PyTree
    meta: Mapping[str, Any]
    step: int


def _cell(table: _Table, row: Row, seed: int) -> Cell:
    if row.fit is None:
        started = time.perf_counter()
        params = jax.block_until_ready(_solved(row, table.on.both, seed))
        return Cell(bench.measure(row.model, params, table.on.test), None, 0, time.perf_counter() - started)
    found = _final(table, row, seed)
    measured = bench.measure(row.model, _knowing(row, found, table.on), table.on.test)
    seconds = _seconds_an_epoch(table.directory / "logs" / f"{_stem(row, seed)}.times.jsonl")
    return Cell(measured, found.step, found.meta["epoch"], seconds)


def _solved(row: Row, known: Interactions, seed: int) -> Params:
    if row.model.solve is None:
        raise ValueError(f"Expected a model that solves, or a fit, for {row.name}.")
    return row.model.knowing(row.model.solve(known, jax.random.key(seed)), known)


def _knowing(row: Row, found: _Found, on: bench.Bench) -> Params:
    """The params, knowing what the test allows."""
    return row.model.knowing({**found.state.trained, "given": found.given}, on.both)


def _final(table: _Table, row: Row, seed: int) -> _Found:
    """The training that is measured."""
    if row.epochs == "best":
        return table.training(table, row, _stem(row, seed), seed, None)
    fixed = row.fit.num_epochs if row.fit else 0
    num_epochs = fixed if row.epochs in ("fixed", "last") else _choice(table, row).meta["epoch"]
    return table.training(table, row, _stem(row, seed), seed, num_epochs)


def _choice(table: _Table, row: Row) -> _Found:
    """The training that chooses the number of epochs."""
    return table.training(table, row, _stem(row, "choice"), table.first_seed, None)


def _stem(row: Row, seed: int | str) -> str:
    """Of a training's files."""
    return f"{files.stem(row.name)}-{seed}"


def _drawn(row: Row, seed: int) -> Params:
    return jax.jit(row.model.init)(jax.random.split(jax.random.key(seed))[0])


def _start(table: _Table, row: Row, name: str, seed: int, choosing: bool) -> Params:
    """What a training begins with: what `init` draws, and in its place what the rows before it have learned."""
    params = _drawn(row, seed)
    path = table.directory / "checkpoints" / name
    if row.fit is None or row.fit.start is None or (path.is_dir() and checkpoint.newest(path)):
        return params
    begun = row.fit.start(*_parts(table, row, seed, choosing))
    return {**begun, "given": params["given"]}


def _parts(table: _Table, row: Row, seed: int, choosing: bool) -> list[Params]:
    """What the rows before it have learned."""
    parts = row.fit.parts if row.fit else ()
    kinds = {each.epochs for each in (row, *parts)}
    if len(kinds) > 1 or not kinds <= {"refit", "last"}:
        raise ValueError(f"Expected {row.name} and the rows it starts from to be refitted: others know other pairs.")
    found = [_choice(table, part) if choosing else _final(table, part, seed) for part in parts]
    return [{**part.state.trained, "given": part.given} for part in found]


def _given(table: _Table, row: Row, seed: int, choosing: bool) -> dict[str, PyTree]:
    """What the rows before it give its objective."""
    return row.fit.given(*_parts(table, row, seed, choosing)) if row.fit and row.fit.given else {}


def _state(fit: Fit, params: Params, seed: int) -> train.TrainState:
    """Where a training begins."""
    key = jax.random.split(jax.random.key(seed))[1]
    if fit.first_epoch:  # or its negatives would be those of the first epochs
        key = jax.random.fold_in(key, fit.first_epoch)
    return train.init_state(params, fit.optimizer, key, carried=fit.carried(params))


def _read(table: _Table, row: Row, name: str, seed: int, num_epochs: int | None) -> _Found:
    """As `_fit`, a training that is done; nothing is trained or written.

    Raises:
        InputError: If it is not there, or ended after another number of epochs.
    """
    fit, directory, params = row.fit, table.directory / "checkpoints" / name, _drawn(row, seed)
    if fit is None:
        raise ValueError(f"Expected a fit of {row.name}.")
    if not directory.is_dir():
        raise InputError(f"Expected the checkpoints of {row.name}, seed {seed}, in {directory}, got none.")
    read = checkpoint.best if num_epochs is None else checkpoint.latest
    found = read(directory, _state(fit, params, seed))
    if found is None or num_epochs not in (None, found.meta["epoch"]):
        wanted = "that validation chose" if num_epochs is None else f"after {num_epochs} epochs"
        got = "none" if found is None else f"one after {found.meta['epoch']}"
        raise InputError(f"Expected a checkpoint {wanted} in {directory}, got {got}.")
    given = {**params["given"], **_given(table, row, seed, num_epochs is None)}
    return _Found(found.state, given, found.meta, found.step)


def _fit(table: _Table, row: Row, name: str, seed: int, num_epochs: int | None) -> _Found:
    """A training of so many epochs, on validation pairs too but for "last"; or the best by validation."""
    fit, on = row.fit, table.on
    if fit is None:
        raise ValueError(f"Expected a fit of {row.name}.")
    pairs = on.split.train if num_epochs is None or row.epochs == "last" else on.both
    params = _start(table, row, name, seed, num_epochs is None)
    more = _given(table, row, seed, num_epochs is None)
    given = {**row.model.knowing(params, pairs)["given"], **more}
    kept = {**params["given"], **more}
    state = _state(fit, params, seed)
    folder = table.directory / "logs"
    logs = files.Log(folder / f"{name}.jsonl"), files.Log(folder / f"{name}.times.jsonl")
    with (
        checkpoint.Checkpoints(table.directory / "checkpoints" / name) as checkpoints,
        display.progress(name, num_epochs or fit.num_epochs) as report,
    ):
        fitted = loop.fit(
            _driver(fit.make, fit.draw),
            state,
            fit.examples(pairs),
            name={"model": row.name, "seed": seed},
            num_epochs=num_epochs or fit.num_epochs,
            batch_size=fit.batch_size,
            sampler=lambda data, seed, epoch: sampling.shuffled(data, seed=seed, epoch=fit.first_epoch + epoch),
            seed=seed,
            checkpoints=checkpoints,
            log=logs[0],
            timings=logs[1],
            given=given,
            validate=None if num_epochs else lambda params: validation(row.model, params, on),
            score=_chosen_by(on),
            validate_every=fit.validate_every,
            report=report,
        )
        for log in logs:
            log.close()
        if num_epochs:
            return _Found(fitted.state, kept, {"epoch": num_epochs}, int(fitted.state.step))
        best = checkpoints.restore_best(state)
    if best is None:
        raise InputError(f"Expected a scored checkpoint of {name} in {table.directory}, found none.")
    return _Found(best.state, kept, best.meta, best.step)


@functools.lru_cache(maxsize=8)
def _driver(make: Callable[[train.Devices], train.Step], draw: sampling.Draw) -> train.Trainer:
    """Compiled once for all seeds of a row."""
    return train.parallel(make, draw=draw)


def validation(model: Model, params: Params, on: bench.Bench) -> dict[str, float]:
    """The metrics of the bench at their first cutoffs, on the validation items."""
    ranks = bench.ranks(model, params, on.valid)
    return {
        f"valid_{name}": float(METRICS[name](ranks, cutoffs[0], on.valid.num_ranked).mean())
        for name, cutoffs in on.cutoffs.items()
    }


def _chosen_by(on: bench.Bench) -> str:
    return f"valid_{next(iter(on.cutoffs))}"


def _seconds_an_epoch(timings: pathlib.Path) -> float:
    """The median over epochs but the first, which compiles, where there are more; chunks of one epoch added up."""
    entries = map(json.loads, timings.read_text().splitlines())
    by_chunk = {(entry["epoch"], entry["step"]): entry["seconds"] for entry in entries}  # of one done twice, the last
    by_epoch: dict[int, float] = {}
    for (epoch, _), seconds in by_chunk.items():
        by_epoch[epoch] = by_epoch.get(epoch, 0) + seconds
    values = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    return float(np.median(values[1:] or values))


def _write_cell(path: pathlib.Path, cell: Cell) -> None:
    """Whole or not at all."""
    with files.whole(path) as file:
        np.savez_compressed(
            file,
            ranks=cell.measured.ranks,
            lists=cell.measured.lists,
            step=-1 if cell.step is None else cell.step,
            epochs=cell.epochs,
            seconds=cell.seconds,
        )


def read_cell(path: pathlib.Path) -> Cell:
    """A measured cell.

    Raises:
        InputError: If the file is not one.
    """
    read = files.read_npz(path, ("ranks", "lists", "step", "epochs", "seconds"))
    step, measured = int(read["step"]), bench.Measured(read["ranks"], read["lists"])
    return Cell(measured, None if step < 0 else step, int(read["epochs"]), float(read["seconds"]))


def _in_short(row: Row, cells: Sequence[Cell], on: bench.Bench) -> str:
    parts = []
    for name, cutoffs in on.cutoffs.items():
        values = [METRICS[name](cell.measured.ranks, cutoffs[0], on.test.num_ranked).mean() for cell in cells]
        parts.append(f"{name}@{cutoffs[0]} {np.mean(values):.4f}")
    return f"{row.name}: {', '.join(parts)} ({len(cells)} seeds, {cells[0].epochs} epochs, {cells[0].seconds:.2f} s)"
