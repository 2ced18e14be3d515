"""What a board of defences found: its records, and out of these alone the board, as Markdown, CSV and a picture."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrec import display, files, provenance, records, results, robustness, splits, statistics, summaries
from jaxrec.pictures import frontier
from jaxrec.records import Record
from jaxrec.studies import board, board_exam, study

K = 10
NOT_HERE = "does not apply"
FLAG = "flag: "
NOISE = "noise"
LESS_PLAIN = ", less plain"
CLEAN = "clean"
INTERVALS = (
    "over users where a row has one seed",
    "over seeds and users where it has more (crossed bootstrap; below ten seeds no narrower than t over seeds)",
)
NORMS_ALONE = "norms alone: no gain at a relative epsilon"


def records_of(
    experiment: str,
    found: Mapping[str, Mapping[int, board_exam.Cell]],
    rows: Sequence[board.Row],
    data: study.Data,
) -> list[Record]:
    """For each row what `summaries.records_of` has, what it gains over the plain one, and what it cost.

    Args:
        found: From `board_exam.run`, with the plain row of each subject in it. Rows that are not there have no records,
            but for those that do not apply to these subjects.

    Returns:
        Of a clean model also `seconds` of training for each of the subject's epochs, `cost` (the same over the plain
        row's), `row_norms` (the largest ratio of a table's mean row norm to the plain row's), `settings_tried`, and
        `flag: NAME`, 1 where it tripped and 0 where not. `training` begins with the setting. A defence that does not
        apply to a model has one record, of the metric `does not apply`, whose `training` is the reason.
    """
    made = []
    for row in rows:
        common: dict[str, Any] = {
            "experiment": experiment, "model": row.subject.name, "dataset": data.title, "split": data.split_title,
            "defence": None if row.defence == board.PLAIN else row.defence, "protocol": robustness.PROTOCOL,
            "chosen_by": "last", "device": provenance.device(), "commit": provenance.commit(),
            "fingerprint": data.fingerprint["sha256"],
        }  # fmt: skip
        plain = found.get(f"{row.subject.name}/{board.PLAIN}")
        if plain is None:
            continue
        if row.reason is not None:
            made.append(_not_here(row.reason, common))
        elif row.name in found:
            made += _of_row(row, found[row.name], plain, data, common)
    return made


def _not_here(reason: str, common: Mapping[str, Any]) -> Record:
    fields: dict[str, Any] = {**records.NOBODY, **dict.fromkeys(("k", "interval", "step"))}
    fields |= {**common, "metric": NOT_HERE, "value": 1.0, "seeds": (0,), "users": 0, "training": reason}
    return Record(**fields)


def _of_row(
    row: board.Row,
    cells: Mapping[int, board_exam.Cell],
    plain: Mapping[int, board_exam.Cell],
    data: study.Data,
    common: Mapping[str, Any],
) -> list[Record]:
    """All records of a row that was measured."""
    seeds = [seed for seed in cells if seed in plain]
    abouts, first = [cells[seed].about for seed in seeds], cells[seeds[0]].about
    by_seed, base = ([of[seed].measured for seed in seeds] for of in (cells, plain))
    condition = lambda measured: (measured.attack, measured.unit, measured.epsilon)
    asked = {condition(measured) for measured in by_seed[0]}  # of a wrapped model nothing is certified
    base = [[measured for measured in of_seed if condition(measured) in asked] for of_seed in base]
    subject, tried = row.subject, [words for words in first["tried"] if words != first["setting"]]
    among = f", of {len(first['tried'])} tried ({', '.join(tried)}; by validation NDCG under attack)" if tried else ""
    words = f"{subject.start_epochs} epochs clean, then {subject.epochs}"
    made = summaries.records_of(
        by_seed,
        seeds=seeds,
        cutoffs=(K,),
        tail=splits.tail_items(data.split.train),
        surface="all tables of rows",
        gauge=first["gauge"],
        step=round(float(np.mean([about["step"] for about in abouts]))),
        training=f"{first['setting']}{among}; {words}; {subject.training}",
        **common,
    )
    if row.defence != board.PLAIN:
        made += summaries.gain_records(base, by_seed, made, k=K)
    ranked = {*summaries.RANKED, "ndcg_gain", "ndcg_gain_p"}
    certain = lambda record: record.attack == board_exam.CERTIFIED
    made = [
        _as_certified(each) if certain(each) else each for each in made if not certain(each) or each.metric in ranked
    ]
    return made + _of_training(made[0], abouts, [plain[seed].about for seed in seeds])


def _as_certified(record: Record) -> Record:
    return dataclasses.replace(record, oracle="each user's own, knows the held-out item")


def _of_training(like: Record, abouts: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]) -> list[Record]:
    """What a row's trainings cost and left: see `records_of`."""
    pairs = list(zip(abouts, plain, strict=True))
    plain_size = lambda other, name: other["sizes"][name.rpartition("/")[2]]  # of a member's table "MEMBER/NAME"
    ratio = lambda about, other: max(size / plain_size(other, name) for name, size in about["sizes"].items())
    values = {
        "seconds": [about["seconds"] for about in abouts],
        "cost": [about["seconds"] / other["seconds"] for about, other in pairs],
        "row_norms": [ratio(about, other) for about, other in pairs],
        "settings_tried": [float(len(about["tried"])) for about in abouts[:1]],
    }
    flags = [flag for about in abouts for flag in about["flags"] if flag["tripped"] is not None]
    values |= {f"{FLAG}{flag['name']}": [float(flag["tripped"])] for flag in flags}
    made = []
    for metric, of_seeds in values.items():
        summary = statistics.summary(np.asarray(of_seeds, np.float64))
        about = {"metric": metric, "value": summary.mean, "interval": summary.interval}
        made.append(dataclasses.replace(like, k=None, **about))
    return made


def heading(record: Record) -> str | None:
    """The column that a record stands in; None where the board leaves it out."""
    name = CLEAN
    if record.attack is not None:
        unit = " absolute" if record.epsilon_unit == "absolute" else ""
        name = f"{record.attack.partition(' (')[0]}, {record.epsilon:g}{unit}"
    if record.metric == "ndcg":
        return name
    if record.metric == "ndcg_gain" and record.attack not in (NOISE, board_exam.CERTIFIED):
        return name + LESS_PLAIN
    titles = {"long_tail_share": "tail share", "coverage": "coverage", "cost": "cost", "row_norms": "row norms"}
    return titles.get(record.metric) if record.attack is None else None


def by_row(found: Sequence[Record]) -> dict[tuple[str, str], dict[str, Record]]:
    """{(model, defence): {column: record}}, and by the metric's name what is in no column."""
    made: dict[tuple[str, str], dict[str, Record]] = {}
    for record in found:
        cells = made.setdefault((record.model, record.defence or board.PLAIN), {})
        cells[heading(record) or f"{record.attack} {record.metric}"] = record
    return made


def columns(found: Sequence[Record]) -> list[str]:
    """The columns in their order: clean, attacked and certified, less plain, exposure, cost."""
    there = list(dict.fromkeys(name for record in found if (name := heading(record))))
    gains = [name for name in there if name.endswith(LESS_PLAIN)]
    attacked = [name for name in there if "," in name and name not in gains]
    return [CLEAN, *attacked, *gains, *(name for name in there if name not in (CLEAN, *attacked, *gains))]


def table(found: Sequence[Record]) -> results.Table:
    """The board: a row for each model and defence, a column for each condition."""
    names, lines = columns(found), []
    for (model, defence), cells in by_row(found).items():
        first = next(iter(cells.values()))
        if first.metric == NOT_HERE:
            lines.append([model, defence, f"{NOT_HERE}: {first.training}", *[results.NONE] * (len(names) + 2)])
            continue
        setting = (first.training or "").partition(";")[0].partition(", of ")[0]
        values = [_cell(cells[name], name) if name in cells else results.NONE for name in names]
        lines.append([model, defence, setting, doubts(cells), *values, str(len(first.seeds))])
    return results.Table(["model", "defence", "setting", "doubts"], [*names, "seeds"], lines)


def _cell(record: Record, name: str) -> str:
    """A value; with its interval where rows are compared by it."""
    if name in ("cost", "row norms"):
        return f"{record.value:.2f}"
    if name.endswith(LESS_PLAIN) and record.interval is not None:
        return "{:+.4f} [{:+.4f}, {:+.4f}]".format(record.value, *record.interval)
    return f"{record.value:.4f}"


def doubts(cells: Mapping[str, Record]) -> str:
    """The flags that tripped, and whether a gain is one of norms: at an absolute epsilon and at no relative one."""
    flags = [each for each in cells.values() if each.metric.startswith(FLAG)]
    tripped = [each.metric.removeprefix(FLAG) for each in flags if each.value]
    gains = [each for name, each in cells.items() if name.endswith(LESS_PLAIN) and each.interval]
    gained = {each.epsilon_unit for each in gains if each.interval and each.interval[0] > 0}
    if "absolute" in gained and "relative" not in gained and any(each.epsilon_unit == "relative" for each in gains):
        tripped.append(NORMS_ALONE)
    return "; ".join(tripped) or (f"none of {len(flags)}" if flags else "not looked for")


def page(found: Sequence[Record]) -> str:
    """The board in Markdown, and how to read it."""
    head = next(record for record in found if record.metric != NOT_HERE)
    attacked = next(record for record in found if record.gradient_evaluations)
    seeds = sorted({len(record.seeds) for record in found if record.metric != NOT_HERE})
    there = seeds[0] == 1, seeds[-1] > 1
    intervals = " or ".join(words for words, some in zip(INTERVALS, there, strict=True) if some)
    notes = [
        f"NDCG@{K} of the test items of {head.users} random users: {head.protocol}.",
        f"Attacks are made anew against each final model, {attacked.attack} ({attacked.oracle}): one perturbation of "
        f"{attacked.surface} that all users share, chosen by the loss that is raised. Epsilon is a share of mean row "
        "norms, in the canonical gauge where a model has one, or absolute where that is said. Noise is the best of as "
        "many draws.",
        "Every row goes on from the same clean tables for as many epochs as the plain one, and tries as many settings, "
        "of which validation NDCG under attack chooses. Cost: seconds of training over the plain row's, a teacher's "
        "and all members' too; clean starts are left out. Epsilons of training are shares of the clean mean row "
        "norms, where the row says relative.",
        f"Less plain: paired with the plain row, 95 % intervals {intervals}, not corrected for the number of rows.",
        *([f"Rows have {', '.join(map(str, seeds))} seeds: levels compare only at equal seeds."] if seeds[1:] else []),
        "Doubts: flags of gradient masking that tripped in the first seed, of those looked for; and gains at an "
        "absolute epsilon that no relative one confirms. Row norms: the largest ratio of a table's mean to the plain "
        "row's.",
        f"{head.device}; commit {head.commit}; SHA-256 of the data {head.fingerprint[:16]}.",
    ]
    title = f"# Defences on one board: {head.dataset}"
    return "\n\n".join([title, results.markdown(table(found)), "\n".join(f"- {note}" for note in notes)]) + "\n"


def as_csv(found: Sequence[Record]) -> str:
    """The board's rows with every column's value and interval as plain numbers; an empty cell where there is none."""
    names, stream = columns(found), io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    words = ["model", "defence", "training", "doubts", "seeds"]
    writer.writerow([*words, *(f"{name}{end}" for name in names for end in ("", " low", " high"))])
    for (model, defence), cells in by_row(found).items():
        first = next(iter(cells.values()))
        applies = first.metric != NOT_HERE
        training = first.training if applies else f"{NOT_HERE}: {first.training}"
        line: list[Any] = [
            model,
            defence,
            training,
            doubts(cells) if applies else "",
            len(first.seeds) if applies else 0,
        ]
        for name in names:
            record = cells.get(name)
            line += ["", "", ""] if record is None else [record.value, *(record.interval or ("", ""))]
        writer.writerow(line)
    return stream.getvalue()


def points(found: Sequence[Record]) -> tuple[str, dict[str, list[frontier.Point]]]:
    """The column of the worst attack at the largest relative epsilon, and {model: a point for each defence}."""
    worst = [r for r in found if r.gradient_evaluations and r.metric == "ndcg" and r.epsilon_unit == "relative"]
    column = heading(max(worst, key=lambda record: record.epsilon or 0)) or ""
    made: dict[str, list[frontier.Point]] = {}
    for (model, defence), cells in by_row(found).items():
        if column in cells:
            values = [cells[name].value for name in (CLEAN, column, "tail share")]
            made.setdefault(model, []).append(frontier.Point(defence, *values))
    return column, made


def publish(path: pathlib.Path, found: Sequence[Record]) -> None:
    """Writes the records, their page and the board in a run's directory, and prints the board."""
    found = results.write(path, found)
    files.write_text(path / "board.md", page(found))
    files.write_text(path / "board.csv", as_csv(found))
    column, panels = points(found)
    title = f"{found[0].dataset}: NDCG@{K} of test items"
    frontier.draw(path / "frontier.png", panels, x=column, y=CLEAN, title=title)
    print(page(found))
    display.say(f"Everything lies in {path}/: board.md, board.csv, frontier.png, results.json, checkpoints/, measured/")
