"""What a run leaves behind: its directory, its logs, its records, and the table made from them.

runs/<experiment>/<name>/
  lock            who works here; one process at a time
  config.json     Config, data fingerprint, versions, commit, device
  metrics.jsonl   one line per logged step; byte-identical however often the run was interrupted
  timings.jsonl   wall times, outside that law
  checkpoints/    one folder per model and seed
  results.json    records
  results.md      the table a person reads, made from the records alone
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec import types
from jaxrec.types import InputError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
PLACES = ("run_dir", "data_dir", "bpr_run")  # where things lie; the data are known by their fingerprint


# Fingerprints and provenance.


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


def _hash_array(sha: Any, name: str, values: Any) -> None:
    """Adds a named array, number or None to a hash."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":  # ids that are words, or None: their bytes would be pointers
        array = array.astype(str)
    sha.update(json.dumps([name, array.dtype.str, array.shape]).encode() + b"\n")
    sha.update(np.ascontiguousarray(array).tobytes())


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


# Files.


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file that is there whole or not at all: a temporary file beside it, synced, then renamed."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """As `write_text`; a NaN or an infinity is a ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """The JSON of what is an array, or a path."""
    return value.tolist() if hasattr(value, "tolist") else str(os.fspath(value))


class Log:
    """A file of one JSON object a line, appended to, flushed at each line.

    A run that goes on from a checkpoint first drops what was written after it, and so ends with the same bytes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends a line, its keys in the order given, its floats such that they read back the same.

        Raises:
            ValueError: If a number is NaN or infinite.
        """
        self._file.write(json.dumps(line, allow_nan=False, default=_plain).encode() + b"\n")

    def position(self) -> int:
        """The length in bytes, all of them on the disk: what a checkpoint keeps."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def truncate(self, position: int) -> None:
        """Drops everything after `position`.

        Raises:
            InputError: If the file is shorter than that: lines that a checkpoint counts on are gone.
        """
        if (size := self.position()) < position:
            raise InputError(
                f"Expected at least {position} bytes in {self.path}, as its checkpoint says, found {size}."
            )
        self._file.truncate(position)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


# The run directory.


class Run(NamedTuple):
    """An open run directory. `is_new` is False when there was a config before: the run goes on."""

    path: pathlib.Path
    metrics: Log
    timings: Log
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

    A run goes on only with the config and the data it began with. The fields in `may_change` may differ; so may
    versions, commit and device, with a warning on stderr, because the bytes of what follows may then differ too.

    Args:
        path: The directory; made if absent.
        config: The experiment's dataclass.
        data: From `fingerprint`.
        may_change: Fields of config that decide nothing about the results, or only how much is added to them.

    Raises:
        InputError: If it cannot be written, another process works in it, or config or data changed: then every
            difference is listed.
    """
    path = pathlib.Path(path)
    _check_writable(path)
    with _locked(path / "lock"), contextlib.ExitStack() as stack:
        provenance = {"versions": versions(), "commit": commit(), "device": device()}
        now = _as_json({"config": dataclasses.asdict(config), "data": data, **provenance})
        recorded = _read_config(path)
        if recorded is None:
            write_json(path / "config.json", now)
        else:
            _check_same(path, recorded, now, may_change)
        logs = [Log(path / name) for name in ("metrics.jsonl", "timings.jsonl")]
        for log in logs:
            stack.callback(log.close)
        yield Run(path, *logs, is_new=recorded is None)


def _check_writable(path: pathlib.Path) -> None:
    """Makes the directory and writes a file in it; permission bits alone do not say whether that works."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "lock.try", "")
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
    """{key: "recorded -> now"} of the leaves of two JSON objects that differ."""
    before, after = _flat(recorded), _flat(now)
    show = lambda values, key: json.dumps(values[key]) if key in values else "(absent)"
    return {
        key: f"{show(before, key)} -> {show(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if show(before, key) != show(after, key)
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


def _as_json(value: Any) -> Any:
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value, allow_nan=False, default=_plain))


# Records and their table.

NONE = "-"
ADVERSARY = (
    "surface", "oracle", "epsilon", "epsilon_unit", "gauge", "achieved_norm", "gradient_evaluations", "queries"
)  # fmt: skip
ALWAYS = ("model", "defence", "attack", "epsilon")  # columns even where they do not vary
CONDITION = (
    *ALWAYS, "achieved_norm", "surface", "oracle", "gradient_evaluations", "queries", "training", "step", "chosen_by",
    "dataset", "split", "protocol", "users", "seeds", "device", "commit", "fingerprint",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One measured value and all that decides it. What does not apply is None, never left out.

    Attributes:
        protocol: How items were ranked: which candidates, how ties count, which cutoff.
        surface: What the adversary perturbs; None when there is no attack, like the other fields of an adversary.
        epsilon_unit: "absolute", or "relative" to the mean norm of each table.
        gauge: Where a relative budget is stated: "canonical", "as trained".
        achieved_norm: Largest norm of a perturbed row, or one for each table.
        value: Finite, as are all numbers. `interval` is (low, high), 95 %.
        seeds: Training seeds; `users` is how many were measured.
        chosen_by: What chose the step: "validation", "last".
        training: The schedule in words.
        fingerprint: SHA-256 of the data.

    Raises:
        ValueError: If a number is not finite, epsilon is negative, a field is empty, or an adversary has no attack.
    """

    experiment: str
    model: str
    defence: str | None
    dataset: str
    split: str
    protocol: str
    surface: str | None
    attack: str | None
    oracle: str | None
    epsilon: float | None
    epsilon_unit: str | None
    gauge: str | None
    achieved_norm: float | Mapping[str, float] | None
    gradient_evaluations: int | None
    queries: int | None
    metric: str
    k: int | None
    value: float
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]
    users: int
    step: int | None
    chosen_by: str | None
    training: str | None
    device: str
    commit: str
    fingerprint: str

    def __post_init__(self) -> None:
        try:
            json.dumps(dataclasses.asdict(self), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Expected finite Python numbers, got {self}: {error}.") from None
        if empty := [name for name, value in vars(self).items() if value in ("", ())]:
            raise ValueError(f"Expected something or None, got an empty {', '.join(empty)}.")
        if self.epsilon is not None and (self.epsilon < 0 or self.epsilon_unit not in ("absolute", "relative")):
            raise ValueError(f"Expected epsilon >= 0, absolute or relative, got {self.epsilon} {self.epsilon_unit}.")
        if self.attack is None and (given := [name for name in ADVERSARY if getattr(self, name) is not None]):
            raise ValueError(f"Expected None for {', '.join(given)}, as there is no attack.")
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"Expected interval (low, high), got {self.interval}.")


def write_records(path: str | os.PathLike[str], records: Sequence[Record]) -> None:
    """Writes records as a JSON list, one to a line, whole or not at all."""
    lines = [json.dumps(dataclasses.asdict(record), allow_nan=False) for record in records]
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records that `write_records` wrote.

    Raises:
        InputError: If the file cannot be read, or a record of it is not complete and sound; the record is named.
    """
    try:
        entries = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Expected records in {path}: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"Expected JSON in {path}: {error}.") from None
    if not isinstance(entries, list):
        raise InputError(f"Expected a list of records in {path}, got {type(entries).__name__}.")
    return [_read_record(f"{path}, record {number}", entry) for number, entry in enumerate(entries, start=1)]


def _read_record(place: str, entry: Any) -> Record:
    """A record from its JSON."""
    names = [field.name for field in dataclasses.fields(Record)]
    if not isinstance(entry, dict) or set(entry) != set(names):
        wrong = sorted(set(entry) ^ set(names)) if isinstance(entry, dict) else [type(entry).__name__]
        raise InputError(f"Expected the fields of a record in {place}; missing or unknown: {', '.join(wrong)}.")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    try:
        return Record(**fields)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{place}: {error}") from None


def markdown_table(records: Sequence[Record]) -> str:
    """The page a person reads, from the records alone: a row for each condition, a column for each metric.

    What is the same in all records stands once, below the table. Order is that of the records.

    Raises:
        ValueError: If there is no record, or two for one cell.
    """
    if not records:
        raise ValueError("Expected at least one record, got none.")
    shown = {name: [_cell(record, name) for record in records] for name in CONDITION}
    values = {name: [text for text in dict.fromkeys(cells) if text != NONE] for name, cells in shown.items()}
    columns = [name for name in CONDITION if name in ALWAYS or len(values[name]) > 1]
    metrics = list(dict.fromkeys(_metric(record) for record in records))
    table: dict[tuple[str, ...], dict[str, str]] = {}
    for number, record in enumerate(records):
        row = table.setdefault(tuple(shown[name][number] for name in columns), {})
        if _metric(record) in row:
            raise ValueError(f"Expected one record for each cell, got a second: {record}.")
        row[_metric(record)] = _value(record)
    lines = [[*columns, *metrics], ["---"] * len(columns) + ["--:"] * len(metrics)]
    lines += [[*row, *(cells.get(metric, NONE) for metric in metrics)] for row, cells in table.items()]
    notes = [f"- {name}: {values[name][0]}" for name in CONDITION if name not in columns and values[name]]
    if any(record.interval for record in records):
        notes.append("- in brackets: 95 % intervals")
    title = " and ".join(dict.fromkeys(f"{record.experiment} on {record.dataset}" for record in records))
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"# {title}\n\n{body}\n\n" + "\n".join(notes) + "\n"


def _metric(record: Record) -> str:
    """The heading of a value."""
    return record.metric if record.k is None else f"{record.metric}@{record.k}"


def _value(record: Record) -> str:
    """A value with its interval."""
    interval = "" if record.interval is None else " [{:.4f}, {:.4f}]".format(*record.interval)
    return f"{record.value:.4f}{interval}"


def _cell(record: Record, name: str) -> str:
    """A field as a cell of the table."""
    value = getattr(record, name)
    if value is None:
        return NONE
    if name == "epsilon":
        gauge = f", {record.gauge} gauge" if record.gauge else ""
        return f"{value:g} {record.epsilon_unit}{gauge}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {number:.4g}" for key, number in value.items())
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split()).replace("|", "\\|")
