"""What validation saw of trainings, epoch by epoch."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence

from jaxrec.pictures import canvas


def draw(path: pathlib.Path, curves: Mapping[str, Sequence[tuple[int, float]]], *, title: str, label: str) -> None:
    """Draws what validation saw of trainings against their epochs as a PNG, a curve each, its best point marked.

    Args:
        curves: {name: (epochs, value) in order}.
        title, label: Above, and at the y axis.
    """
    plt = canvas.pyplot()
    looks = itertools.product(("-", "--", ":"), canvas.COLOURS)
    figure, axis = plt.subplots(figsize=(7.5, 4.8))
    for (name, points), (style, colour) in zip(curves.items(), looks, strict=False):
        epochs, values = zip(*points, strict=True)
        axis.plot(epochs, values, style, color=colour, marker=".", markersize=4, linewidth=1.2, label=name)
        best = max(range(len(values)), key=values.__getitem__)
        axis.plot(epochs[best], values[best], "o", color=colour, markersize=7)
    axis.set_xlabel("epochs")
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    canvas.save(path, figure)
