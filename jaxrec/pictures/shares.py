"""Shares against a budget."""

import pathlib
from collections.abc import Sequence

from jaxrec.pictures import canvas
from jaxrec.records import Record


def draw(path: pathlib.Path, records: Sequence[Record], *, metric: str) -> None:
    """Draws a share against epsilon as a PNG, with its intervals: a panel for each surface and unit."""
    plt = canvas.pyplot()
    of_metric = [record for record in records if record.metric == metric]
    surfaces = list(dict.fromkeys(record.surface for record in of_metric))
    units = list(dict.fromkeys(record.epsilon_unit for record in of_metric))
    attacks = list(dict.fromkeys(record.attack for record in of_metric))
    colours = ("#999999", *canvas.COLOURS)
    figure, axes = plt.subplots(
        len(surfaces), len(units), figsize=(5.4 * len(units), 3.6 * len(surfaces)), sharey=True, squeeze=False
    )
    for row, surface in zip(axes, surfaces, strict=True):
        for axis, unit in zip(row, units, strict=True):
            panel = [record for record in of_metric if (record.surface, record.epsilon_unit) == (surface, unit)]
            for number, attack in enumerate(attacks):
                points = sorted((r for r in panel if r.attack == attack), key=lambda record: record.epsilon or 0)
                x, y = [r.epsilon or 0 for r in points], [r.value for r in points]
                colour, style = colours[number % len(colours)], ("-", "--")[number // len(colours) % 2]
                axis.plot(x, y, style, color=colour, marker="o", markersize=3, label=attack)
                if all(r.interval for r in points):
                    low, high = zip(*(r.interval for r in points if r.interval), strict=True)
                    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.set_title(surface, fontsize=9)
            axis.set_xlabel(f"epsilon, {unit}")
            axis.set_ylim(0, 1.02)
            axis.grid(alpha=0.3)
        row[0].set_ylabel(metric.replace("_", " "))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=len(attacks), fontsize=8)
    figure.suptitle(f"{records[0].dataset}: {records[0].model} under attack", fontsize=10)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    canvas.save(path, figure)
