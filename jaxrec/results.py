"""The page of results a person reads, made from the records alone: a first look, then every value and condition."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxrec import files, records
from jaxrec.records import Record

NONE = "-"
ALWAYS = ("defence", "attack", "epsilon")  # columns even where they do not vary
CONDITION = (  # causes before effects: rows are told apart by the first of these that do it
    "model", *ALWAYS, "chosen_by", "surface", "oracle", "training", "dataset", "split", "protocol", "users", "seeds",
    "gradient_evaluations", "queries", "step", "achieved_norm", "device", "commit", "fingerprint",
)  # fmt: skip
LEADING = "ndcg"  # the metric of the first look that has its interval and its change under attack
FIRST_LOOK = ("hit_rate", LEADING, "coverage", "long_tail_share")
WIDTH = 4  # metrics side by side below


class Table(NamedTuple):
    """Headings of words and of numbers, and rows with a cell for each."""

    words: list[str]
    numbers: list[str]
    rows: list[list[str]]


class _Row(NamedTuple):
    """A condition in words, {field: cell}, and its records, {heading: record}."""

    condition: dict[str, str]
    cells: dict[str, Record]

    def words(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.condition[name] for name in names)


def write(folder: str | os.PathLike[str], found: Sequence[Record]) -> list[Record]:
    """Writes results.json, and results.md, which is made of it.

    In a run directory that was opened more than once, records name the commits and devices of all openings
    (`run_directory.open_run`): what they hold may have been measured at any of them.

    Returns:
        The records as they were written.

    Raises:
        ValueError: If there is no record, or two for one cell.
    """
    folder = pathlib.Path(folder)
    config = folder / "config.json"
    openings = files.read_json(config).get("openings", []) if config.exists() else []
    made_at = {name: ", ".join(dict.fromkeys(each[name] for each in openings)) for name in ("device", "commit")}
    written = [dataclasses.replace(record, **made_at) for record in found] if openings else list(found)
    records.write_records(folder / "results.json", written)
    files.write_text(folder / "results.md", page(written))
    return written


def first_look(found: Sequence[Record]) -> Table:
    """A row for each condition: NDCG at its first cutoff, its change against the same model without an attack, and the
    hit rate, coverage and long-tail share at that cutoff, where they were measured.

    Raises:
        ValueError: If there is no NDCG among the records, or two records are of one cell.
    """
    rows = _rows(found)
    measured = _headings(rows)
    leading = next((name for name in measured if name.split("@")[0] == LEADING), None)
    if leading is None:
        raise ValueError(f"Expected records of {LEADING}, got {', '.join(measured) or 'none'}.")
    numbers = [name for metric in FIRST_LOOK if (name := leading.replace(LEADING, metric, 1)) in measured]
    numbers.insert(numbers.index(leading) + 1, "change")
    victim = [name for name in CONDITION if name not in records.NOBODY]
    clean = {
        row.words(victim): row.cells[leading].value
        for row in rows
        if row.condition["attack"] == NONE and leading in row.cells
    }

    def cells(row: _Row) -> dict[str, str]:
        shown = {name: f"{record.value:.4f}" for name, record in row.cells.items()}
        if leading in row.cells:
            shown[leading] = cell_of(row.cells[leading])
            before = clean.get(row.words(victim))
            if before and row.condition["attack"] != NONE:
                shown["change"] = f"{row.cells[leading].value / before - 1:+.1%}"
        return shown

    keys = _keys(rows)
    return Table(keys, numbers, [[*row.words(keys), *(cells(row).get(name, NONE) for name in numbers)] for row in rows])


def table(found: Sequence[Record]) -> Table:
    """A row for each condition and a column for each metric, every value with its interval.

    Raises:
        ValueError: If two records are of one cell.
    """
    rows = _rows(found)
    return _values(rows, _keys(rows), _headings(rows))


def page(found: Sequence[Record]) -> str:
    """The page a person reads, in Markdown: the first look, then every value with its interval, then the conditions.

    What is the same in all records stands once, at the end. Order is that of the records.

    Raises:
        ValueError: If there is no record, or two for one cell.
    """
    if not found:
        raise ValueError("Expected at least one record, got none.")
    rows = _rows(found)
    keys, headings = _keys(rows), _headings(rows)
    values = {
        name: [text for text in dict.fromkeys(row.condition[name] for row in rows) if text != NONE]
        for name in CONDITION
    }
    others = [name for name in CONDITION if name not in keys]
    varied = [name for name in others if len(values[name]) > 1]
    title = " and ".join(dict.fromkeys(f"{record.experiment} on {record.dataset}" for record in found))
    parts = [f"# {title}"]
    if any(record.metric == LEADING for record in found):
        parts += [markdown(first_look(found)), "## Every value"]
    parts += [markdown(_values(rows, keys, headings[i : i + WIDTH])) for i in range(0, len(headings), WIDTH)]
    if varied:
        conditions = Table([*keys, *varied], [], [[*row.words([*keys, *varied])] for row in rows])
        parts += ["## Conditions that differ", markdown(conditions)]
    notes = [f"- {name}: {values[name][0]}" for name in others if len(values[name]) == 1]
    if any(record.interval for record in found):
        notes.append("- in brackets: 95 % intervals")
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def _values(rows: Sequence[_Row], keys: list[str], headings: list[str]) -> Table:
    """Some of the metrics, in the rows that have any of them."""
    cell = lambda row, name: cell_of(row.cells[name]) if name in row.cells else NONE
    return Table(
        keys,
        headings,
        [
            [*row.words(keys), *(cell(row, name) for name in headings)]
            for row in rows
            if not row.cells.keys().isdisjoint(headings)
        ],
    )


def _rows(found: Sequence[Record]) -> list[_Row]:
    """The conditions, in the order of their first records."""
    rows: dict[tuple[str, ...], _Row] = {}
    for record in found:
        condition = {name: _cell(record, name) for name in CONDITION}
        row = rows.setdefault(tuple(condition.values()), _Row(condition, {}))
        if _heading(record) in row.cells:
            raise ValueError(f"Expected one record for each cell, got a second: {record}.")
        row.cells[_heading(record)] = record
    return list(rows.values())


def _keys(rows: Sequence[_Row]) -> list[str]:
    """The fields that tell the rows apart."""
    count = lambda names: len({row.words(names) for row in rows})
    keys = [name for name in ("model", *ALWAYS) if name in ALWAYS or count([name]) > 1]
    for name in CONDITION:
        if count([*keys, name]) > count(keys):
            keys.append(name)
    return keys


def _headings(rows: Sequence[_Row]) -> list[str]:
    """All metrics, in the order they come."""
    return list(dict.fromkeys(heading for row in rows for heading in row.cells))


def markdown(table: Table) -> str:
    """A table in Markdown."""
    rule = ["---"] * len(table.words) + ["--:"] * len(table.numbers)
    return "\n".join(f"| {' | '.join(line)} |" for line in ([*table.words, *table.numbers], rule, *table.rows))


def _heading(record: Record) -> str:
    """The heading of a value."""
    return record.metric if record.k is None else f"{record.metric}@{record.k}"


def cell_of(record: Record) -> str:
    """A value with its interval."""
    interval = "" if record.interval is None else " [{:.4f}, {:.4f}]".format(*record.interval)
    return f"{record.value:.4f}{interval}"


def _cell(record: Record, name: str) -> str:
    """A field as a cell of a table."""
    value = getattr(record, name)
    if value is None:
        return NONE
    if name == "epsilon":
        gauge = f", {record.gauge} gauge" if record.gauge and record.epsilon_unit == "relative" else ""
        return f"{value:g} {record.epsilon_unit}{gauge}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {number:.4g}" for key, number in value.items())
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split()).replace("|", "\\|")
