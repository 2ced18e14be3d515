"""Accuracy against robustness, with what each point exposes of the long tail as its colour: a picture of trade-offs."""

import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
        for place, names in _by_place(points).items():
            axis.annotate(", ".join(names), place, xytext=(5, 4), textcoords="offset points", fontsize=7)
        axis.locator_params(axis="x", nbins=6)
        axis.margins(x=0.2)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.grid(alpha=0.3)
        figure.colorbar(shown, ax=axis, label="share of the long tail in the lists")
    words = f"{title}; thick edge: no other is better in all three"
    figure.suptitle(textwrap.fill(words, 75 * len(panels)), fontsize=10)
    canvas.save(path, figure)


def _by_place(points: Sequence[Point]) -> dict[tuple[float, float], list[str]]:
    """{(robustness, accuracy): names}; points that lie on each other share a label."""
    names: dict[tuple[float, float], list[str]] = {}
    for point in points:
        names.setdefault((round(point.robustness, 4), round(point.accuracy, 4)), []).append(point.name)
    return names
