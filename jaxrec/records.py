"""Records: one measured value each, with all that decides it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrec import errors, files

ADVERSARY = (
    "surface", "oracle", "epsilon", "epsilon_unit", "gauge", "achieved_norm", "gradient_evaluations", "queries"
)  # fmt: skip
NOBODY: dict[str, None] = dict.fromkeys(("attack", *ADVERSARY))  # the fields of a record without an attack
UNITS = ("absolute", "relative", "of users")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One measured value and all that decides it. What does not apply is None, never left out.

    Attributes:
        protocol: How items were ranked: which candidates, how ties count, which cutoff.
        surface: What the adversary perturbs; None when there is no attack, like the other fields of an adversary.
        epsilon_unit: "absolute", "relative" to the mean norm of each table, or "of users": fakes for each real user.
        gauge: Where a relative budget is stated: "canonical", "as trained".
        achieved_norm: Largest norm of a perturbed row, or one for each table.
        value: Finite, as are all numbers. `interval` is (low, high), 95 %.
        seeds: Training seeds; `users` is how many were measured.
        chosen_by: What chose the step: "validation", "last".
        training: The schedule in words.
        device, commit: Where and by which code it was measured; all of them where a run was opened on several.
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
        if self.epsilon is not None and (self.epsilon < 0 or self.epsilon_unit not in UNITS):
            raise ValueError(f"Expected epsilon >= 0, {', '.join(UNITS)}, got {self.epsilon} {self.epsilon_unit}.")
        if self.attack is None and (given := [name for name in ADVERSARY if getattr(self, name) is not None]):
            raise ValueError(f"Expected None for {', '.join(given)}, as there is no attack.")
        ends = () if self.interval is None else self.interval
        if not all(isinstance(number, int | float) for number in (self.value, *ends)) or len(ends) not in (0, 2):
            raise ValueError(f"Expected numbers in value and interval (low, high), got {self.value}, {self.interval}.")
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"Expected interval (low, high), got {self.interval}.")


def write_records(path: str | os.PathLike[str], records: Sequence[Record]) -> None:
    """Writes records as a JSON list, one to a line, whole or not at all."""
    lines = [json.dumps(dataclasses.asdict(record), allow_nan=False) for record in records]
    files.write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records that `write_records` wrote.

    Raises:
        InputError: If the file cannot be read, or a record of it is not complete and sound; the record is named.
    """
    try:
        entries = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise errors.InputError(f"Expected records in {path}: {error.strerror}.") from None
    except ValueError as error:
        raise errors.InputError(f"Expected JSON in {path}: {error}.") from None
    if not isinstance(entries, list):
        raise errors.InputError(f"Expected a list of records in {path}, got {type(entries).__name__}.")
    return [_read_record(f"{path}, record {number}", entry) for number, entry in enumerate(entries, start=1)]


def _read_record(place: str, entry: Any) -> Record:
    """A record from its JSON."""
    names = [field.name for field in dataclasses.fields(Record)]
    if not isinstance(entry, dict) or set(entry) != set(names):
        wrong = sorted(set(entry) ^ set(names)) if isinstance(entry, dict) else [type(entry).__name__]
        raise errors.InputError(f"Expected the fields of a record in {place}; missing or unknown: {', '.join(wrong)}.")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    try:
        return Record(**fields)
    except (TypeError, ValueError, IndexError) as error:
        raise errors.InputError(f"{place}: {error}") from None
