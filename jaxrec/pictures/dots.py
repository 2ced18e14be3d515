"""Values with intervals, a row for each condition and a colour for each series: a dot plot."""

import pathlib
from collections.abc import Mapping

from jaxrec.pictures import canvas

Dot = tuple[float, tuple[float, float]]  # value, and its interval


def draw(path: pathlib.Path, panels: Mapping[str, Mapping[str, Mapping[str, Dot]]], *, x: str, title: str) -> None:
    """Draws {panel: {series: {row: dot}}} as a PNG, the panels side by side, with a line at 0.

    Rows are those of all panels in the order in which they come first; one that a series has not is left out there.
    """
    plt = canvas.pyplot()
    rows = list(dict.fromkeys(row for panel in panels.values() for dots in panel.values() for row in dots))
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    size = (2.5 + 4.8 * len(panels), 1.5 + 0.5 * len(rows))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, (above, panel) in zip(axes[0], panels.items(), strict=True):
        for name, dots in panel.items():
            place = names.index(name)
            shift = 0.6 * ((place + 0.5) / len(names) - 0.5)
            values, heights = [value for value, _ in dots.values()], [rows.index(row) + shift for row in dots]
            below = [value - low for value, (low, _) in dots.values()]
            over = [high - value for value, (_, high) in dots.values()]
            look = {"color": canvas.COLOURS[place % len(canvas.COLOURS)], "fmt": "o", "markersize": 4, "capsize": 2}
            axis.errorbar(values, heights, xerr=(below, over), label=name, **look)
        axis.axvline(0, color="#888888", linewidth=0.6)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(above, fontsize=10)
        axis.set_xlabel(x)
    axes[0][0].set_yticks(range(len(rows)), rows)
    axes[0][0].invert_yaxis()
    axes[0][-1].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    canvas.save(path, figure)
