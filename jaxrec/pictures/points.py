"""Points in several panels that share an axis: trade-offs."""

import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from jaxrec.pictures import canvas


class Point(NamedTuple):
    """A point: its values on the x axes, on the y axis, and whether it is filled."""

    x: tuple[float, ...]
    y: float
    filled: bool


def draw(
    path: pathlib.Path,
    series: Mapping[str, Sequence[Point]],
    *,
    x: Sequence[str],
    y: str,
    title: str,
    joined: Collection[str] = (),
) -> None:
    """Draws points as a PNG: a panel for each x axis.

    Args:
        series: {"GROUP, REST": its points}: a colour for each group, a marker for each rest.
        x, y: What stands at the axes.
        joined: Rests whose points are joined by lines, in their order.
    """
    plt = canvas.pyplot()
    groups = list(dict.fromkeys(name.partition(", ")[0] for name in series))
    rests = list(dict.fromkeys(name.partition(", ")[2] for name in series))
    markers, styles = ("*", "o", "s", "^", "D"), ("-.", "-", "--", ":")
    figure, axes = plt.subplots(1, len(x), figsize=(5.4 * len(x), 4.8), sharey=True, squeeze=False)
    for place, (axis, label) in enumerate(zip(axes[0], x, strict=True)):
        for name, its_points in series.items():
            group, _, rest = name.partition(", ")
            colour = canvas.COLOURS[groups.index(group) % len(canvas.COLOURS)]
            kind = rests.index(rest)
            marker, size = markers[kind % len(markers)], 11 if kind == 0 else 5
            xs, ys = [point.x[place] for point in its_points], [point.y for point in its_points]
            if rest in joined:
                axis.plot(xs, ys, linestyle=styles[kind % len(styles)], color=colour, linewidth=0.8)
            for point in its_points:
                fill = colour if point.filled else "white"
                axis.plot(point.x[place], point.y, marker, color=colour, markerfacecolor=fill, markersize=size)
            axis.plot([], [], marker, color=colour, label=name)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(y)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=len(groups) * 2, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    canvas.save(path, figure)
