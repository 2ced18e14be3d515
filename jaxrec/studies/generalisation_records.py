"""What `generalisation_study` has found, as records, as a page of two tables, and as two pictures."""

import pathlib
from collections.abc import Sequence
from typing import Any

from jaxrec import display, files, provenance, records, results
from jaxrec.pictures import bars
from jaxrec.records import Record
from jaxrec.studies import poison_records
from jaxrec.studies.generalisation_study import HARDENED, OVERSAMPLED, PLAIN, SEEN, UNSEEN, Setting, path_of

CHANGE = f"{HARDENED} less {OVERSAMPLED}"


def publish(directory: pathlib.Path, setting: Setting, *, seeds: Sequence[int], experiment: str) -> None:
    """Writes the records, both pages and the pictures into the directory of `generalisation_study.run`."""
    found = results.write(directory, records_of(directory, setting, seeds=seeds, experiment=experiment))
    files.write_text(directory / "detectors.md", page(found, setting))
    of = {(r.model, r.defence, r.attack): (r.value, r.interval) for r in found if r.metric == "recall"}
    learned = [(name, what) for name in setting.estimators for what in (UNSEEN, SEEN)]
    series = {f"{name}, {what}": {kind: of[name, what, kind] for kind in setting.tested} for name, what in learned}
    bars.draw(directory / "unseen.png", series, title=f"{setting.data.title}: recall by what detectors learned from")
    bars.draw(
        directory / "hardened.png",
        {
            regime: {
                f"{name}, {attack} fakes": of[name, regime, key]
                for name in setting.estimators
                for attack, key in ((PLAIN, PLAIN), ("adaptive", f"{setting.start}, adaptive"))
            }
            for regime in (PLAIN, OVERSAMPLED, HARDENED)
        },
        title=f"{setting.data.title}: recall of detectors by what they learned from",
    )
    display.say((directory / "detectors.md").read_text())
    display.say(f"Everything lies in {directory}/: detectors.md, results.md, results.json, unseen.png, hardened.png")


def records_of(directory: pathlib.Path, setting: Setting, *, seeds: Sequence[int], experiment: str) -> list[Record]:
    """A record of every figure, and what hardening changed against oversampling, of pairs of one seed."""
    common: dict[str, Any] = {
        "dataset": setting.data.title, "split": setting.data.split_title, "experiment": experiment,
        "fingerprint": setting.data.fingerprint["sha256"], "device": provenance.device(),
        "commit": provenance.commit(), "step": None, "seeds": tuple(seeds), "training": None,
        "users": setting.known.num_users, "chosen_by": None,
        "protocol": f"threshold: what {setting.rate:.0%} of the users exceed before the attack; defence: what the "
        f"detector learned from; push: change of the targets' HR@{setting.cutoff} in EASE",
    }  # fmt: skip
    adversary = {"surface": "fake users", "epsilon_unit": "of users"}
    adversary |= {"epsilon": setting.num_fakes / setting.known.num_users}
    found = {}
    for cell in (*setting.tested, *setting.estimators):
        for rows in zip(*(files.read_json(path_of(directory, cell, seed)) for seed in seeds), strict=True):
            found[rows[0]["model"], rows[0]["learned"], rows[0]["attack"]] = [row["figures"] for row in rows]
    for name in setting.estimators:
        for attack in (PLAIN, f"{setting.start}, adaptive"):
            pairs = zip(*(found[name, regime, attack] for regime in (HARDENED, OVERSAMPLED)), strict=True)
            found[name, CHANGE, attack] = [{key: one[key] - other[key] for key in one} for one, other in pairs]
    made = []
    for (model, learned, attack), figures in found.items():
        fields = {**common, **records.NOBODY, **adversary, "attack": attack}
        made += poison_records.summarised(figures, model=model, defence=learned, **fields)
    return made


def page(found: Sequence[Record], setting: Setting) -> str:
    """Both tables in Markdown, with t intervals over seeds."""
    of = {(r.model, r.defence, r.attack, r.metric): r for r in found}
    columns = [(name, what) for name in setting.estimators for what in (UNSEEN, SEEN)]
    columns += [(name, None) for name in setting.references]
    heads, lines = [f"{name}, {what}" if what else name for name, what in columns], []
    for kind in setting.tested:
        cells = [[_shown(of[*column, kind, metric]) for metric in ("auc", "recall")] for column in columns]
        lines.append([kind, *map(" / ".join, cells)])
    rates = [r.value for r in found if r.metric == "false_positive_rate" and r.defence != CHANGE]
    attacks = {PLAIN: ("auc", "recall", "precision", "false_positive_rate"), setting.start: ("recall", "push")}
    attacks |= {f"{setting.start}, adaptive": ("auc", "recall", "precision", "push")}
    wanted = [(attack, metric) for attack, metrics in attacks.items() for metric in metrics]
    below = []
    for name in setting.estimators:
        for regime in (PLAIN, OVERSAMPLED, HARDENED, CHANGE):
            cells = [of.get((name, regime, *which)) for which in wanted]
            below.append([name, regime, *(_shown(cell) if cell else "" for cell in cells)])
    headings = [f"{attack}: {metric}" for attack, metric in wanted]
    first = results.markdown(results.Table(["kind"], heads, lines))
    second = results.markdown(results.Table(["detector", "learned from"], headings, below))
    words = f"AUC / recall. Realised false-positive rates: {min(rates):.3f} to {max(rates):.3f}."
    return f"{words}\n\n{first}\n\n{second}\n"


def _shown(record: Record) -> str:
    around = f" ± {record.interval[1] - record.value:.3f}" if record.interval else ""
    return f"{record.value:.3f}{around}"
