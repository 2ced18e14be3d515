"""What a table of models found: its records, the page beside published figures, and the end of an experiment's main."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrec import bench, display, exposure, files, provenance, records, results, run_directory, splits, summaries
from jaxrec.pictures import learning_curves
from jaxrec.studies import model_table, study
from jaxrec.types import InputError, Interactions


def records_of(
    table: Mapping[str, Sequence[model_table.Cell]],
    rows: Sequence[model_table.Row],
    data: study.Data,
    on: bench.Bench,
    *,
    seeds: Sequence[int],
    experiment: str,
    exposures: Mapping[str, Callable[[np.ndarray], float]],
) -> list[records.Record]:
    """A record for each row and metric; of one seed the interval is over users, of several over seeds.

    Args:
        exposures: {metric: lists -> value}, of the first `list_length` items: coverage, diversity and the like.
    """
    common: dict[str, Any] = {
        "experiment": experiment, "defence": None, "dataset": data.title, "split": data.split_title,
        "protocol": on.protocol, "device": provenance.device(),
        "commit": provenance.commit(), "fingerprint": data.fingerprint["sha256"],
        **records.NOBODY,
    }  # fmt: skip
    made = []
    for row in rows:
        cells = table[row.name]
        steps = [cell.step for cell in cells if cell.step is not None]
        epochs = f"; {round(np.mean([cell.epochs for cell in cells]))} epochs" if steps else ""
        pairs = "" if row.epochs in ("best", "last") else "; on train and validation"
        fields = common | {
            "model": row.name, "training": f"{row.training}{epochs}{pairs}",
            "chosen_by": model_table.chosen_by(row),
            "seeds": tuple(model_table.seeds_of(row, seeds)), "users": len(cells[0].measured.ranks),
            "step": round(float(np.mean(steps))) if steps else None,
        }  # fmt: skip
        for name, cutoffs in on.cutoffs.items():
            for k in cutoffs:
                values = np.stack(
                    [model_table.METRICS[name](cell.measured.ranks, k, on.test.num_ranked) for cell in cells]
                )
                made.append(summaries.of_users(values, metric=name, k=k, **fields))
        for name, of_lists in exposures.items():
            values = [of_lists(cell.measured.lists) for cell in cells]
            made.append(summaries.of_seeds(values, metric=name, k=on.test.list_length, **fields))
        made.append(summaries.of_seeds([cell.seconds for cell in cells], metric="seconds", k=None, **fields))
    return made


def exposures(train: Interactions) -> dict[str, Callable[[np.ndarray], float]]:
    """What lists expose: the share of the catalogue, and of the long tail."""
    tail = splits.tail_items(train)
    return {
        "coverage": lambda lists: exposure.coverage(lists, train.num_items),
        "long_tail_share": lambda lists: float(exposure.long_tail_share(lists, tail).mean()),
    }


def write(
    path: pathlib.Path, found: Sequence[records.Record], published: Mapping[str, Mapping[str, float]] = {}
) -> None:
    """Writes results.json, results.md, and beside_published.md where there are published figures.

    Args:
        published: {row: {"ndcg@10": value}}.
    """
    found = results.write(path, found)
    if published:
        files.write_text(path / "beside_published.md", beside(found, published))


def beside(found: Sequence[records.Record], published: Mapping[str, Mapping[str, float]]) -> str:
    """Our figures beside published ones, in Markdown: ours with its interval, then theirs, then the difference."""
    names = list(dict.fromkeys(name for figures in published.values() for name in figures))
    ours = {(r.model, f"{r.metric}@{r.k}"): r for r in found}
    lines = ["| model | " + " | ".join(f"{name} | published | difference" for name in names) + " |"]
    lines.append("|---" * (1 + 3 * len(names)) + "|")
    for model in dict.fromkeys(r.model for r in found):
        cells = []
        for name in names:
            record, theirs = ours.get((model, name)), published.get(model, {}).get(name)
            cells.append("-" if record is None else results.cell_of(record))
            cells.append("-" if theirs is None else f"{theirs:.3f}")
            cells.append("-" if record is None or theirs is None else f"{record.value - theirs:+.3f}")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def execute(
    experiment: str,
    config: Any,
    data: study.Data,
    on: bench.Bench,
    rows: Sequence[model_table.Row],
    *,
    published: Mapping[str, Mapping[str, float]] = {},
    more_exposures: Mapping[str, Callable[[np.ndarray], float]] = {},
) -> None:
    """What the `main` of a table does once its parts are there: run, record, write, print.

    Args:
        config: With `seed`, `num_seeds`, `run_dir` and `rows`, the names of the rows that are wanted (none: all); it
            may have `reuse`, a run whose trainings are taken over.
    """
    wanted = [row for row in rows if not config.rows or row.name in config.rows]
    if unknown := sorted(set(config.rows) - {row.name for row in rows}):
        raise InputError(f"Expected --rows of {', '.join(row.name for row in rows)}; got {', '.join(unknown)}.")
    seeds = range(config.seed, config.seed + config.num_seeds)
    path = config.run_dir or study.run_path(experiment, data, config, may_change=model_table.MAY_CHANGE)
    with run_directory.open_run(path, config, data.fingerprint, may_change=model_table.MAY_CHANGE):
        if getattr(config, "reuse", None) is not None:
            model_table.reuse(config.reuse, path)
        table = model_table.run(path, wanted, on, seeds=seeds)
        found = records_of(
            table,
            model_table.chosen(path, wanted, on, seeds[0]),
            data,
            on,
            seeds=seeds,
            experiment=experiment,
            exposures={**exposures(data.split.train), **more_exposures},
        )
        write(path, found, published)
        if curves := model_table.learning_curves(path, wanted, on, seeds[0]):
            metric, cutoffs = next(iter(on.cutoffs.items()))
            title = f"{data.title}, validation items, seed {seeds[0]}"
            learning_curves.draw(path / "curves.png", curves, title=title, label=f"{metric.upper()}@{cutoffs[0]}")
        display.records_table(found)
        drawn = "curves.png, " if curves else ""
        display.say(f"Everything lies in {path}/: results.md, results.json, {drawn}logs/, checkpoints/, measured/")
