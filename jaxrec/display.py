"""What a person watches and looks at: the progress of training, a table in the terminal, curves in a picture."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress
import rich.table

from jaxrec import results
from jaxrec.records import Record

console = rich.console.Console(stderr=True)


@contextlib.contextmanager
def progress(description: str, num_epochs: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A live bar of one training: epoch, loss parts, examples a second, time left. Yields `loop.fit`'s `report`."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        rich.progress.TextColumn("{task.fields[state]}"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=num_epochs, state="compiling")

        def report(line):
            parts = [f"{name.replace('_', ' ')} {line[name]:.4f}" for name in ("loss", "adv_loss") if name in line]
            parts.append(f"{line['examples_per_second'] / 1e6:.2f} M examples/s")
            bar.update(task, completed=line["epoch"], state=", ".join(parts))

        yield report


def say(text: str, *, style: str | None = None) -> None:
    """One line to a person, on stderr, so that stdout holds results alone."""
    console.print(text, style=style, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def counting(description: str, total: int) -> Iterator[Callable[[Any], None]]:
    """A live bar of work in `total` parts. Yields a function to call after each, with anything."""
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task(description, total=total)
        yield lambda _: bar.advance(task)


def records_table(records: Sequence[Record]) -> None:
    """Prints the first look at records to stdout, under what all of them share."""
    head = records[0]
    words, numbers, rows = results.first_look(records)
    made = rich.table.Table(
        title=f"{head.model} on {head.dataset}",
        caption=f"{head.protocol}; seeds {' '.join(map(str, head.seeds))}; 95 % intervals over "
        f"{'users' if len(head.seeds) == 1 else 'seeds'}; {head.device}; commit {head.commit}",
    )
    for name in words:
        made.add_column(name.replace("_", " "))
    for name in numbers:
        made.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        made.add_row(*row)
    terminal = rich.console.Console()
    (terminal if terminal.is_terminal else rich.console.Console(width=150)).print(made)


def curves(path: pathlib.Path, records: Sequence[Record], *, metric: str, k: int) -> None:
    """Draws a metric against epsilon as a PNG, with its intervals: a panel for each unit, a curve for each model and
    attack, all beginning at the clean value.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    of_metric = [r for r in records if (r.metric, r.k, r.chosen_by) == (metric, k, records[0].chosen_by)]
    units = [unit for unit in ("absolute", "relative") if any(r.epsilon_unit == unit for r in of_metric)]
    attacks = list(dict.fromkeys(r.attack for r in of_metric if r.attack))
    defences = list(dict.fromkeys(r.defence for r in of_metric))
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, which the colour-blind can tell apart
    styles = (":", "--", "-", "-.")
    figure, axes = plt.subplots(
        1, max(len(units), 1), figsize=(5.4 * max(len(units), 1), 4), sharey=True, squeeze=False
    )
    for axis, unit in zip(axes[0], units, strict=False):
        for defence, colour in zip(defences, colours, strict=False):
            for attack, style in zip(attacks, styles, strict=False):
                points = [
                    r
                    for r in of_metric
                    if r.defence == defence and (r.attack is None or (r.attack, r.epsilon_unit) == (attack, unit))
                ]
                points.sort(key=lambda r: r.epsilon or 0)
                x, y = [r.epsilon or 0 for r in points], [r.value for r in points]
                axis.plot(x, y, style, color=colour, marker="o", markersize=3, label=f"{defence or 'BPR'}, {attack}")
                if all(r.interval for r in points):
                    low, high = zip(*(r.interval for r in points if r.interval), strict=True)
                    axis.fill_between(x, low, high, color=colour, alpha=0.08, linewidth=0)
        axis.set_xlabel(
            "epsilon, absolute (L2 norm of a row)"
            if unit == "absolute"
            else "epsilon, relative (mean row norms, canonical gauge)"
        )
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
    axes[0][0].set_ylabel(f"{metric.upper()}@{k}")
    axes[0][0].legend(fontsize=8)
    figure.suptitle(f"{records[0].dataset}: {records[0].model} under attack", fontsize=10)
    figure.tight_layout()
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=150)
    part.replace(path)
    plt.close(figure)
