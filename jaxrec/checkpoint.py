"""Checkpoints that are found good before they are used: Orbax steps, sealed by a SHA-256 of every leaf and every file.

Orbax (https://orbax.readthedocs.io) commits a step by a rename, so a killed process leaves the old or the new step
whole, but it checks no array data: a flipped bit restores in silence. Here a step is good only with its header, which
is written last; a bad step is named on stderr, set aside as `bad-<step>`, and the step before it is used.

    python -m jaxrec.checkpoint digest RUN_DIR      verifies the newest good steps and prints their digests
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import logging
import math
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
import tyro
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxrec import checkpoint_step, command
from jaxrec.types import InputError, PyTree

_T = TypeVar("_T")

# Orbax reports through absl, from background threads and with pages of traceback, what we report in one line.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Checkpoints:
    """The steps of one model in one directory: the latest 2 and the best 1 are kept (the earliest of equal scores),
    and the best 1 by each other score.

    A context manager; leaving it waits for the save in progress. Meant for one process at a time: the run directory's
    lock sees to that.

    Args:
        directory: Where the steps lie; made if absent. What a killed process left half-written is named and removed.

    Raises:
        InputError: If the directory cannot be made.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        self.directory = pathlib.Path(directory).resolve()  # Orbax fails late and at length on a relative path
        with self._one_line("open"):
            self.directory.mkdir(parents=True, exist_ok=True)
            for unfinished in sorted(self.directory.glob("*.orbax-checkpoint-tmp*")):
                _warn(f"checkpoint {unfinished} was not finished; it is removed")
                shutil.rmtree(unfinished)
            headers = self._headers()  # sets aside what the manager, which reads all scores, would fail on
            self._highest = checkpoint_step.highest(headers.values())
            self._manager = _manager(self.directory)
        self._writer = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._pending: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            self._manager.close()

    def save(
        self,
        step: int,
        state: PyTree,
        meta: Any,
        score: float | None = None,
        other_scores: Mapping[str, float] = {},
    ) -> None:
        """Saves a step in the background; the buffers of `state` may be donated at once.

        A step that is there already is left alone when nothing about it changed, and replaced otherwise.

        Args:
            step: Steps done so far; not below the newest saved one.
            state: Tree of arrays, none of them empty; from pmap, one replica.
            meta: JSON: data position, log positions, best metric so far, ...
            score: What the best step has most of; None where it was not measured.
            other_scores: {name: what the best step by that name has most of}, such as a score under attack.

        Raises:
            ValueError: If the step is older than the newest, a leaf is no array or is empty, or a number is not finite.
            InputError: If this save, or the one before it in the background, could not be written.
        """
        leaves, header = checkpoint_step.pack(step, state, meta, score, other_scores)
        self.wait()
        newest = max(self._manager.all_steps(), default=step)
        if step < newest:
            raise ValueError(f"Expected a step of at least {newest}, the newest in {self.directory}, got {step}.")
        self._highest = checkpoint_step.highest([{"highest": self._highest}, header])
        self._pending = self._writer.submit(self._write, step, leaves, {**header, "highest": self._highest})

    def restore(self, template: PyTree) -> checkpoint_step.Restored | None:
        """The newest good step, on the devices of `template`; bad ones on the way are named on stderr and set aside.

        Args:
            template: Tree like the saved state, of arrays or `jax.ShapeDtypeStruct`s.

        Returns:
            The step, bit for bit as it was saved; None when there is no good one.

        Raises:
            InputError: If the step is good but its leaves have other paths, dtypes or shapes than the template.
        """
        self.wait()
        found = self._first_good(sorted(checkpoint_step.numbers(self.directory), reverse=True), template)
        good = self._headers()  # what was trained beyond the step is to be trained again
        self._highest = checkpoint_step.highest(good[step] for step in good if found and step <= found.step)
        return found

    def restore_best(self, template: PyTree, *, name: str | None = None) -> checkpoint_step.Restored | None:
        """As `restore`, the good step with the highest score, the earliest of equals; None when none was scored.

        Args:
            template: As in `restore`.
            name: Of one of the `other_scores` that choose; None for `score`.

        Raises:
            InputError: As `restore`, and if a higher score was saved: the step that had it is damaged.
        """
        self.wait()
        headers = self._headers()
        found = self._first_good(_best_first(headers, name), template, name)
        return _checked_highest(found, headers, name, self.directory)

    def wait(self) -> None:
        """Returns when the last save is on the disk; raises an InputError if it could not be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._one_line("save"):
                pending.result()

    def _write(self, step: int, leaves: dict[str, np.ndarray], header: dict[str, Any]) -> None:
        """Writes a step and then its header."""
        path = self.directory / str(step)
        if step in self._manager.all_steps():
            if checkpoint_step.is_like(path, header):
                return
            self._manager.delete(step)
        named = {"score": header["score"], **header.get("other_scores", {})}
        measured = {name: score for name, score in named.items() if score is not None}
        metrics = {**measured, "step": step} if measured else None
        saved = self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(leaves)), metrics=metrics)
        if not saved:
            raise RuntimeError("Orbax did not take the step")  # it says so by returning False
        checkpoint_step.seal(path, header)

    def _headers(self) -> dict[int, dict[str, Any]]:
        """{step: header}; steps without a good one are set aside."""
        headers = {}
        for step in checkpoint_step.numbers(self.directory):
            try:
                headers[step] = checkpoint_step.check(self.directory / str(step))
            except checkpoint_step.Bad as error:
                self._set_aside(step, error)
        return headers

    def _first_good(
        self, steps: Iterable[int], template: PyTree, name: str | None = None
    ) -> checkpoint_step.Restored | None:
        """The first of `steps` that verifies, with its score by `name`; those before it are set aside."""
        found = None
        for step in steps:
            try:
                found = checkpoint_step.restore(self.directory / str(step), template, name)
                break
            except checkpoint_step.Bad as error:
                self._set_aside(step, error)
        self._manager.reload()  # it remembers the steps that were set aside
        return found

    def _set_aside(self, step: int, error: checkpoint_step.Bad) -> None:
        """Renames a bad step, so that it is neither read nor in the way of the one that replaces it."""
        _warn(f"checkpoint step {step} in {self.directory} is bad and set aside as bad-{step}: {error}")
        aside = self.directory / f"bad-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        (self.directory / str(step)).rename(aside)

    @contextlib.contextmanager
    def _one_line(self, verb: str) -> Iterator[None]:
        """Turns what Orbax or the disk raises, which may be any Exception, into one line."""
        try:
            yield
        except Exception as error:
            line = checkpoint_step.first_line(error)
            raise InputError(f"Could not {verb} checkpoints in {self.directory}: {line}") from error


def best(
    directory: str | pathlib.Path, template: PyTree, *, name: str | None = None
) -> checkpoint_step.Restored | None:
    """As `Checkpoints.restore_best`, of a directory that a training may be writing to; touches nothing.

    Bad steps are named on stderr.
    """
    directory = pathlib.Path(directory).resolve()
    bad = set()
    while True:
        headers = dict(_good(directory, checkpoint_step.check))
        steps = [step for step in _best_first(headers, name) if step not in bad]
        try:
            found = checkpoint_step.restore(directory / str(steps[0]), template, name) if steps else None
        except checkpoint_step.Bad as error:  # perhaps just removed, for a better one
            _warn(f"checkpoint step {steps[0]} in {directory} is bad: {error}")
            bad.add(steps[0])
        else:
            return _checked_highest(found, headers, name, directory)


def latest(directory: str | pathlib.Path, template: PyTree) -> checkpoint_step.Restored | None:
    """As `Checkpoints.restore`, of a directory that a training may be writing to; touches nothing.

    Bad steps are named on stderr.
    """
    read = lambda path: checkpoint_step.restore(path, template)
    found = next(_good(pathlib.Path(directory).resolve(), read), None)
    return None if found is None else found[1]


def verify(directory: str | pathlib.Path) -> tuple[int, str] | None:
    """The newest good step of a checkpoint directory and its digest, recomputed from the data; touches nothing.

    Bad steps are named on stderr. None when no step is good.
    """
    found = next(_good(pathlib.Path(directory).resolve(), checkpoint_step.read), None)
    return None if found is None else (found[0], found[1][0]["sha256"])


def newest(directory: str | pathlib.Path) -> Any:
    """The meta of a checkpoint directory's newest step whose files are as they were written; touches nothing.

    Bad steps are named on stderr. None when there is none.
    """
    found = next(_good(pathlib.Path(directory).resolve(), checkpoint_step.check), None)
    return None if found is None else found[1]["meta"]


def _good(directory: pathlib.Path, read: Callable[[pathlib.Path], _T]) -> Iterator[tuple[int, _T]]:
    """(step, what `read` finds) of the good ones, newest first; bad ones are named on stderr."""
    for step in sorted(checkpoint_step.numbers(directory), reverse=True):
        try:
            found = read(directory / str(step))
        except checkpoint_step.Bad as error:
            _warn(f"checkpoint step {step} in {directory} is bad: {error}")
        else:
            yield step, found


def _best_first(headers: Mapping[int, Mapping[str, Any]], name: str | None) -> list[int]:
    """The steps that have a score by `name`: the highest first, the earliest of equal ones."""
    found = {step: checkpoint_step.scores(header).get(name) for step, header in headers.items()}
    scores = {step: score for step, score in found.items() if score is not None}
    return sorted(scores, key=lambda step: (-scores[step], step))


def _checked_highest(
    found: checkpoint_step.Restored | None,
    headers: Mapping[int, Mapping[str, Any]],
    name: str | None,
    directory: pathlib.Path,
) -> checkpoint_step.Restored | None:
    """`found`, the best step there is; InputError if a higher score was saved, whose step is no longer good."""
    highest = checkpoint_step.highest(headers.values()).get(name or "score")
    score = None if found is None else found.score
    if highest is not None and (score is None or score < highest):
        raise InputError(
            f"Expected the step of {directory} with the highest {name or 'score'}, {highest}, got none that is good "
            f"(the best that is left has {score}): it must be trained again, in an empty directory."
        )
    return found


def _manager(directory: pathlib.Path) -> ocp.CheckpointManager:
    """Keeps the latest 2 and the best; `max_to_keep` with `best_fn`, which looks right, deletes the newest."""
    keep = preservation_policy.AnyPreservationPolicy([preservation_policy.LatestN(n=2), _BestByEach()])
    best: Any = lambda metrics: metrics.get("score", -math.inf)  # without it Orbax keeps no metrics
    options = ocp.CheckpointManagerOptions(best_fn=best, preservation_policy=keep, enable_async_checkpointing=False)
    return ocp.CheckpointManager(directory, options=options)


class _BestByEach(preservation_policy.PreservationPolicy):
    """Preserves the best step by each score that any of them has, the earliest of equal ones."""

    def should_preserve(self, checkpoints, *, context):
        del context
        measured = {each.step: {**(each.metrics or {})} for each in checkpoints}
        kept = set()
        for name in {name for scores in measured.values() for name in scores} - {"step"}:
            kept.add(-max((scores[name], -step) for step, scores in measured.items() if name in scores)[1])
        return [each.step in kept for each in checkpoints]


def _warn(message: str) -> None:
    """One line on stderr."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """What to do with which run."""

    action: Annotated[Literal["digest"], tyro.conf.Positional]  # verify the newest good step of every model
    run_dir: Annotated[pathlib.Path, tyro.conf.Positional]  # as given to the experiment


def main(config: Config) -> None:
    """Prints a line per model and, last, the digest: the one model's, or that of all the lines."""
    lines, digests = [], []
    for directory in sorted(path for path in (config.run_dir / "checkpoints").glob("*") if path.is_dir()):
        found = verify(directory)
        if found is None:
            raise InputError(f"Expected a good checkpoint in {directory}, found none.")
        lines.append(f"{directory.name} step {found[0]} {found[1]}")
        digests.append(found[1])
    if not lines:
        raise InputError(f"Expected checkpoints in {config.run_dir / 'checkpoints'}, found none.")
    print("\n".join(lines))
    print(digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(lines).encode()).hexdigest())


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # no accelerator is needed to read
    command.run(main, Config)
