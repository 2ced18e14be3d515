"""What a person watches in the terminal: the progress of training, words, tables. Pictures are in `jaxrec.pictures`."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress
import rich.table
import rich.text

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


def records_table(
    records: Sequence[Record],
    look: Callable[[Sequence[Record]], results.Table] = results.first_look,
    *,
    units: str = "users",
) -> None:
    """Prints a look at records (the first, of rankings, by default) to stdout, under what all of them share.

    Intervals of one seed are over `units`.
    """
    head = records[0]
    words, numbers, rows = look(records)
    made = rich.table.Table(
        title=f"{head.model if len({r.model for r in records}) == 1 else head.experiment} on {head.dataset}",
        caption=f"{head.protocol}; seeds {' '.join(map(str, head.seeds))}; 95 % intervals over "
        f"{units if len(head.seeds) == 1 else 'seeds'}; {head.device}; commit {head.commit}",
    )
    for name in words:
        made.add_column(name.replace("_", " "))
    for name in numbers:
        made.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        made.add_row(*row)
    _print(made)


def comparisons(compared: Sequence[Record]) -> None:
    """Prints the comparisons of `attack_tables.declared_records` to stdout."""
    by_name = {(r.defence, r.attack, r.epsilon, r.epsilon_unit, r.metric): r for r in compared}
    made = rich.table.Table(title="Declared before: NDCG of the first less that of the second")
    for name in ("model", "epsilon", "first", "second", "difference", "p", "Holm p"):
        made.add_column(name)
    for (defence, attack, epsilon, unit, metric), record in by_name.items():
        if not metric.endswith("_p"):
            ends = ("_p", "_holm_p")
            p_value, holm = (by_name[defence, attack, epsilon, unit, f"{metric}{end}"].value for end in ends)
            low, high = record.interval or (record.value, record.value)
            made.add_row(
                record.defence or "BPR",
                f"{record.epsilon:g} {record.epsilon_unit}",
                record.attack,
                metric.removeprefix("ndcg_less_"),
                f"{record.value:+.4f} [{low:+.4f}, {high:+.4f}]",
                f"{p_value:.4f}",
                f"{holm:.3f}",
            )
    _print(made)


def recommendations(title: str, found: Mapping[str, Any]) -> None:
    """Prints a list of recommended items, as `experiments.recommend` writes it, to stdout."""
    words = lambda parts: "; ".join(f"{name} ({weight:.3g})" for name, weight in parts)
    marked = any(item["held_out"] for item in found["items"])
    made = rich.table.Table()
    for heading in ("", "item"):
        made.add_column(heading)
    made.add_column("score", justify="right")
    because, features = (any(item.get(name) for item in found["items"]) for name in ("because", "features"))
    if because:
        made.add_column(f"because of ({found['why']})")
    if features:
        made.add_column("features (gradient x input)")
    for place, item in enumerate(found["items"], start=1):
        cells = [str(place), f"{item['title']}{' *' if item['held_out'] else ''}", f"{item['score']:.4g}"]
        cells += [words((reason["title"], reason["weight"]) for reason in item["because"])] if because else []
        cells += [words(item["features"].items())] if features else []
        made.add_row(*map(rich.text.Text, cells))  # not strings: brackets in a title are no markup
    print(f"{title}; {found['known_items']} known items are left out{'; *: held out for the test' if marked else ''}")
    _print(made)


def _print(table: rich.table.Table) -> None:
    """A table on stdout, wide where nobody's terminal says otherwise."""
    terminal = rich.console.Console()
    (terminal if terminal.is_terminal else rich.console.Console(width=150)).print(table)
