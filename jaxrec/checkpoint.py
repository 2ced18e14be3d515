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
import json
import logging
import math
import pathlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard

import jax
import numpy as np
import orbax.checkpoint as ocp
import tyro
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxrec import command, files
from jaxrec.types import InputError, PyTree

HEADER = "header.json"  # of a step: its own file, written when Orbax is done

# Orbax reports through absl, from background threads and with pages of traceback, what we report in one line.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Restored(NamedTuple):
    """A good step: the state on today's devices, the JSON that was saved with it, and the score it was chosen by."""

    state: PyTree
    meta: Any
    step: int
    score: float | None


class _BadStep(Exception):
    """A step that cannot be used, and why."""


def digest(tree: PyTree) -> str:
    """SHA-256 over path, dtype, shape and bytes of every leaf, in the order of the paths; of typed keys, their data."""
    return _digest(_host_leaves(tree))


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
            self._headers()  # sets aside what the manager, which reads all scores, would fail on
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
        leaves = _host_leaves(state)
        header = _header(step, leaves, _keys(state), meta, score, other_scores)
        self.wait()
        newest = max(self._manager.all_steps(), default=step)
        if step < newest:
            raise ValueError(f"Expected a step of at least {newest}, the newest in {self.directory}, got {step}.")
        self._pending = self._writer.submit(self._write, step, leaves, header)

    def restore(self, template: PyTree) -> Restored | None:
        """The newest good step, on the devices of `template`; bad ones on the way are named on stderr and set aside.

        Args:
            template: Tree like the saved state, of arrays or `jax.ShapeDtypeStruct`s.

        Returns:
            The step, bit for bit as it was saved; None when there is no good one.

        Raises:
            InputError: If the step is good but its leaves have other paths, dtypes or shapes than the template.
        """
        self.wait()
        return self._first_good(sorted(_steps(self.directory), reverse=True), template)

    def restore_best(self, template: PyTree, *, name: str | None = None) -> Restored | None:
        """As `restore`, the good step with the highest score, the earliest of equals; None when none was scored.

        Args:
            template: As in `restore`.
            name: Of one of the `other_scores` that choose; None for `score`.
        """
        self.wait()
        found = {step: _scores(header).get(name) for step, header in self._headers().items()}
        scores = {step: score for step, score in found.items() if score is not None}
        return self._first_good(sorted(scores, key=lambda step: (-scores[step], step)), template, name)

    def wait(self) -> None:
        """Returns when the last save is on the disk; raises an InputError if it could not be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._one_line("save"):
                pending.result()

    def _write(self, step: int, leaves: dict[str, np.ndarray], header: dict[str, Any]) -> None:
        """Writes a step and then its header, without which it does not count."""
        path = self.directory / str(step)
        if step in self._manager.all_steps():
            if _is_like(path, header):
                return
            self._manager.delete(step)
        named = {"score": header["score"], **header.get("other_scores", {})}
        measured = {name: score for name, score in named.items() if score is not None}
        metrics = {**measured, "step": step} if measured else None
        saved = self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(leaves)), metrics=metrics)
        if not saved:
            raise RuntimeError("Orbax did not take the step")  # it says so by returning False
        files.write_json(path / HEADER, _seal({**header, "files": _sums(path)}))

    def _headers(self) -> dict[int, dict[str, Any]]:
        """{step: header}; steps without a good one are set aside."""
        headers = {}
        for step in _steps(self.directory):
            try:
                headers[step] = _check(self.directory / str(step))
            except _BadStep as error:
                self._set_aside(step, error)
        return headers

    def _first_good(self, steps: Iterable[int], template: PyTree, name: str | None = None) -> Restored | None:
        """The first of `steps` that verifies, with its score by `name`; those before it are set aside."""
        found = None
        for step in steps:
            try:
                found = _read(self.directory / str(step))
                break
            except _BadStep as error:
                self._set_aside(step, error)
        self._manager.reload()  # it remembers the steps that were set aside
        if found is None:
            return None
        header, leaves = found
        _check_template(template, header, self.directory / str(header["step"]))
        score = _scores(header).get(name)
        return Restored(_place(template, leaves, header["keys"]), header["meta"], header["step"], score)

    def _set_aside(self, step: int, error: _BadStep) -> None:
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
            raise InputError(f"Could not {verb} checkpoints in {self.directory}: {_first_line(error)}") from error


def verify(directory: str | pathlib.Path) -> tuple[int, str] | None:
    """The newest good step of a checkpoint directory and its digest, recomputed from the data; touches nothing.

    Bad steps are named on stderr. None when no step is good.
    """
    for step in sorted(_steps(pathlib.Path(directory)), reverse=True):
        try:
            header, _ = _read(pathlib.Path(directory).resolve() / str(step))
        except _BadStep as error:
            _warn(f"checkpoint step {step} in {directory} is bad: {error}")
        else:
            return step, header["sha256"]
    return None


def newest(directory: str | pathlib.Path) -> Any:
    """The meta of a checkpoint directory's newest step whose files are as they were written; touches nothing.

    None when there is none.
    """
    for step in sorted(_steps(pathlib.Path(directory)), reverse=True):
        with contextlib.suppress(_BadStep):
            return _check(pathlib.Path(directory) / str(step))["meta"]
    return None


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


def _scores(header: Mapping[str, Any]) -> dict[str | None, float | None]:
    """{None: the score, name: each other one}."""
    return {None: header["score"], **header.get("other_scores", {})}


def _steps(directory: pathlib.Path) -> list[int]:
    """Everything that Orbax would take for a step: whatever is named with an integer."""
    return [int(path.name) for path in directory.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name)]


def _check(path: pathlib.Path) -> dict[str, Any]:
    """The header of a step whose files are all as they were written; _BadStep otherwise."""
    if not path.is_dir():
        raise _BadStep("it is not a directory")
    if not any(path.iterdir()):
        raise _BadStep("it is an empty directory")
    try:
        header = json.loads((path / HEADER).read_bytes())
        intact = _seal(header) == header
    except OSError as error:
        raise _BadStep(f"{HEADER}, which is written last, cannot be read ({error.strerror})") from None
    except (TypeError, ValueError):  # not JSON, not a mapping, or a NaN in it
        intact = False
    if not intact:
        raise _BadStep(f"{HEADER} was altered")
    if str(header["step"]) != path.name:
        raise _BadStep(f"it holds step {header['step']}")
    sums = _sums(path)
    for name in sorted(sums.keys() | header["files"].keys()):
        if name not in sums:
            raise _BadStep(f"{name} is missing")
        if sums[name] != header["files"].get(name):
            raise _BadStep(f"{name} was altered")
    return header


def _sums(path: pathlib.Path) -> dict[str, str]:
    """{name: SHA-256} of the files of a step but its header."""
    found = [file for file in sorted(path.rglob("*")) if file.is_file() and file != path / HEADER]
    return {str(file.relative_to(path)): files.sha256(file) for file in found}


def _is_like(path: pathlib.Path, header: Mapping[str, Any]) -> bool:
    """Whether a good step is there with this state, score and meta."""
    try:
        saved = _check(path)
    except _BadStep:
        return False
    return _seal({**header, "files": saved["files"]}) == saved


def _read(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and leaves of a step, verified; _BadStep otherwise."""
    header = _check(path)  # before Orbax, whose failing reads go on in the background and complain there
    like = {name: np.empty(shape, dtype) for name, (dtype, shape) in header["leaves"].items()}
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            leaves = checkpointer.restore(path / "state", like)
    except Exception as error:  # Orbax and TensorStore raise many kinds, bare Exception among them
        raise _BadStep(f"its data cannot be read ({_first_line(error)})") from None
    if _digest(leaves) != header["sha256"]:
        raise _BadStep("its data does not have the digest it was saved with")
    return header, leaves


def _header(
    step: int,
    leaves: Mapping[str, np.ndarray],
    keys: Mapping[str, str],
    meta: Any,
    score: float | None,
    other_scores: Mapping[str, float],
) -> dict[str, Any]:
    """What is known of a step beside its data and files."""
    if empty := [path for path, leaf in leaves.items() if leaf.size == 0]:  # Orbax saves none
        raise ValueError(f"Expected arrays with elements, got empty ones at {', '.join(empty)}.")
    if score is not None and not math.isfinite(score):
        raise ValueError(f"Expected a finite score, got score={score}.")
    if wrong := [name for name, x in other_scores.items() if name in ("score", "step") or not math.isfinite(x)]:
        raise ValueError(f"Expected other_scores that are finite, none named score or step, got {wrong}.")
    return {
        "step": int(step),
        "score": None if score is None else float(score),
        "meta": json.loads(json.dumps(meta, allow_nan=False)),
        "leaves": {path: _kind(leaf) for path, leaf in leaves.items()},
        "keys": keys,
        "sha256": _digest(leaves),
        # Left out where there are none, as in steps that were saved before there were any.
        **({"other_scores": {name: float(x) for name, x in other_scores.items()}} if other_scores else {}),
    }


def _seal(header: Mapping[str, Any]) -> dict[str, Any]:
    """The header as JSON will give it back, with a SHA-256 of the rest of it."""
    text = json.dumps({**header, "seal": None}, sort_keys=True, allow_nan=False)
    return {**json.loads(text), "seal": hashlib.sha256(text.encode()).hexdigest()}


def _is_key(leaf: Any) -> TypeGuard[jax.Array]:
    """Whether a leaf is a typed PRNG key, or stands for one."""
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """{path: leaf}."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _host_leaves(tree: PyTree) -> dict[str, np.ndarray]:
    """{path: copy on the host}, keys as their data; refuses what would not come back as it went."""
    leaves = {}
    for path, leaf in _named_leaves(tree).items():
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise ValueError(f"Expected an array at {path}, got {type(leaf).__name__}.")
        array = np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(f"Expected a type that JAX keeps at {path}, got {array.dtype}.")
        leaves[path] = array
    return leaves


def _keys(tree: PyTree) -> dict[str, str]:
    """{path: implementation} of the typed keys."""
    return {path: str(jax.random.key_impl(leaf)) for path, leaf in _named_leaves(tree).items() if _is_key(leaf)}


def _kind(array: Any) -> list[Any]:
    """[dtype, shape], as JSON."""
    return [str(array.dtype), list(array.shape)]


def _digest(leaves: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over path, dtype, shape and bytes of each leaf."""
    sha = hashlib.sha256()
    for path in sorted(leaves):
        sha.update(json.dumps([path, *_kind(leaves[path])]).encode() + b"\n")
        sha.update(np.ascontiguousarray(leaves[path]).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _check_template(template: PyTree, header: Mapping[str, Any], path: pathlib.Path) -> None:
    """Refuses a template of other paths, dtypes or shapes: Orbax would cast in silence."""
    saved = {name: _show(kind, name in header["keys"]) for name, kind in header["leaves"].items()}
    wanted = {}
    for name, leaf in _named_leaves(template).items():
        data = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        wanted[name] = _show(_kind(data), _is_key(leaf))
    wrong = [name for name in sorted(wanted.keys() | saved.keys()) if wanted.get(name) != saved.get(name)]
    if wrong:
        first = "; ".join(f"{name}: {saved.get(name)} -> {wanted.get(name)}" for name in wrong[:5])
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(f"The checkpoint {path} is of another state (saved -> now): {first}{more}.")


def _show(kind: list[Any], is_key: bool) -> str:
    """Dtype and shape, as in float32[6040, 64]."""
    return f"{'key of ' if is_key else ''}{kind[0]}{kind[1]}"


def _place(template: PyTree, leaves: Mapping[str, np.ndarray], keys: Mapping[str, str]) -> PyTree:
    """`leaves` in the structure and on the devices of `template`."""

    def place(path: Any, leaf: Any) -> jax.Array:
        name = jax.tree_util.keystr(path)
        pinned = not isinstance(leaf, jax.Array) or leaf.committed  # an array nobody placed stays free to move
        sharding = getattr(leaf, "sharding", None) if pinned else None
        array = jax.device_put(leaves[name], None if name in keys else sharding)
        return jax.device_put(jax.random.wrap_key_data(array, impl=keys[name]), sharding) if name in keys else array

    return jax.tree_util.tree_map_with_path(place, template)


def _first_line(error: Exception) -> str:
    """What an error says, in one line of readable length."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


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
