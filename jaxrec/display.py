"""What a person watches and looks at: the progress of training, a table in the terminal, curves in a picture."""

import contextlib
import itertools
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import rich.console
import rich.progress
import rich.table
import rich.text

from jaxrec import results
from jaxrec.records import Record

# Okabe and Ito's, which the colour-blind can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

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
    styles = (":", "--", "-", "-.")
    figure, axes = plt.subplots(
        1, max(len(units), 1), figsize=(5.4 * max(len(units), 1), 4), sharey=True, squeeze=False
    )
    for axis, unit in zip(axes[0], units, strict=False):
        for defence, colour in zip(defences, itertools.cycle(COLOURS), strict=False):
            for attack, style in zip(attacks, itertools.cycle(styles), strict=False):
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
    save_figure(path, figure)


def forest(path: pathlib.Path, records: Sequence[Record], *, metric: str, k: int) -> None:
    """Draws a metric under each attack as a PNG, with its intervals: a panel for each budget, a colour for each model,
    a line where the clean model is. For many attacks at few epsilons.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    of_metric = [r for r in records if (r.metric, r.k) == (metric, k)]
    budgets = list(dict.fromkeys((r.epsilon, r.epsilon_unit) for r in of_metric if r.attack))
    attacks = list(dict.fromkeys(r.attack for r in of_metric if r.attack))
    defences = list(dict.fromkeys(r.defence for r in of_metric))
    figure, axes = plt.subplots(
        1, len(budgets), figsize=(2.6 + 3.4 * len(budgets), 1.2 + 0.26 * len(attacks)), sharey=True, squeeze=False
    )
    for axis, (epsilon, unit) in zip(axes[0], budgets, strict=True):
        for place, (defence, colour) in enumerate(zip(defences, itertools.cycle(COLOURS), strict=False)):
            of_model = [r for r in of_metric if r.defence == defence]
            shown = [r for r in of_model if r.attack and (r.epsilon, r.epsilon_unit) == (epsilon, unit)]
            y = [attacks.index(r.attack or "") + 0.16 * (place - (len(defences) - 1) / 2) for r in shown]
            for clean in (r for r in of_model if r.attack is None):
                axis.axvline(clean.value, color=colour, linewidth=0.8, linestyle=":")
            for height, r in zip(y, shown, strict=True):
                axis.plot(r.interval or (r.value, r.value), (height, height), color=colour, linewidth=1.2)
            axis.plot([r.value for r in shown], y, "os"[place % 2], color=colour, markersize=4, label=defence or "BPR")
        axis.set_title(f"epsilon {epsilon:g}, {unit}", fontsize=9)
        axis.set_xlabel(f"{metric.upper()}@{k}; dotted: clean")
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    axes[0][0].set_yticks(range(len(attacks)), attacks, fontsize=8)
    axes[0][0].invert_yaxis()
    figure.legend(*axes[0][0].get_legend_handles_labels(), fontsize=8, loc="lower left")
    figure.suptitle(f"{records[0].dataset}: {records[0].model} under attack", fontsize=10)
    figure.tight_layout()
    save_figure(path, figure)


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


def shares(path: pathlib.Path, records: Sequence[Record], *, metric: str) -> None:
    """Draws a share against epsilon as a PNG, with its intervals: a panel for each surface and unit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    of_metric = [record for record in records if record.metric == metric]
    surfaces = list(dict.fromkeys(record.surface for record in of_metric))
    units = list(dict.fromkeys(record.epsilon_unit for record in of_metric))
    attacks = list(dict.fromkeys(record.attack for record in of_metric))
    colours = ("#999999", *COLOURS)
    figure, axes = plt.subplots(
        len(surfaces), len(units), figsize=(5.4 * len(units), 3.6 * len(surfaces)), sharey=True, squeeze=False
    )
    for row, surface in zip(axes, surfaces, strict=True):
        for axis, unit in zip(row, units, strict=True):
            panel = [record for record in of_metric if (record.surface, record.epsilon_unit) == (surface, unit)]
            for number, attack in enumerate(attacks):
                points = sorted((r for r in panel if r.attack == attack), key=lambda record: record.epsilon or 0)
                x, y = [r.epsilon or 0 for r in points], [r.value for r in points]
                colour, style = colours[number % len(colours)], ("-", "--")[number // len(colours) % 2]
                axis.plot(x, y, style, color=colour, marker="o", markersize=3, label=attack)
                if all(r.interval for r in points):
                    low, high = zip(*(r.interval for r in points if r.interval), strict=True)
                    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.set_title(surface, fontsize=9)
            axis.set_xlabel(f"epsilon, {unit}")
            axis.set_ylim(0, 1.02)
            axis.grid(alpha=0.3)
        row[0].set_ylabel(metric.replace("_", " "))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=len(attacks), fontsize=8)
    figure.suptitle(f"{records[0].dataset}: {records[0].model} under attack", fontsize=10)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    save_figure(path, figure)


def poisoning(path: pathlib.Path, records: Sequence[Record], *, metric: str, k: int) -> None:
    """Draws a change that poisoning made against its budget as a PNG, with its intervals: a column of panels for each
    model, a row for each aim (the attacks' names are "NAME, AIM"), a line for each attack. Without a defence.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

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
    save_figure(path, figure)


class Point(NamedTuple):
    """A point of `points`: its values on the x axes, on the y axis, and whether it is filled."""

    x: tuple[float, ...]
    y: float
    filled: bool


def points(
    path: pathlib.Path,
    series: Mapping[str, Sequence[Point]],
    *,
    x: Sequence[str],
    y: str,
    title: str,
    joined: Collection[str] = (),
) -> None:
    """Draws points as a PNG: a panel for each x axis.

    Args:
        series: {"GROUP, REST": its points}: a colour for each group, a marker for each rest.
        x, y: What stands at the axes.
        joined: Rests whose points are joined by lines, in their order.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys(name.partition(", ")[0] for name in series))
    rests = list(dict.fromkeys(name.partition(", ")[2] for name in series))
    markers, styles = ("*", "o", "s", "^", "D"), ("-.", "-", "--", ":")
    figure, axes = plt.subplots(1, len(x), figsize=(5.4 * len(x), 4.8), sharey=True, squeeze=False)
    for place, (axis, label) in enumerate(zip(axes[0], x, strict=True)):
        for name, its_points in series.items():
            group, _, rest = name.partition(", ")
            colour = COLOURS[groups.index(group) % len(COLOURS)]
            kind = rests.index(rest)
            marker, size = markers[kind % len(markers)], 11 if kind == 0 else 5
            xs, ys = [point.x[place] for point in its_points], [point.y for point in its_points]
            if rest in joined:
                axis.plot(xs, ys, linestyle=styles[kind % len(styles)], color=colour, linewidth=0.8)
            for point in its_points:
                fill = colour if point.filled else "white"
                axis.plot(point.x[place], point.y, marker, color=colour, markerfacecolor=fill, markersize=size)
            axis.plot([], [], marker, color=colour, label=name)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(y)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=len(groups) * 2, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    save_figure(path, figure)


def learning_curves(
    path: pathlib.Path, curves: Mapping[str, Sequence[tuple[int, float]]], *, title: str, label: str
) -> None:
    """Draws what validation saw of trainings against their epochs as a PNG, a curve each, its best point marked.

    Args:
        curves: {name: (epochs, value) in order}.
        title, label: Above, and at the y axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    looks = itertools.product(("-", "--", ":"), COLOURS)
    figure, axis = plt.subplots(figsize=(7.5, 4.8))
    for (name, points), (style, colour) in zip(curves.items(), looks, strict=False):
        epochs, values = zip(*points, strict=True)
        axis.plot(epochs, values, style, color=colour, marker=".", markersize=4, linewidth=1.2, label=name)
        best = max(range(len(values)), key=values.__getitem__)
        axis.plot(epochs[best], values[best], "o", color=colour, markersize=7)
    axis.set_xlabel("epochs")
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    save_figure(path, figure)


def brittleness(path: pathlib.Path, records: Sequence[Record], *, attacks: Sequence[str]) -> None:
    """Draws what attacks leave of each model as a PNG: a panel for NDCG@10 and one for the clean lists at each epsilon,
    a line for each model, with its clean value and that under each attack, the most brittle below.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

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
    save_figure(path, figure)


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


def save_figure(path: pathlib.Path, figure: Any) -> None:
    """Writes a figure as a PNG, whole or not at all."""
    import matplotlib.pyplot as plt

    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=150)
    part.replace(path)
    plt.close(figure)
