"""What poisoning changed against its budget."""

import pathlib
from collections.abc import Sequence

from jaxrec.pictures import canvas
from jaxrec.records import Record


def draw(path: pathlib.Path, records: Sequence[Record], *, metric: str, k: int) -> None:
    """Draws a change that poisoning made against its budget as a PNG, with its intervals: a column of panels for each
    model, a row for each aim (the attacks' names are "NAME, AIM"), a line for each attack. Without a defence.
    """
    plt = canvas.pyplot()
    shown = [r for r in records if (r.metric, r.k) == (metric, k) and r.attack and not r.defence]
    models = list(dict.fromkeys(r.model for r in shown))
    named = {r.attack: r.attack.split(", ", 1) for r in shown if r.attack}
    aims = list(dict.fromkeys(aim for _, aim in named.values()))
    size = (2 + 2.4 * len(models), 1 + 2.1 * len(aims))
    figure, axes = plt.subplots(len(aims), len(models), figsize=size, sharex=True, sharey="row", squeeze=False)
    for row, aim in zip(axes, aims, strict=True):
        for axis, model in zip(row, models, strict=True):
            for attack, (name, other) in named.items():
                points = sorted(
                    (r for r in shown if (r.attack, r.model) == (attack, model)), key=lambda r: r.epsilon or 0
                )
                if other == aim and points:
                    x, y = [100 * (r.epsilon or 0) for r in points], [100 * r.value for r in points]
                    ends = [r.interval or (r.value, r.value) for r in points]
                    half = [50 * (high - low) for low, high in ends]
                    axis.errorbar([0, *x], [0, *y], [0, *half], marker="o", markersize=3, capsize=2, label=name)
            axis.axhline(0, color="#888888", linewidth=0.6)
            axis.grid(alpha=0.3)
            axis.set_title(f"{model}: {aim}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("fakes, % of users")
    for axis in axes[:, 0]:
        axis.set_ylabel(f"change of HR@{k}, points")
    axes[0][0].legend(fontsize=7)
    figure.suptitle(f"{records[0].dataset}: targets under poisoning", fontsize=10)
    figure.tight_layout()
    canvas.save(path, figure)
