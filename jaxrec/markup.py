"""Parts of a page: elements, tables, and numbers and names as a person reads them.

Pages are trees of elements, written out by the standard library, so that text from users' files is escaped and elements
nest by construction.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any

METRICS = {"ndcg": "NDCG", "hit_rate": "HR"}

Columns = Mapping[
    str, Callable[[Any], Any]
]  # heading -> how a cell is shown: as an element if it is text, else a number


def element(tag: str, attributes: Mapping[str, Any] | None = None, *children: ET.Element | str) -> ET.Element:
    """An element with its children. Text is escaped when the tree is written, so no caller needs to."""
    shown = lambda value: f"{value:.5g}" if isinstance(value, float) else str(value)
    made = ET.Element(tag, {name: shown(value) for name, value in (attributes or {}).items()})
    for child in children:
        if not isinstance(child, str):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def number(value: float | None, form: str = ",.4f") -> str:
    """A number as a person reads it: a dash for None, and a minus sign as wide as a plus."""
    return "\N{EN DASH}" if value is None else format(value, form).replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None) -> str:
    """`[low, high]`; nothing when both are None."""
    return "" if low is None and high is None else f"[{number(low)}, {number(high)}]"


def change(before: float | None, after: float | None) -> str:
    """By what share `after` differs from `before`; a dash where that is not defined."""
    return number(after / before - 1, "+.0%") if before and after is not None else number(None)


def table(caption: str, columns: Columns, rows: Sequence[Sequence[Any]]) -> ET.Element:
    """A table that scrolls in its own box where it is wide; columns of numbers stand to the right."""
    shown = [[show(cell) for show, cell in zip(columns.values(), row, strict=True)] for row in rows]
    is_text = [any(isinstance(row[place], ET.Element) for row in shown) for place in range(len(columns))]
    kinds = [{} if text else {"class": "number"} for text in is_text]
    body = []
    for row in shown:
        cells = [element("td", kind, cell) for kind, cell in zip(kinds, row, strict=True)]
        cells[0].tag = "th"
        cells[0].set("scope", "row")
        body.append(element("tr", {}, *cells))
    heads = [element("th", {"scope": "col"} | kind, name) for name, kind in zip(columns, kinds, strict=True)]
    made = element(
        "table",
        {},
        element("caption", {}, caption),
        element("thead", {}, element("tr", {}, *heads)),
        element("tbody", {}, *body),
    )
    return element("div", {"class": "scroll", "role": "region", "aria-label": caption, "tabindex": 0}, made)


def folded(summary: str, *children: ET.Element) -> ET.Element:
    """What a reader opens with a click on the summary."""
    return element("details", {}, element("summary", {}, summary), *children)


def text(value: str) -> ET.Element:
    """Text of a user's file, which may run from right to left."""
    return element("bdi", {}, str(value))


def plain(value: float | None) -> str:
    """An epsilon or a count: no more digits than it has."""
    return number(value, "," if isinstance(value, int) else ",g")


def interval_cell(value: Sequence[float | None] | None) -> str:
    """`[low, high]`; a dash where there is none."""
    return interval(*(value or (None, None))) or number(None)


def metric_name(name: str, k: int | None = None) -> str:
    """`ndcg@10`, or `ndcg` and 10, as NDCG@10."""
    name, at, cutoff = name.partition("@")
    cutoff = cutoff if at or k is None else str(k)
    return METRICS.get(name, words(name)) + (f"@{cutoff}" if cutoff else "")


def words(name: str) -> str:
    """`rank_shift` as rank shift."""
    return name.replace("_", " ")
