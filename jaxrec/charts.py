"""Line and dumbbell charts as inline SVG elements: no script, no file, and colours that are the page's CSS variables.

A line has a colour of Okabe and Ito's palette (which the colour-blind can tell apart), a dash pattern and a marker, and
its name at its end, so that no legend is needed and none of the three is relied on alone.
"""

import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxrec import markup

WIDTH = 500  # of a chart in units of its viewBox, so that text is still legible where a telephone scales it down
CHARACTER = 6.6  # width of a label's character
LABEL_GAP = 14  # between the baselines of two labels
LONGEST_LABEL = 20  # characters; the whole name stands in the tooltip and in the table

COLOURS = {  # of each kind of series, in the order in which they are listed
    "certified": ("blue",),
    "held_out": ("vermillion",),
    "worst_of": ("ink",),
    "attack": ("green", "purple", "orange", "sky"),
    "noise": ("grey",),
}
DASHES = ("none", "9 3", "5 3", "10 3 2 3", "2 3")
MARKERS = (  # of 5 and 7 of them, 35 lines differ in one or the other
    "M-3.2-3.2h6.4v6.4h-6.4z",
    "M0-4.5L4.5 0L0 4.5L-4.5 0z",
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "M0-4.2L4.2 3.2H-4.2z",
    "M-3.2-3.2L3.2 3.2M-3.2 3.2L3.2-3.2",
    "M0 4.2L4.2-3.2H-4.2z",
    "M-4 0H4M0-4V4",
)

_element = markup.element

Point = tuple[float, float | None, float | None, float | None]  # epsilon, value, low, high


class Style(NamedTuple):
    """How a line is drawn."""

    kind: str
    colour: str
    dash: str
    marker: str


class _Line(NamedTuple):
    name: str
    style: Style
    points: Sequence[Point]

    @property
    def known(self) -> list[tuple[float, float]]:
        return [(x, value) for x, value, _, _ in self.points if value is not None]


class _Frame(NamedTuple):
    """The rectangle that data are drawn in, and where a value lies: what is below 0 (a t interval's end) lies at 0."""

    left: float
    right: float
    top: float
    bottom: float
    x_high: float
    y_high: float

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * max(value, 0) / self.x_high

    def y(self, value: float) -> float:
        return self.bottom + (self.top - self.bottom) * max(value, 0) / self.y_high


def points_of(series: Mapping[str, Any]) -> list[Point]:
    """The points of a series, whose `low` and `high` may be None as a whole."""
    nothing = [None] * len(series["epsilons"])
    columns = (series["epsilons"], series["values"], series["low"] or nothing, series["high"] or nothing)
    return list(zip(*columns, strict=True))


def styles(curves: Sequence[Mapping[str, Any]]) -> dict[str, Style]:
    """A style for each name of a series in any of the curves, in the order in which a page lists them."""
    kinds = {series["name"]: series["kind"] for curve in curves for series in curve["series"]}
    order = sorted(kinds, key=lambda name: list(COLOURS).index(kinds[name]))
    made: dict[str, Style] = {}
    for place, name in enumerate(order):
        colours = COLOURS[kinds[name]]
        colour = colours[sum(style.kind == kinds[name] for style in made.values()) % len(colours)]
        made[name] = Style(kinds[name], colour, DASHES[place % len(DASHES)], MARKERS[place % len(MARKERS)])
    return made


def lines(curve: Mapping[str, Any], styles: Mapping[str, Style], *, x_title: str, y_title: str) -> ET.Element:
    """Draws a metric against epsilon: for each series a line from the clean value, a shaded interval and its name.

    Args:
        curve: `clean` and `series`, each with `name`, `epsilons`, `values`, `low` and `high` (or None for these two).
            An unknown value (None) interrupts its line.
        styles: From the function of this name, so that a series looks the same in all charts of a page.
    """
    drawn = _lines(curve, styles)
    x_high = max((x for line in drawn for x, _, _, _ in line.points), default=0) or 1.0
    heights = [value or 0 for line in drawn for point in line.points for value in point[1:]]
    y_ticks = _ticks(max(heights, default=0))
    named = sorted((line for line in drawn if line.known), key=_depth)
    frame = _Frame(
        left=20 + CHARACTER * max(len(f"{tick:g}") for tick in y_ticks),
        right=WIDTH - 46 - CHARACTER * max((len(_short(line.name)) for line in named), default=0),
        top=34,
        bottom=34 + max(240, LABEL_GAP * len(named)),
        x_high=x_high,
        y_high=y_ticks[-1],
    )
    x_ticks = [tick for tick in _ticks(x_high) if tick <= x_high * (1 + 1e-6)]
    labels = spread([frame.y(line.known[-1][1]) for line in named], low=frame.top, high=frame.bottom, gap=LABEL_GAP)
    described = ", ".join(f"{line.name} {markup.number(line.known[-1][1])}" for line in named)
    return _svg(
        frame,
        f"{y_title} against {x_title}",
        f"At the largest epsilon of each line: {described}.",
        *_axes(frame, x_ticks, y_ticks, x_title, y_title),
        *(_band(frame, line) for line in named),
        *(_line(frame, line, label) for line, label in zip(named, labels, strict=True)),
    )


def dumbbells(groups: Sequence[Mapping[str, Any]], *, x_title: str) -> ET.Element:
    """Draws for each group its clean value (hollow), its attacked value (full), the interval of this, and the change.

    Args:
        groups: Each with `name`, `users`, `clean`, `attacked`, `low` and `high`, of which the last four may be None.
    """
    row = 40
    ticks = _ticks(max((group[name] or 0 for group in groups for name in ("clean", "attacked", "high")), default=0))
    frame = _Frame(
        left=24 + max(80, CHARACTER * max((len(_short(group["name"])) for group in groups), default=0)),
        right=WIDTH - 20,
        top=20,
        bottom=20 + row * len(groups),
        x_high=ticks[-1],
        y_high=1,
    )
    return _svg(
        frame,
        f"{x_title} by group, clean and attacked",
        "; ".join(
            f"{group['name']}: {markup.number(group['clean'])} to {markup.number(group['attacked'])}"
            for group in groups
        ),
        *_axes(frame, ticks, [], x_title, ""),
        *(_dumbbell(frame, group, frame.top + row * (place + 0.55)) for place, group in enumerate(groups)),
    )


def spread(heights: Sequence[float], *, low: float, high: float, gap: float) -> list[float]:
    """Heights near the given ascending ones, at least `gap` apart, in [low, high] as long as there is room."""
    down = list(itertools.accumulate(heights, lambda before, height: max(height, before + gap), initial=low - gap))[1:]
    up = itertools.accumulate(reversed(down), lambda after, height: min(height, after - gap), initial=high + gap)
    return list(up)[:0:-1]


def _lines(curve: Mapping[str, Any], styles: Mapping[str, Style]) -> list[_Line]:
    """The curve's series as they are drawn, and the clean value as the last of them."""
    made, clean = [], curve["clean"]
    for series in sorted(curve["series"], key=lambda series: list(styles).index(series["name"])):
        points = sorted(points_of(series), key=lambda point: point[0])
        if not points or points[0][0] > 0:
            points.insert(0, (0.0, clean, None, None))
        made.append(_Line(series["name"], styles[series["name"]], points))
    last = max((line.points[-1][0] for line in made), default=1.0)
    flat = [(x, clean, None, None) for x in (0.0, last)]
    return [*made, _Line("clean", Style("clean", "muted", "1 4", ""), flat)]


def _depth(line: _Line) -> tuple[float, float]:
    """By what lines are listed from the top: how low they end, then how low they lie on the whole."""
    values = [value for _, value in line.known]
    return -values[-1], -sum(values) / len(values)


def _line(frame: _Frame, line: _Line, label: float) -> ET.Element:
    """A line with a marker at each point, and its key and name at the height `label`, joined to its end."""
    path = "".join(f"{'M' if new else 'L'}{_at(frame, x, value)}" for new, x, value in _pen(line.points))
    hair = f"M{_at(frame, *line.known[-1])}L{frame.right + 12:.1f} {label:.1f}"
    sample = {"class": "line", "d": f"M{frame.right + 12:.1f} {label:.1f}h24", "stroke-dasharray": line.style.dash}
    marker = {"d": line.style.marker, "transform": f"translate({frame.right + 24:.1f} {label:.1f})"}
    text = {"class": "label", "x": frame.right + 42, "y": label + 4}
    return _element(
        "g",
        {"class": f"series {line.style.kind}", "style": f"--colour: var(--{line.style.colour})"},
        _element("path", {"class": "hair", "d": hair}),
        _element("path", {"class": "line", "d": path, "stroke-dasharray": line.style.dash}),
        *(
            _mark(frame, line, x, value, markup.interval(low, high))
            for x, value, low, high in line.points
            if line.style.marker and value is not None
        ),
        _element("path", sample),
        _element("g", {"class": "mark"}, _element("path", marker)),
        _element("text", text, _element("title", {}, line.name), _short(line.name)),
    )


def _at(frame: _Frame, x: float, y: float) -> str:
    """A point, as the commands of a path take it."""
    return f"{frame.x(x):.1f} {frame.y(y):.1f}"


def _pen(points: Sequence[Point]) -> list[tuple[bool, float, float]]:
    """The known points, and whether the pen is set down anew there: at the first, and after an unknown value."""
    before = [None, *(point[1] for point in points)]
    return [(old is None, x, value) for old, (x, value, _, _) in zip(before, points, strict=False) if value is not None]


def _mark(frame: _Frame, line: _Line, x: float, value: float, interval: str) -> ET.Element:
    """A marker whose tooltip tells its numbers; around it an unseen circle that is easier to hit."""
    told = f"{line.name} at epsilon {x:g}: {markup.number(value)} {interval}".strip()
    return _element(
        "g",
        {"class": "mark", "transform": f"translate({_at(frame, x, value)})"},
        _element("title", {}, told),
        _element("circle", {"class": "hit", "r": 8}),
        _element("path", {"d": line.style.marker}),
    )


def _band(frame: _Frame, line: _Line) -> ET.Element:
    """The line's interval, shaded, wherever both its ends are known."""
    path = ""
    for _, run in itertools.groupby(line.points, key=lambda point: None in point):
        ends = [(x, low, high) for x, _, low, high in run if low is not None and high is not None]
        if ends:
            there = [_at(frame, x, high) for x, _, high in ends]
            back = [_at(frame, x, low) for x, low, _ in reversed(ends)]
            path += f"M{'L'.join(there + back)}Z"
    return _element("path", {"class": "band", "style": f"fill: var(--{line.style.colour})", "d": path})


def _dumbbell(frame: _Frame, group: Mapping[str, Any], y: float) -> ET.Element:
    """One group of `dumbbells`, at the height `y`."""
    clean, attacked, low, high = (group[name] for name in ("clean", "attacked", "low", "high"))
    end = {"x": frame.left - 12, "text-anchor": "end"}
    parts = [
        _element(
            "title",
            {},
            f"{group['name']}: {_from_to(clean, attacked)} {markup.interval(low, high)}".strip(),
        ),
        _element("text", {"class": "label", "y": y - 2} | end, _short(group["name"])),
        _element("text", {"class": "tick", "y": y + 11} | end, f"{group['users']:,} users"),
    ]
    if low is not None and high is not None:
        parts.append(_element("path", {"class": "whisker", "d": f"M{frame.x(low):.1f} {y:.1f}H{frame.x(high):.1f}"}))
    if clean is not None and attacked is not None:
        middle = frame.x((clean + attacked) / 2)
        parts.append(_element("path", {"class": "fall", "d": f"M{frame.x(clean):.1f} {y:.1f}H{frame.x(attacked):.1f}"}))
        text = {"class": "tick", "x": middle, "y": y - 9, "text-anchor": "middle"}
        parts.append(_element("text", text, markup.change(clean, attacked)))
    for kind, value in (("before", clean), ("after", attacked)):
        if value is not None:
            parts.append(_element("circle", {"class": kind, "cx": frame.x(value), "cy": y, "r": 5}))
    return _element("g", {"class": "group"}, *parts)


def _from_to(clean: float | None, attacked: float | None) -> str:
    """Both values in words."""
    return f"{markup.number(clean)} to {markup.number(attacked)}"


def _axes(
    frame: _Frame, x_ticks: Sequence[float], y_ticks: Sequence[float], x_title: str, y_title: str
) -> list[ET.Element]:
    """Grid lines with their numbers, and the titles of the axes: y above its axis, x below."""
    middle = {"text-anchor": "middle"}
    parts = [_element("text", {"class": "title", "x": 4, "y": 14}, y_title)] if y_title else []
    for tick in y_ticks:
        parts.append(_element("path", {"class": "grid", "d": f"M{_at(frame, 0, tick)}H{frame.right:.1f}"}))
        at = {"class": "tick", "x": frame.left - 8, "y": frame.y(tick) + 4, "text-anchor": "end"}
        parts.append(_element("text", at, f"{tick:g}"))
    for tick in x_ticks:
        start = frame.bottom if y_ticks else frame.top
        parts.append(_element("path", {"class": "grid", "d": f"M{frame.x(tick):.1f} {start}V{frame.bottom + 5:.1f}"}))
        at = {"class": "tick", "x": frame.x(tick), "y": frame.bottom + 19.0} | middle
        parts.append(_element("text", at, f"{tick:g}"))
    at = {"class": "title", "x": (frame.left + frame.right) / 2, "y": frame.bottom + 38.0} | middle
    return [*parts, _element("text", at, x_title)]


def _svg(frame: _Frame, name: str, description: str, *children: ET.Element) -> ET.Element:
    """The picture, with a name and a description for those who do not see it."""
    box = {"viewBox": f"0 0 {WIDTH} {frame.bottom + 46:.0f}", "role": "img", "aria-label": f"{name}. {description}"}
    return _element("svg", box, _element("desc", {}, description), *children)


def _ticks(high: float) -> list[float]:
    """0 and about five round steps, the last one at `high` or above."""
    if high <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(high / 5))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10, 20) if factor * power >= high / 5 * (1 - 1e-9))
    return [place * step for place in range(math.ceil(high / step * (1 - 1e-9)) + 1)]


def _short(name: str) -> str:
    """A name cut to the length of a label."""
    return name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
