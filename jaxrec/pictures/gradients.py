"""How near gradients come to the exact one, and what is gained by walking along them."""

import pathlib
from collections.abc import Mapping, Sequence

from jaxrec.pictures import canvas


def draw(
    path: pathlib.Path,
    cosines: Mapping[str, Sequence[float]],
    curves: Mapping[str, Mapping[float, float]],
    *,
    title: str,
) -> None:
    """Draws two panels as a PNG: each gradient's cosine with the exact one, a dot for each target; and by how many
    points the target's HR@50 rose, {name: {seconds: points}}."""
    plt = canvas.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    for place, values in enumerate(cosines.values()):
        left.plot(values, [place] * len(values), "o", color="tab:blue", alpha=0.7)
    left.set_yticks(range(len(cosines)), list(cosines))
    left.invert_yaxis()
    left.axvline(0, color="grey", linewidth=0.8)
    left.set_xlabel("cosine with the exact gradient of iALS (a dot for each target)")
    for name, points in curves.items():
        right.plot(list(points), list(points.values()), "o-", label=name)
    right.axhline(0, color="grey", linewidth=0.8)
    right.set_xlabel("CPU seconds of crafting")
    right.set_ylabel("target HR@50 of iALS trained anew, points gained")
    right.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    canvas.save(path, figure)
