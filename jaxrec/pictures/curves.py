"""A metric against epsilon: robustness curves."""

import itertools
import pathlib
from collections.abc import Sequence

from jaxrec.pictures import canvas
from jaxrec.records import Record


def draw(path: pathlib.Path, records: Sequence[Record], *, metric: str, k: int) -> None:
    """Draws a metric against epsilon as a PNG, with its intervals: a panel for each unit, a curve for each model and
    attack, all beginning at the clean value.
    """
    plt = canvas.pyplot()
    of_metric = [r for r in records if (r.metric, r.k, r.chosen_by) == (metric, k, records[0].chosen_by)]
    units = [unit for unit in ("absolute", "relative") if any(r.epsilon_unit == unit for r in of_metric)]
    attacks = list(dict.fromkeys(r.attack for r in of_metric if r.attack))
    defences = list(dict.fromkeys(r.defence for r in of_metric))
    styles = (":", "--", "-", "-.")
    figure, axes = plt.subplots(
        1, max(len(units), 1), figsize=(5.4 * max(len(units), 1), 4), sharey=True, squeeze=False
    )
    for axis, unit in zip(axes[0], units, strict=False):
        for defence, colour in zip(defences, itertools.cycle(canvas.COLOURS), strict=False):
            for attack, style in zip(attacks, itertools.cycle(styles), strict=False):
                points = [
                    r
                    for r in of_metric
                    if r.defence == defence and (r.attack is None or (r.attack, r.epsilon_unit) == (attack, unit))
                ]
                points.sort(key=lambda r: r.epsilon or 0)
                x, y = [r.epsilon or 0 for r in points], [r.value for r in points]
                axis.plot(x, y, style, color=colour, marker="o", markersize=3, label=f"{defence or 'BPR'}, {attack}")
                if all(r.interval for r in points):
                    low, high = zip(*(r.interval for r in points if r.interval), strict=True)
                    axis.fill_between(x, low, high, color=colour, alpha=0.08, linewidth=0)
        axis.set_xlabel(
            "epsilon, absolute (L2 norm of a row)"
            if unit == "absolute"
            else "epsilon, relative (mean row norms, canonical gauge)"
        )
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
    axes[0][0].set_ylabel(f"{metric.upper()}@{k}")
    axes[0][0].legend(fontsize=8)
    figure.suptitle(f"{records[0].dataset}: {records[0].model} under attack", fontsize=10)
    figure.tight_layout()
    canvas.save(path, figure)
