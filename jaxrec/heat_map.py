"""A grid of differences as a picture: better in blue, worse in red, each cell with its number."""

import pathlib
from collections.abc import Sequence

import numpy as np


def draw(path: pathlib.Path, values: np.ndarray, *, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """Draws values [rows, columns] as a PNG, on a scale that is symmetric about 0."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(2.5 + 1.3 * len(columns), 1.6 + 0.5 * len(rows)))
    most = float(np.abs(values).max()) or 1.0
    axis.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    for (row, column), value in np.ndenumerate(values):
        dark = abs(value) > 0.6 * most
        axis.text(column, row, f"{value:+.4f}", ha="center", va="center", color="white" if dark else "black")
    axis.set_title(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
