"""Strict and fast reading of separated text: every field is what its column promises, or its place is named.

A file is cut into fields by NumPy at its separators and line ends, and the fields of a column are parsed all at once,
so that strictness costs no speed: a million rows of ratings take about a second. What is wrong raises an `InputError`
of one line, `FILE:LINE:COLUMN: expected ..., got ...`, where LINE and COLUMN count lines and fields from 1.

Fine: a UTF-8 byte-order mark, Windows line ends, no line end after the last line, empty lines after the last one.
Refused: everything else that is not exactly rows of fields. Nothing here unpickles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrec.types import InputError

LARGEST = 2**63 - 1
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
STARS = (0.5, 5.0)  # the scale of most published ratings
EXACT = 2**53  # the largest float64 up to which every whole number has its own

_FORMATS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"PAR1": "parquet",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_SEPARATORS = {b",": "commas", b"\t": "tabs", b" ": "single spaces", b"::": "'::'", b"|": "'|'"}
_CUT = b"\x1f"  # stands for a separator of several bytes; a control character, so no text contains it
_CONTROL = np.isin(np.arange(256), [*range(9), *range(11, 32), 127])
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MISTAKEN = re.compile(rb"[-+.0-9]*(?:[,;|\t :][-+.0-9]*)+")  # numbers held together by some other separator
_LONGEST_NUMBER = 64
_EPOCH_DIGITS = 9  # of the seconds since 1970, from 1973 on


class Text(NamedTuple):
    """A whole text: `data` has no byte-order mark, and every line, the last one too, ends in a newline.

    `ended` says whether the last line ended so in the file.
    """

    path: str
    data: bytes
    separator: bytes
    ended: bool

    @property
    def cut(self) -> bytes:
        """The one byte that stands between the fields in `data`."""
        return self.separator if len(self.separator) == 1 else _CUT


class Column(NamedTuple):
    """Fields of one kind: field n is `text.data[starts[n]:ends[n]]`; `name` says in messages what they are."""

    text: Text
    name: str
    starts: np.ndarray
    ends: np.ndarray


def error(path: str | os.PathLike[str], expected: str, got: str, line: int = 1, column: int = 1) -> InputError:
    """The one form of every complaint about a data file."""
    return InputError(f"{os.fspath(path)}:{line}:{column}: expected {expected}, got {got}")


def text(path: str, data: bytes, separator: bytes) -> Text:
    """Checks that `data` is text and brings its line ends to one form.

    Args:
        path: What messages call it.
        data: The whole file.
        separator: What stands between two fields.

    Raises:
        InputError: If it is empty, compressed, UTF-16, or holds a NUL or another control character.
    """
    for magic, kind in _FORMATS.items():
        if data.startswith(magic):
            raise error(path, "plain text in UTF-8 (compressed files are named .gz or .xz)", f"{kind} bytes")
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    ended = data.endswith(b"\n")
    data = data.rstrip(b"\n") + b"\n"
    if data == b"\n":
        raise error(path, "rows", "an empty file")
    _check_characters(path, data, separator)
    return Text(path, data if len(separator) == 1 else data.replace(separator, _CUT), separator, ended)


def _check_characters(path: str, data: bytes, separator: bytes) -> None:
    """Refuses what only binary data, UTF-16 or an old Mac would have."""
    control = _CONTROL[np.frombuffer(data, np.uint8)]
    if not control.any():
        return
    where = int(control.argmax())
    character = data[where : where + 1]
    got = "a NUL byte (is it binary or UTF-16?)" if character == b"\0" else f"the control character {character!r}"
    raise error(path, "plain text", got, *place(data, separator, where))


def place(data: bytes, separator: bytes, offset: int) -> tuple[int, int]:
    """The line and the field, from 1, in which a byte lies."""
    start = data.rfind(b"\n", 0, offset) + 1
    return data.count(b"\n", 0, offset) + 1, data.count(separator, start, offset) + 1


def _shown(text: Text, field: bytes) -> str:
    """A field as a message quotes it: short, printable, on one line."""
    characters = field.replace(text.cut, text.separator).decode("utf-8", "backslashreplace")
    return repr(characters if len(characters) <= 40 else characters[:37] + "...")


def header(text: Text) -> list[str]:
    """The fields of the first line.

    Raises:
        InputError: If one of them is empty, quoted, there twice or not UTF-8.
    """
    names = []
    for column, field in enumerate(text.data[: text.data.index(b"\n")].split(text.cut), start=1):
        shown = _shown(text, field)
        if not field or field.strip() != field or b'"' in field or b"'" in field:
            raise error(text.path, "a column name without quotes and spaces around it", shown, 1, column)
        try:
            names.append(field.decode("utf-8"))
        except UnicodeDecodeError as problem:
            raise error(text.path, "a column name in UTF-8", shown, 1, column) from problem
        if names[-1] in names[:-1]:
            raise error(text.path, "every column name once", f"{shown} again", 1, column)
    return names


def table(text: Text, names: Sequence[str], *, after_header: bool = False) -> dict[str, Column]:
    """Cuts a text whose lines all have the same columns.

    Args:
        text: The text.
        names: A name for each column.
        after_header: Whether the first line is a header, to be passed over.

    Returns:
        The columns by name, in the order of the rows.

    Raises:
        InputError: If there is no row, or a row has more or fewer fields than `names`.
    """
    starts, stops, widths = _cut(text, after_header)
    wrong = np.flatnonzero(widths != len(names))
    if len(wrong):
        raise _wrong_width(text, int(wrong[0]) + after_header, len(names))
    return {name: Column(text, name, starts[n :: len(names)], stops[n :: len(names)]) for n, name in enumerate(names)}


def lists(text: Text, name: str) -> tuple[Column, np.ndarray]:
    """Cuts a text whose lines differ in length.

    Returns:
        All fields, line after line, and the number of fields of each line, at least 1 ([lines]).
    """
    starts, stops, widths = _cut(text, False)
    return Column(text, name, starts, stops), widths


def take(column: Column, rows: np.ndarray | slice, name: str) -> Column:
    """The fields at `rows`, under another name."""
    return Column(column.text, name, column.starts[rows], column.ends[rows])


def _cut(text: Text, after_header: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts and ends of all fields, and how many there are on each line."""
    begin = text.data.index(b"\n") + 1 if after_header else 0
    characters = np.frombuffer(text.data, np.uint8)[begin:]
    is_newline = characters == ord("\n")
    stops = np.flatnonzero(is_newline | (characters == ord(text.cut)))
    if not len(stops):
        raise error(text.path, "rows after the header", "none", 2)
    widths = np.diff(np.flatnonzero(is_newline[stops]), prepend=-1)
    starts = np.concatenate([[0], stops[:-1] + 1])
    return starts + begin, stops + begin, widths


def _wrong_width(text: Text, index: int, width: int) -> InputError:
    """The complaint about line `index` (from 0), which has too many or too few fields."""
    line = text.data.split(b"\n", index + 1)[index]
    fields = line.split(text.cut)
    mistaken = (n for n, field in enumerate(fields, start=1) if _MISTAKEN.fullmatch(field))
    expected = f"{width} columns separated by {_SEPARATORS.get(text.separator, repr(text.separator.decode('latin-1')))}"
    if not line:
        return error(text.path, expected, "a blank line", index + 1)
    column = width + 1 if len(fields) > width else next(mistaken, len(fields) + 1)
    return error(text.path, expected, f"{len(fields)} in {_shown(text, line)}", index + 1, column)


def wrong(column: Column, index: int, expected: str) -> InputError:
    """The complaint about field `index` (from 0) of a column."""
    start, end = int(column.starts[index]), int(column.ends[index])
    line, number = place(column.text.data, column.text.cut, start)
    got = _shown(column.text, column.text.data[start:end]) if end > start else "nothing"
    return error(column.text.path, f"{column.name} as {expected}", got, line, number)


def refuse(column: Column, bad: np.ndarray, expected: str) -> None:
    """Raises an InputError at the first field that is bad ([N], bool), if any is."""
    if bad.any():
        raise wrong(column, int(bad.argmax()), expected)


def integers(column: Column) -> np.ndarray:
    """Parses ids and the like: plain digits, nothing before or after them, no leading zeros.

    Returns:
        int64 [N], each from 0 to 2^63 - 1.

    Raises:
        InputError: At the first field that is anything else.
    """
    characters = np.frombuffer(column.text.data, np.uint8)
    lengths = column.ends - column.starts
    bad = (lengths == 0) | (lengths > 19)
    bad |= (characters[column.starts] == ord("0")) & (lengths > 1)
    values = np.zeros(len(lengths), np.uint64)  # holds every number of 19 digits
    for n in range(min(int(lengths.max(initial=0)), 19)):
        inside = n < lengths
        digits = characters[np.minimum(column.starts + n, len(characters) - 1)] - np.uint8(ord("0"))
        bad |= inside & (digits > 9)
        values = np.where(inside, values * np.uint64(10) + digits, values)
    bad |= values > LARGEST
    refuse(column, bad, f"a whole number from 0 to {LARGEST} in plain digits")
    return values.astype(np.int64)


def keys(column: Column) -> np.ndarray:
    """`integers`, each of them once: the key of a table about users or items.

    Raises:
        InputError: Also at the first id that was there before.
    """
    ids = integers(column)
    refuse(column, repeats(ids), "an id that no line above has")
    return ids


def repeats(values: np.ndarray) -> np.ndarray:
    """Which of the values stood there before: bool [N]."""
    order = np.argsort(values, kind="stable")
    is_repeat = np.zeros(len(values), bool)
    is_repeat[order[1:]] = values[order[1:]] == values[order[:-1]]
    return is_repeat


def numbers(column: Column, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
    """Parses decimal numbers, such as 3, -0.25 or 1e-05.

    Args:
        column: The fields.
        low: The smallest number that is legal.
        high: The largest one.

    Returns:
        float64 [N], finite and in [low, high].

    Raises:
        InputError: At the first field that is anything else: empty, NaN, infinite, with a decimal comma, ...
    """
    lengths = column.ends - column.starts
    bounds = "a finite number" if np.isinf(low) else f"a number from {low:.10g} to {high:.10g}"
    refuse(column, (lengths == 0) | (lengths > _LONGEST_NUMBER), bounds)
    distinct, which = np.unique(_fixed_width(column, int(lengths.max(initial=1))), return_inverse=True)
    is_number = np.array([_NUMBER.fullmatch(field) is not None for field in distinct.tolist()], bool)
    refuse(column, ~is_number[which], bounds)
    values = distinct.astype(np.float64)
    refuse(column, ~(np.isfinite(values) & (low <= values) & (values <= high))[which], bounds)
    return values[which]


def _fixed_width(column: Column, width: int) -> np.ndarray:
    """The fields as an array of byte strings, S[width]."""
    characters = np.frombuffer(column.text.data, np.uint8)
    fields = np.zeros((len(column.starts), width), np.uint8)
    for n in range(width):
        offsets = column.starts + n
        inside = offsets < column.ends
        fields[inside, n] = characters[offsets[inside]]
    return fields.view(f"S{width}")[:, 0]


def times(column: Column) -> np.ndarray:
    """Parses timestamps: whole numbers, or decimals without a fraction as tables of floats write them (978300760.0).

    Returns:
        int64 [N], in the unit of the file.

    Raises:
        InputError: At the first field that is anything else, or at a last line that ends within its timestamp.
    """
    lengths = column.ends - column.starts
    may_be_cut = not column.text.ended and column.ends[-1] == len(column.text.data) - 1
    if may_be_cut and len(lengths) > 1 and max(lengths[-1] + 1, _EPOCH_DIGITS) <= lengths[:-1].min():
        raise wrong(column, len(lengths) - 1, "long as the others (the last line seems to be cut)")
    try:
        return integers(column)
    except InputError:
        decimals = numbers(column, 0, EXACT)
    refuse(column, decimals != np.floor(decimals), "a time in whole seconds or milliseconds")
    return decimals.astype(np.int64)


def strings(column: Column, encoding: str = "utf-8") -> list[str]:
    """Decodes fields of text.

    Raises:
        InputError: At the first field that is empty or not in that encoding.
    """
    refuse(column, column.starts == column.ends, "some text")
    decoded = []
    for n, (start, end) in enumerate(zip(column.starts.tolist(), column.ends.tolist(), strict=True)):
        try:
            decoded.append(column.text.data[start:end].decode(encoding))
        except UnicodeDecodeError as problem:
            raise wrong(column, n, f"text in {encoding}") from problem
    return decoded
