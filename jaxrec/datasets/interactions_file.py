"""A user's own interactions: csv, tsv, parquet, or RecBole's .inter files (Zhao et al., CIKM 2021, arXiv:2011.01731).

Ids are whole numbers from 0 to 2^63 - 1; words are refused, also under the type `token` of an .inter file.
"""

from __future__ import annotations

import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from jaxrec.datasets import indexing, reading, stored
from jaxrec.types import InputError, Interactions

SEPARATORS = {".csv": b",", ".tsv": b"\t", ".inter": b"\t"}

# What a column is looked for under when its name is not given: upper case and underscores do not count.
_USUAL_NAMES = {
    "user": ("user", "userid"),
    "item": ("item", "itemid", "movie", "movieid"),
    "rating": ("rating",),
    "timestamp": ("timestamp", "time"),
}
_TYPES = {"user": "token", "item": "token", "rating": "float", "timestamp": "float"}
_TYPED = re.compile(r"(.+):(token|token_seq|float|float_seq)")


def load(
    path: str | os.PathLike[str],
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    timestamp: str | None = None,
    names: Sequence[str] | None = None,
    separator: str | None = None,
    rating_scale: tuple[float, float] | None = reading.STARS,
) -> Interactions:
    """Reads a table with a column of users and one of items, and maybe ratings and timestamps.

    Other columns are ignored, but quotes are refused everywhere in a text file. Timestamps may be seconds or
    milliseconds, and stay in the unit of the file.

    Args:
        path: The file, plain, .gz or .xz; before that its name ends in .csv, .tsv, .inter or .parquet, or `separator`
            is given. A text file starts with a header; that of .inter has types (`user_id:token`, `rating:float`).
        user: Name of the column of users; by default the one called user, user_id or userId.
        item: Name of the column of items; by default the one called item, item_id, itemId, movie_id, ...
        rating: Name of the column of ratings; by default the one called rating, if there is one.
        timestamp: Name of the column of times; by default the one called timestamp or time, if there is one.
        names: The names of all columns, for a text file without a header.
        separator: What stands between two fields, where the file's name does not tell.
        rating_scale: The least and the largest rating; None for any finite number.

    Returns:
        The interactions in the order of the file, with its ids.

    Raises:
        InputError: If the file is not there, or has no such column, or any field of these columns is not what it
            should be, or there are fewer than two items.
    """
    given = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    return indexing.interactions(read(path, given, names=names, separator=separator, rating_scale=rating_scale))


def read(
    path: str | os.PathLike[str],
    given: Mapping[str, str | None],
    *,
    names: Sequence[str] | None = None,
    separator: str | None = None,
    rating_scale: tuple[float, float] | None = reading.STARS,
) -> indexing.Rows:
    """`load` for who numbers the ids: the rows with those of the file, also where there is but one item.

    Args:
        given: {"user", "item", "rating" or "timestamp": name of its column}, of those that have no usual name.

    Raises:
        InputError: As `load`, but for the number of items.
    """
    kind = pathlib.Path(stored.stem(path)).suffix.lower()
    if kind == ".parquet":
        text, header, chosen = _open_parquet(path, given)
        columns = reading.table(text, header)
    else:
        text = _open_text(path, kind, separator)
        header = reading.header(text) if names is None else list(names)
        types = None
        if kind == ".inter" and names is None:
            header, types = _typed(text, header)
        chosen = choose(text.path, header, given)
        if types is not None:
            _check_types(text, types, {role: header.index(name) for role, name in chosen.items()})
        columns = reading.table(text, header, after_header=names is None)
    parts = {role: columns[name]._replace(name=role) for role, name in chosen.items()}
    return indexing.from_columns(parts, rating_scale=rating_scale)


def _open_text(path: str | os.PathLike[str], kind: str, separator: str | None) -> reading.Text:
    """The text of a file that is not parquet, without quotes."""
    cut = SEPARATORS.get(kind) if separator is None else separator.encode()
    if not cut:
        raise InputError(f"{path}: expected a .csv, .tsv, .inter or .parquet file, or its separator, got neither")
    text = stored.open_text(path, cut)
    quote = text.data.find(b'"')
    if quote >= 0:
        raise reading.error(text.path, "fields without quotes", "a quote", *reading.place(text.data, text.cut, quote))
    return text


def choose(path: str, header: Sequence[str], given: Mapping[str, str | None]) -> dict[str, str]:
    """The names of the columns of a header by their roles: as given, or else under one of their usual names.

    Raises:
        InputError: If a given name, a user or an item column is not there, or several columns have usual names.
    """
    chosen = {}
    for role, usual in _USUAL_NAMES.items():
        name = given.get(role)
        found = [column for column in header if column.lower().replace("_", "") in usual] if name is None else [name]
        if name is not None and name not in header:
            raise reading.error(path, f"a column {name!r} ({role})", _listed(header))
        if len(found) > 1:
            raise reading.error(path, f"one {role} column (say which: {role}=...)", _listed(found))
        if not found and role in ("user", "item"):
            raise reading.error(path, f"a header with a column {role}_id (or say which: {role}=...)", _listed(header))
        if found:
            chosen[role] = found[0]
    return chosen


def _listed(names: Sequence[str]) -> str:
    """Column names as a message shows them."""
    shown = ", ".join(map(repr, names))
    return shown if len(shown) <= 120 else shown[:117] + "..."


def _typed(text: reading.Text, header: list[str]) -> tuple[list[str], list[str]]:
    """The names and the types of an .inter header."""
    matches = [_TYPED.fullmatch(field) for field in header]
    for column, (field, match) in enumerate(zip(header, matches, strict=True), start=1):
        if match is None:
            raise reading.error(text.path, "name:type, of type token, float or a _seq of them", repr(field), 1, column)
    return [match[1] for match in matches if match], [match[2] for match in matches if match]


def _check_types(text: reading.Text, types: list[str], places: dict[str, int]) -> None:
    """Raises an InputError at the first column whose .inter type is not that of its role."""
    for role, place in places.items():
        if types[place] != _TYPES[role]:
            raise reading.error(text.path, f"the {role} column of type {_TYPES[role]}", types[place], 1, place + 1)


def _open_parquet(
    path: str | os.PathLike[str], given: Mapping[str, str | None]
) -> tuple[reading.Text, list[str], dict[str, str]]:
    """A parquet file as the text that it would be, its header, and the columns of interest (the others are empty).

    So its fields are held to the same rules, and the line of a message is the row in the file.
    """
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
    except ImportError as problem:
        raise InputError(f"{path}: expected pyarrow to be installed, which reads parquet, got: {problem}") from problem
    data = stored.content(path)
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        header = file.schema_arrow.names
        chosen = choose(os.fspath(path), header, given)
        if len(set(header)) < len(header):
            raise reading.error(path, "every column name once", _listed(header))
        for role, name in chosen.items():
            kind = file.schema_arrow.field(name).type
            if role in ("user", "item") and pa.types.is_floating(kind):
                raise reading.error(
                    path, f"{role} as whole numbers", f"numbers of type {kind}", 1, header.index(name) + 1
                )
        table = file.read(columns=list(chosen.values()))
        string = pa.large_string()
        wanted = set(chosen.values())
        fields = [pc.cast(table.column(name), string) if name in wanted else pa.scalar("", string) for name in header]
        options = pc.JoinOptions(null_handling="replace", null_replacement="")
        lines = pc.call_function("binary_join_element_wise", [*fields, pa.scalar("	", string)], options)
        return reading.text(os.fspath(path), "\n".join(lines.to_pylist()).encode(), b"\t"), header, chosen
    except (pa.ArrowException, OSError) as problem:
        reason = " ".join(str(problem).split())[:120]
        raise reading.error(path, "a whole parquet file", f"what does not load: {reason}") from problem
