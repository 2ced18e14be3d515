"""What an audit found, written down: records, the contents of the page, and the files."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrec import (
    audit,
    exhibits,
    exposure,
    files,
    gradient_masking,
    page,
    provenance,
    records,
    results,
    robustness,
    splits,
    summaries,
)
from jaxrec.audit import Findings, Victim
from jaxrec.types import InputError
from jaxrec.victims import Loaded

THREAT = (
    "The adversary knows the model and the training data, and moves each row of the embedding tables inside a ball of "
    "radius epsilon: absolute, or a share of the table's mean row norm in the gauge in which both tables have the same "
    "singular values. No real user has that access; attacks on the data are weaker. The attacks raise a training loss "
    "and share one perturbation among all users; 'worst for each user' takes the worst of them for every user, and so "
    "looks at test items. The certificates hold for any perturbation, also for one made for a single user by someone "
    "who knows the held-out item."
)


def write(
    folder: pathlib.Path,
    findings: Findings,
    loaded: Loaded,
    flags: Sequence[gradient_masking.Flag],
    *,
    experiment: str,
    seed: int,
    command: str,
) -> None:
    """Writes `report.html` and what it is made of (`report.json`), `results.json`, and `results.md` made of that.

    Args:
        folder: Is made where it is not there.
        seed: Of the noise and of the adversary's negatives.
        command: That which makes the same again.

    Raises:
        InputError: If the folder cannot be written.
    """
    victim, device, commit = loaded.victim, provenance.device(), provenance.commit()
    about = {
        **loaded.about,
        "split": f"{len(victim.split.train)} training pairs of {victim.split.train.num_users} users and "
        f"{victim.split.train.num_items} items; {len(victim.split.test)} held-out items",
        "protocol": robustness.PROTOCOL,
        "fingerprint": loaded.fingerprint,
        "seed of noise and negatives": str(seed),
        "device": device,
        "commit": commit,
        "command": command,
    }
    title = f"How robust is {loaded.model}{f' with {loaded.defence}' if loaded.defence else ''}?"
    shown = page_of(findings, victim, flags, title=title, about=about, notes=loaded.notes)
    measured = records_of(
        findings,
        victim,
        seed=seed,
        experiment=experiment,
        model=loaded.model,
        defence=loaded.defence,
        dataset=loaded.dataset,
        split="leave-one-out",
        protocol=robustness.PROTOCOL,
        step=loaded.step,
        chosen_by=None if loaded.step is None else "validation epoch",
        training=loaded.training,
        device=device,
        commit=commit,
        fingerprint=loaded.fingerprint,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        results.write(folder, measured)
        files.write_json(folder / "report.json", shown)
        files.write_text(folder / "report.html", page.render(shown))
    except OSError as error:
        raise InputError(f"Expected a folder that can be written, got {folder}: {error}.") from None


def records_of(findings: Findings, victim: Victim, *, seed: int, **common: Any) -> list[records.Record]:
    """Records of the clean model, of every attack, and of what is certain.

    Args:
        seed: Of the noise and of the adversary's negatives.
        common: The other fields of the records.
    """
    tail = splits.tail_items(victim.split.train)
    make = functools.partial(
        summaries.records_of,
        seeds=(seed,),
        cutoffs=(findings.k,),
        tail=tail,
        surface="user and item tables",
        gauge=victim.model.gauge,
        **common,
    )
    measured = [m for by_attack in findings.attacked.values() for of_attack in by_attack.values() for m in of_attack]
    found = make([[findings.clean, *measured]])
    for unit, bounds in findings.bounds.items():
        for name, surface, of_name in (
            ("any (certified)", "user and item tables", bounds.both),
            ("any (certified)", "item table", bounds.item),
            ("held-out oracle", "item table", bounds.held_out),
        ):
            conditions = [
                dataclasses.replace(findings.clean, attack=name, epsilon=e, unit=unit, ranks=ranks, achieved_norm=e)
                for e, ranks in zip(bounds.epsilons, of_name, strict=True)
            ]
            found += [
                dataclasses.replace(record, surface=surface, oracle="each user's own, knows the held-out item")
                for record in make([conditions])
                if record.metric in exhibits.METRICS  # its lists are not known
            ]
    return found


def page_of(
    findings: Findings,
    victim: Victim,
    flags: Sequence[gradient_masking.Flag],
    *,
    title: str,
    about: Mapping[str, str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """All that was found, for `page.render`: the details at the middle epsilon."""
    unit, epsilon = audit.middle(findings.epsilons)
    clean = []
    for metric in exhibits.METRICS:
        value = exhibits.value(findings.clean.ranks, metric, findings.k)
        clean.append({"metric": metric, "k": findings.k, "value": value.mean, "interval": [value.low, value.high]})
    tail = splits.tail_items(victim.split.train)
    lists = findings.clean.lists
    for metric, value in (
        ("coverage", exposure.coverage(lists, len(tail))),
        ("long_tail_share", float(np.mean(exposure.long_tail_share(lists, tail)))),
    ):
        clean.append({"metric": metric, "k": findings.k, "value": value, "interval": None})
    return {
        "title": title,
        "about": dict(about),
        "threat": THREAT,
        "clean": clean,
        "curves": exhibits.curves(findings) + exhibits.curves(findings, "hit_rate"),
        "shifts": exhibits.shifts_of(findings),
        "groups": exhibits.groups(findings, victim.split, unit, epsilon),
        **exhibits.radii_of(findings, victim, unit),
        "changed_lists": exhibits.changed_lists(findings, victim, unit, epsilon),
        "flags": [flag._asdict() for flag in flags],
        "notes": list(notes),
    }
