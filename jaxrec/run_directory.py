"""The directory of one run: one process at a time works in it, and a run goes on only as it began.

runs/<experiment>/<name>/
  lock            who works here; one process at a time
  config.json     Config, data fingerprint, versions, commit, device; every commit and device it was opened with
  metrics.jsonl   one line per logged step; byte-identical however often the run was interrupted
  timings.jsonl   wall times, outside that law
  checkpoints/    one folder per model and seed
  results.json    records
  results.md      the tables a person reads, made from the records alone
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import socket
import sys
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from jaxrec import files, provenance
from jaxrec.types import InputError

PLACES = ("run_dir", "data_dir", "bpr_run")  # where things lie; the data are known by their fingerprint


class Run(NamedTuple):
    """An open run directory. `is_new` is False when there was a config before: the run goes on."""

    path: pathlib.Path
    metrics: files.Log
    timings: files.Log
    is_new: bool


@contextlib.contextmanager
def open_run(
    path: str | os.PathLike[str],
    config: Any,
    data: Mapping[str, Any],
    *,
    may_change: Collection[str] = PLACES,
) -> Iterator[Run]:
    """Makes or reopens a run directory and holds its lock; use it before any training.

    A run goes on only with the config and the data it began with; a field that was not there yet must be None, which
    asks for nothing. The fields in `may_change` may differ; so may versions, commit and device, with a warning on
    stderr, because the bytes of what follows may then differ too. Every commit with its device is kept in config.json,
    in order, for the records (`results.write`).

    Args:
        path: The directory; made if absent.
        config: The experiment's dataclass.
        data: From `provenance.fingerprint`.
        may_change: Fields of config that decide nothing about the results, or only how much is added to them.

    Raises:
        InputError: If it cannot be written, another process works in it, or config or data changed: then every
            difference is listed.
    """
    path = pathlib.Path(path)
    _check_writable(path)
    with _locked(path / "lock"), contextlib.ExitStack() as stack:
        now = {
            "config": dataclasses.asdict(config),
            "data": data,
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "device": provenance.device(),
        }
        now = files.as_json(now)
        recorded, opening = _read_config(path), {name: now[name] for name in ("commit", "device")}
        if recorded is None:
            files.write_json(path / "config.json", {**now, "openings": [opening]})
        else:
            openings = recorded.pop("openings", [{name: recorded[name] for name in opening}])
            _check_same(path, recorded, now, may_change)
            if opening not in openings:
                files.write_json(path / "config.json", {**recorded, "openings": [*openings, opening]})
        logs = [files.Log(path / name) for name in ("metrics.jsonl", "timings.jsonl")]
        for log in logs:
            stack.callback(log.close)
        yield Run(path, *logs, is_new=recorded is None)


def _check_writable(path: pathlib.Path) -> None:
    """Makes the directory and writes a file in it; permission bits alone do not say whether that works."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        files.write_text(path / "lock.try", "")
        (path / "lock.try").unlink()
    except OSError as error:
        raise InputError(f"Expected a run directory that can be written, got {path}: {error.strerror}.") from None


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Holds a lock that the kernel lets go of when its holder dies, however it dies; who holds it stands inside.

    The file is never removed: whoever waited for it would then hold a lock on nothing.
    """
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Expected {path.parent} to be free, but it is in use by {_holder(path)}.") from None
        except OSError as error:
            raise InputError(f"Expected a file system that can lock files at {path}: {error.strerror}.") from None
        if path.stat().st_size:
            print(f"warning: took over the lock on {path.parent} from {_holder(path)}, which is gone", file=sys.stderr)
        file.truncate(0)
        json.dump(
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "command": " ".join(sys.argv),
            },
            file,
        )
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # left in peace: nothing to take over


def _holder(path: pathlib.Path) -> str:
    """Who holds, or held, a lock."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} ({holder['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that left no name"


def _read_config(path: pathlib.Path) -> dict[str, Any] | None:
    """What config.json recorded; None in a new directory."""
    try:
        recorded = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        if any((path / "checkpoints").glob("*/*")):
            raise InputError(f"Expected config.json beside the checkpoints in {path}, found none.") from None
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"Expected JSON in {path / 'config.json'}: {error}.") from None
    if not isinstance(recorded, dict):
        raise InputError(f"Expected a JSON object in {path / 'config.json'}.")
    return recorded


def typed_config(config_class: type, recorded: Mapping[str, Any]) -> Any:
    """The config of a run as its experiment takes it, from the JSON of its config.json.

    Raises:
        InputError: If it has a field that the experiment does not have now.
    """
    hints = typing.get_type_hints(config_class)
    if unknown := sorted(set(recorded) - set(hints)):
        raise InputError(f"Expected a run of this version's flags, got one with {', '.join(unknown)}.")

    def typed(name, value):
        if isinstance(value, list):
            return tuple(value)
        is_path = pathlib.Path in (hints[name], *typing.get_args(hints[name]))
        return pathlib.Path(value) if is_path and value is not None else value

    return config_class(**{name: typed(name, value) for name, value in recorded.items()})


def _check_same(
    path: pathlib.Path, recorded: Mapping[str, Any], now: Mapping[str, Any], may_change: Collection[str]
) -> None:
    """Refuses another config or data set, listing every difference; warns of another environment."""
    differences = _differences(recorded, now)
    listed = lambda keys: "; ".join(f"{key}: {differences[key]}" for key in keys)
    free = {f"config.{name}" for name in may_change}
    refused = [key for key in differences if key.split(".")[0] in ("config", "data") and key not in free]
    if refused:
        raise InputError(
            f"Expected the config and data that {path} began with (recorded -> now): {listed(refused)}. "
            "Give another run directory, or the same arguments again."
        )
    if changed := [key for key in differences if key not in free]:
        print(f"warning: {path} goes on in another environment (recorded -> now): {listed(changed)}", file=sys.stderr)


def _differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """{key: "recorded -> now"} of leaves that differ in two JSON objects; an absent one is as good as null."""
    before, after = _flat(recorded), _flat(now)
    show = lambda values, key: json.dumps(values[key]) if key in values else "(absent)"
    return {
        key: f"{show(before, key)} -> {show(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if show(before, key) != show(after, key) and not before.get(key) is after.get(key) is None
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted key: leaf} of a JSON object."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        key: leaf
        for name, below in value.items()
        for key, leaf in _flat(below, f"{prefix}.{name}" if prefix else name).items()
    }
