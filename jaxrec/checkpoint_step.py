"""One step of a checkpoint on the disk: a header that seals every leaf and file with SHA-256, and how it is read back.

A step is good when its header, which is written last, and all its files are as they were written.
"""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxrec import files
from jaxrec.types import InputError, PyTree

HEADER = "header.json"  # of a step: its own file, written when Orbax is done


class Bad(Exception):
    """A step that cannot be used, and why."""


class Restored(NamedTuple):
    """A good step: the state on today's devices, the JSON that was saved with it, and the score it was chosen by."""

    state: PyTree
    meta: Any
    step: int
    score: float | None


def digest(tree: PyTree) -> str:
    """SHA-256 over path, dtype, shape and bytes of every leaf, in the order of the paths; of typed keys, their data."""
    return _digest(_host_leaves(tree))


def scores(header: Mapping[str, Any]) -> dict[str | None, float | None]:
    """{None: the score, name: each other one}."""
    return {None: header.get("score"), **header.get("other_scores", {})}


def highest(headers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """{"score" or name of another: the highest there was until the latest of these steps was saved}."""
    found: dict[str, float] = {}
    for header in headers:
        own = {name or "score": score for name, score in scores(header).items()}
        for name, score in (*own.items(), *header.get("highest", {}).items()):
            if score is not None and score >= found.get(name, score):
                found[name] = score
    return found


def numbers(directory: pathlib.Path) -> list[int]:
    """Everything that Orbax would take for a step: whatever is named with an integer."""
    return [int(path.name) for path in directory.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name)]


def check(path: pathlib.Path) -> dict[str, Any]:
    """The header of a step whose files are all as they were written; Bad otherwise."""
    try:
        if not any(path.iterdir()):
            raise Bad("it is an empty directory")
        header = json.loads((path / HEADER).read_bytes())
        intact = _sealed(header) == header
        sums = _sums(path)
    except FileNotFoundError as error:  # such as of a step that a training just removes
        missing = pathlib.Path(error.filename).name
        raise Bad(f"{missing}{', which is written last,' if missing == HEADER else ''} is missing") from None
    except OSError as error:
        raise Bad(f"{error.filename} cannot be read ({error.strerror})") from None
    except (TypeError, ValueError):  # not JSON, not a mapping, or a NaN in it
        intact = False
    if not intact:
        raise Bad(f"{HEADER} was altered")
    if str(header["step"]) != path.name:
        raise Bad(f"it holds step {header['step']}")
    for name in sorted(sums.keys() | header["files"].keys()):
        if name not in sums:
            raise Bad(f"{name} is missing")
        if sums[name] != header["files"].get(name):
            raise Bad(f"{name} was altered")
    return header


def _sums(path: pathlib.Path) -> dict[str, str]:
    """{name: SHA-256} of the files of a step but its header."""
    found = [file for file in sorted(path.rglob("*")) if file.is_file() and file != path / HEADER]
    return {str(file.relative_to(path)): files.sha256(file) for file in found}


def seal(path: pathlib.Path, header: Mapping[str, Any]) -> None:
    """Writes the header of a step whose files are all there; without it the step does not count."""
    files.write_json(path / HEADER, _sealed({**header, "files": _sums(path)}))


def is_like(path: pathlib.Path, header: Mapping[str, Any]) -> bool:
    """Whether a good step is there with this state, score and meta."""
    try:
        saved = check(path)
    except Bad:
        return False
    return _sealed({**header, "files": saved["files"]}) == saved


def read(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and leaves of a step, verified; Bad otherwise."""
    header = check(path)  # before Orbax, whose failing reads go on in the background and complain there
    like = {name: np.empty(shape, dtype) for name, (dtype, shape) in header["leaves"].items()}
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            leaves = checkpointer.restore(path / "state", like)
    except Exception as error:  # Orbax and TensorStore raise many kinds, bare Exception among them
        raise Bad(f"its data cannot be read ({first_line(error)})") from None
    if _digest(leaves) != header["sha256"]:
        raise Bad("its data does not have the digest it was saved with")
    return header, leaves


def restore(path: pathlib.Path, template: PyTree, name: str | None = None) -> Restored:
    """A step on the devices of `template`, bit for bit as it was saved, with its score by `name`.

    Raises:
        Bad: If it does not verify.
        InputError: If its leaves have other paths, dtypes or shapes than the template.
    """
    header, leaves = read(path)
    _check_template(template, header, path)
    return Restored(_place(template, leaves, header["keys"]), header["meta"], header["step"], scores(header).get(name))


def pack(
    step: int, state: PyTree, meta: Any, score: float | None, other_scores: Mapping[str, float]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Copies of the leaves on the host, and what is known of a step beside them and its files.

    Raises:
        ValueError: If a leaf is no array, is empty or would not come back as it went, or a number is not finite.
    """
    leaves = _host_leaves(state)
    if empty := [path for path, leaf in leaves.items() if leaf.size == 0]:  # Orbax saves none
        raise ValueError(f"Expected arrays with elements, got empty ones at {', '.join(empty)}.")
    if score is not None and not math.isfinite(score):
        raise ValueError(f"Expected a finite score, got score={score}.")
    if wrong := [name for name, x in other_scores.items() if name in ("score", "step") or not math.isfinite(x)]:
        raise ValueError(f"Expected other_scores that are finite, none named score or step, got {wrong}.")
    return leaves, {
        "step": int(step),
        "score": None if score is None else float(score),
        "meta": json.loads(json.dumps(meta, allow_nan=False)),
        "leaves": {path: _kind(leaf) for path, leaf in leaves.items()},
        "keys": {path: str(jax.random.key_impl(leaf)) for path, leaf in _named_leaves(state).items() if _is_key(leaf)},
        "sha256": _digest(leaves),
        # Left out where there are none, as in steps that were saved before there were any.
        **({"other_scores": {name: float(x) for name, x in other_scores.items()}} if other_scores else {}),
    }


def _sealed(header: Mapping[str, Any]) -> dict[str, Any]:
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


def first_line(error: Exception) -> str:
    """What an error says, in one line of readable length."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
