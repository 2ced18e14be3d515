"""What pictures are drawn on: matplotlib without a screen, colours, and a file that is there whole or not at all."""

import pathlib
from typing import Any

from jaxrec import files

# Okabe and Ito's, which the colour-blind can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def pyplot() -> Any:
    """matplotlib's, which draws into files; imported when something is drawn, as it is slow to load and an extra."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def save(path: pathlib.Path, figure: Any) -> None:
    """Writes a figure as a PNG, whole or not at all, and closes it."""
    with files.whole(path) as file:
        figure.savefig(file, format="png", dpi=150)
    pyplot().close(figure)
