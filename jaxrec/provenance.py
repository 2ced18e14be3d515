"""What a result depends on beside the flags: the data, by a fingerprint, and versions, commit and device."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrec import types

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def fingerprint(data: types.Interactions | types.Split) -> dict[str, Any]:
    """What tells one data set from another: rows, users, items, and a SHA-256 over every column, its type and shape.

    Of a split, rows are those of its three parts together, and the negatives are in the hash.
    """
    parts = {"all": data} if isinstance(data, types.Interactions) else data._asdict()
    sha, rows, users, items = hashlib.sha256(), 0, 0, 0
    for name, part in parts.items():
        if isinstance(part, types.Interactions):
            rows, users, items = rows + len(part), max(users, part.num_users), max(items, part.num_items)
            columns = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        else:
            columns = {name: part}
        for column, values in columns.items():
            _hash_array(sha, f"{name}.{column}", values)
    return {"rows": rows, "users": users, "items": items, "sha256": sha.hexdigest()}


def of_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The same of data that are named arrays, such as images and their labels: rows in all, and the SHA-256."""
    sha = hashlib.sha256()
    for name, values in arrays.items():
        _hash_array(sha, name, values)
    return {"rows": sum(map(len, arrays.values())), "sha256": sha.hexdigest()}


def _hash_array(sha: Any, name: str, values: Any) -> None:
    """Adds a named array, number or None to a hash."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":  # ids that are words, or None: their bytes would be pointers
        array = array.astype(str)
    sha.update(json.dumps([name, array.dtype.str, array.shape]).encode() + b"\n")
    sha.update(np.ascontiguousarray(array).tobytes())


def commit() -> str:
    """The short git hash of the source tree, with `-dirty` when its code was changed since; "unknown" outside git."""
    root = pathlib.Path(__file__).resolve().parents[1]
    git = lambda *args: subprocess.run(["git", "-C", root, *args], capture_output=True, text=True, check=True).stdout
    try:
        if pathlib.Path(git("rev-parse", "--show-toplevel").strip()) != root:  # installed below somebody else's tree
            return "unknown"
        changed = git("status", "--porcelain", "--", "jaxrec", "experiments")
        return git("rev-parse", "--short", "HEAD").strip() + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def device() -> str:
    """What computes: kind and number of JAX's devices, and the CPU with the cores this process may use."""
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{len(devices)} x {devices[0].platform} {devices[0].device_kind}; host {_cpu_model()}, {cores} cores"


def _cpu_model() -> str:
    """The name of the processor."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The installed versions that results depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}
