"""Shares as a picture: a group of bars for each condition, a colour for each series, and their intervals."""

import pathlib
from collections.abc import Mapping

from jaxrec.pictures import canvas

Share = tuple[float, tuple[float, float] | None]  # value, and its interval if there is one


def draw(path: pathlib.Path, series: Mapping[str, Mapping[str, Share]], *, title: str) -> None:
    """Draws {series: {condition: share}} as a PNG, conditions in the order of the first series; names break at commas.

    Raises:
        ValueError: If there is no series, or two differ in their conditions.
    """
    conditions = list(next(iter(series.values()), ()))
    if not conditions or any(list(shares) != conditions for shares in series.values()):
        raise ValueError(f"Expected series of the same conditions, got {[list(shares) for shares in series.values()]}.")
    plt = canvas.pyplot()
    figure, axis = plt.subplots(figsize=(2 + 1.3 * len(conditions), 4), layout="constrained")
    width = 0.8 / len(series)
    for place, (name, shares) in enumerate(series.items()):
        x = [group + (place - (len(series) - 1) / 2) * width for group in range(len(conditions))]
        values = [value for value, _ in shares.values()]
        axis.bar(x, values, width, color=canvas.COLOURS[place % len(canvas.COLOURS)], label=name)
        for at, (value, interval) in zip(x, shares.values(), strict=True):
            axis.plot((at, at), interval or (value, value), color="black", linewidth=1)
            axis.text(at, max((value, *(interval or ()))) + 0.01, f"{value:.3f}", ha="center", va="bottom", fontsize=7)
    axis.set_xticks(range(len(conditions)), [name.replace(", ", ",\n") for name in conditions])
    axis.set_ylim(0, 1.08)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    canvas.save(path, figure)
