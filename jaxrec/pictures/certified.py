"""Certified, attacked and clean metrics against the number of fake users."""

import pathlib
from collections.abc import Sequence

from jaxrec import records
from jaxrec.pictures import canvas


def draw(path: pathlib.Path, found: Sequence[records.Record], *, num_users: int, certified: str) -> None:
    """Draws each metric against the number of fakes as a PNG: attacked and clean, with intervals, and by a thick line
    that of the attack named `certified`: of any."""
    plt = canvas.pyplot()
    metrics = list(dict.fromkeys(r.metric for r in found))
    attacks = list(dict.fromkeys(r.attack for r in found if r.attack))
    figure, axes = plt.subplots(1, len(metrics), figsize=(12, 3.9), layout="constrained")
    for axis, metric in zip(axes, metrics, strict=True):
        of_metric = [r for r in found if r.metric == metric]
        clean = next(r for r in of_metric if r.attack is None)
        axis.axhline(clean.value, color="black", linestyle=":", label="clean")
        for attack, colour, marker in zip(attacks, canvas.COLOURS, (None, "o", "s", "^", "D"), strict=False):
            points = [r for r in of_metric if r.attack == attack]
            x, y = [round((r.epsilon or 0) * num_users) for r in points], [r.value for r in points]
            axis.plot(
                x,
                y,
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=2 if attack == certified else 0.9,
                label=attack,
            )
            low, high = zip(*(r.interval or (r.value, r.value) for r in points), strict=True)
            axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.set_xlabel(f"fake users, beside {num_users} real ones")
        axis.set_ylabel(f"{metric}@{clean.k}")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{found[0].dataset}: {found[0].model}, {found[0].training}", fontsize=10)
    canvas.save(path, figure)
