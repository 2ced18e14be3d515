"""How much of its clean value each model keeps under attack."""

import pathlib
from collections.abc import Sequence

from jaxrec.pictures import canvas
from jaxrec.records import Record


def draw(path: pathlib.Path, records: Sequence[Record], *, attacks: Sequence[str]) -> None:
    """Draws what attacks leave of each model as a PNG: a panel for NDCG@10 and one for the clean lists at each epsilon,
    a line for each model, with its clean value and that under each attack, the most brittle below.
    """
    plt = canvas.pyplot()
    epsilons = sorted({r.epsilon for r in records if r.epsilon is not None})
    value = {(r.model, r.metric, r.attack, r.epsilon): r.value for r in records}
    left = lambda model: value[model, "list_overlap", attacks[-1], epsilons[-1]]
    models = sorted(dict.fromkeys(r.model for r in records), key=left)
    panels = [(metric, epsilon) for metric in ("ndcg", "list_overlap") for epsilon in epsilons]
    size = (3.2 * len(panels), 1.2 + 0.32 * len(models))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (metric, epsilon) in zip(axes[0], panels, strict=True):
        for attack, marker, colour in ((None, "|", "black"), *zip(attacks, "oX", ("#999999", "#d55e00"), strict=False)):
            of_clean = attack is None
            x = [value[model, metric, attack, None if of_clean else epsilon] for model in models]
            axis.plot(x, range(len(models)), marker, color=colour, label=attack or "clean", linestyle="none")
        axis.set_title(
            f"{'NDCG@10' if metric == 'ndcg' else 'share of the clean list'}, epsilon {epsilon:g}", fontsize=9
        )
        axis.set_yticks(range(len(models)), models, fontsize=8)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    canvas.save(path, figure)
