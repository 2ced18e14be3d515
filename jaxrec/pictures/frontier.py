"""Accuracy against robustness, with what each point exposes of the long tail as its colour: a picture of trade-offs."""

import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrec import tradeoff
from jaxrec.pictures import canvas


class Point(NamedTuple):
    """What stands beside the point, and its three measures; more of each is better."""

    name: str
    accuracy: float
    robustness: float
    tail_share: float


def draw(path: pathlib.Path, panels: Mapping[str, Sequence[Point]], *, x: str, y: str, title: str) -> None:
    """Draws a panel for each name as a PNG. Points that no other beats in all three measures have a thick edge.

    Args:
        panels: {above the panel: its points}.
        x, y: At the axes, of robustness and accuracy.
    """
    plt = canvas.pyplot()
    size = (0.8 + 6 * len(panels), 5.4)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    shares = [point.tail_share for points in panels.values() for point in points]
    for axis, (name, points) in zip(axes[0], panels.items(), strict=True):
        values = np.array([point[1:] for point in points])
        kept = tradeoff.non_dominated(values)
        shown = axis.scatter(
            values[:, 1],
            values[:, 0],
            c=values[:, 2],
            vmin=min(shares),
            vmax=max(shares),
            s=60,
            edgecolors="black",
            linewidths=np.where(kept, 1.8, 0.4),
        )
        axis.locator_params(axis="x", nbins=6)
        axis.margins(x=0.2)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.grid(alpha=0.3)
        figure.colorbar(shown, ax=axis, label="share of the long tail in the lists")
    words = f"{title}; thick edge: no other is better in all three"
    figure.suptitle(textwrap.fill(words, 75 * len(panels)), fontsize=10)
    figure.canvas.draw()  # what is where is known from here on
    for axis, points in zip(axes[0], panels.values(), strict=True):
        _label(axis, _by_place(points))
    canvas.save(path, figure)


def _by_place(points: Sequence[Point]) -> dict[tuple[float, float], list[str]]:
    """{(robustness, accuracy): names}; points that lie on each other share a label."""
    names: dict[tuple[float, float], list[str]] = {}
    for point in points:
        names.setdefault((round(point.robustness, 4), round(point.accuracy, 4)), []).append(point.name)
    return names


def _label(axis: Any, names: Mapping[tuple[float, float], Sequence[str]]) -> None:
    """Writes names beside points, from the top: each in the nearest place where it covers no point and no other name,
    with a line to its point where that is not beside it."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in map(axis.transData.transform, names)]  # left, low, right, top
    ways = [(side, up) for up in (1, -1) for side in (1, -1)]
    offsets = [(side * (5 + 4 * far), up * (5 + 9 * far) - 3) for far in range(10) for side, up in ways]  # points
    for place in sorted(names, key=lambda place: -place[1]):
        note = axis.annotate(", ".join(names[place]), place, (0, 0), textcoords="offset points", fontsize=7)
        note.set_in_layout(False)
        for offset in offsets:
            note.set(position=offset, ha="left" if offset[0] > 0 else "right")
            left, low, right, top = note.get_window_extent().extents
            free = all(right < box[0] or box[2] < left or top < box[1] or box[3] < low for box in taken)
            if free and axis.bbox.x0 < left and right < axis.bbox.x1:
                break
        taken.append((left, low, right, top))
        if abs(offset[0]) > 5:
            axis.annotate(
                "", place, offset, textcoords="offset points", arrowprops={"arrowstyle": "-", "linewidth": 0.4}
            )
