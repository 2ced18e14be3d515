"""A metric under each attack with its intervals, side by side: a forest plot."""

import itertools
import pathlib
from collections.abc import Sequence

from jaxrec.pictures import canvas
from jaxrec.records import Record


def draw(path: pathlib.Path, records: Sequence[Record], *, metric: str, k: int) -> None:
    """Draws a metric under each attack as a PNG, with its intervals: a panel for each budget, a colour for each model,
    a line where the clean model is. For many attacks at few epsilons.
    """
    plt = canvas.pyplot()
    of_metric = [r for r in records if (r.metric, r.k) == (metric, k)]
    budgets = list(dict.fromkeys((r.epsilon, r.epsilon_unit) for r in of_metric if r.attack))
    attacks = list(dict.fromkeys(r.attack for r in of_metric if r.attack))
    defences = list(dict.fromkeys(r.defence for r in of_metric))
    figure, axes = plt.subplots(
        1, len(budgets), figsize=(2.6 + 3.4 * len(budgets), 1.2 + 0.26 * len(attacks)), sharey=True, squeeze=False
    )
    for axis, (epsilon, unit) in zip(axes[0], budgets, strict=True):
        for place, (defence, colour) in enumerate(zip(defences, itertools.cycle(canvas.COLOURS), strict=False)):
            of_model = [r for r in of_metric if r.defence == defence]
            shown = [r for r in of_model if r.attack and (r.epsilon, r.epsilon_unit) == (epsilon, unit)]
            y = [attacks.index(r.attack or "") + 0.16 * (place - (len(defences) - 1) / 2) for r in shown]
            for clean in (r for r in of_model if r.attack is None):
                axis.axvline(clean.value, color=colour, linewidth=0.8, linestyle=":")
            for height, r in zip(y, shown, strict=True):
                axis.plot(r.interval or (r.value, r.value), (height, height), color=colour, linewidth=1.2)
            axis.plot([r.value for r in shown], y, "os"[place % 2], color=colour, markersize=4, label=defence or "BPR")
        axis.set_title(f"epsilon {epsilon:g}, {unit}", fontsize=9)
        axis.set_xlabel(f"{metric.upper()}@{k}; dotted: clean")
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    axes[0][0].set_yticks(range(len(attacks)), attacks, fontsize=8)
    axes[0][0].invert_yaxis()
    figure.legend(*axes[0][0].get_legend_handles_labels(), fontsize=8, loc="lower left")
    figure.suptitle(f"{records[0].dataset}: {records[0].model} under attack", fontsize=10)
    figure.tight_layout()
    canvas.save(path, figure)
