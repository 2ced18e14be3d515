"""What filters of texts keep against the number of words that are edited."""

import pathlib
from collections.abc import Sequence

from jaxrec import records
from jaxrec.pictures import canvas


def draw(path: pathlib.Path, found: Sequence[records.Record], *, metrics: Sequence[str]) -> None:
    """Draws metrics against the number of edits as a PNG: a panel each, a colour a filter, a line style a threat."""
    plt = canvas.pyplot()
    filters = list(dict.fromkeys((r.model, r.defence) for r in found))
    threats = list(dict.fromkeys(r.attack for r in found if r.attack))
    figure, axes = plt.subplots(1, len(metrics), figsize=(4.4 * len(metrics), 4.4), squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for number, one in enumerate(filters):
            of_filter = [r for r in found if (r.model, r.defence, r.metric) == (*one, metric)]
            for style, threat in zip(("-", "--", ":", "-."), threats, strict=False):
                points = [r for r in of_filter if r.attack in (None, threat)]
                if len(points) > 1:
                    x, y = [r.epsilon or 0 for r in points], [r.value for r in points]
                    half = [r.interval[1] - r.value if r.interval else 0 for r in points]
                    label = f"{', '.join(filter(None, one))}: {threat}"
                    colour = canvas.COLOURS[number % len(canvas.COLOURS)]
                    axis.errorbar(
                        x, y, half, linestyle=style, color=colour, marker="o", markersize=3, capsize=2, label=label
                    )
        axis.set_xlabel("words edited")
        axis.set_title(metric.replace("_", " "), fontsize=9)
        axis.set_ylim(-0.02, 1.02)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=2, fontsize=7)
    figure.suptitle(f"{found[0].dataset}: filters, their positive texts edited to pass", fontsize=10)
    figure.tight_layout(rect=(0, 0.05 * -(-len(filters) * len(threats) // 4) + 0.03, 1, 1))
    canvas.save(path, figure)
