"""A grid of differences as a picture: better in blue, worse in red, each cell with its number."""

import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np

from jaxrec.pictures import canvas


def draw(path: pathlib.Path, values: np.ndarray, *, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """Draws values [rows, columns] as a PNG, on a scale that is symmetric about 0; names break at their commas."""
    plt = canvas.pyplot()
    figure, axis = plt.subplots(figsize=(3 + 1.5 * len(columns), 1.8 + 0.5 * len(rows)), layout="constrained")
    most = float(np.abs(values).max()) or 1.0
    axis.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    axis.set_xticks(range(len(columns)), [name.replace(", ", "\n") for name in columns])
    axis.set_yticks(range(len(rows)), rows)
    for (row, column), value in np.ndenumerate(values):
        dark = abs(value) > 0.6 * most
        axis.text(column, row, f"{value:+.4f}", ha="center", va="center", color="white" if dark else "black")
    figure.suptitle(textwrap.fill(title, 22 + 16 * len(columns)), fontsize=10)
    canvas.save(path, figure)
