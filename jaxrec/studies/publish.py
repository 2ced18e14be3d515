"""What a study found: its records, the files made of them, and what is printed."""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrec import display, provenance, records, results, robustness, splits, summaries
from jaxrec.pictures import curves
from jaxrec.studies import staged


def records_of(
    setting: staged.Setting,
    outcomes: Sequence[staged.Outcome],
    adversary: staged.Adversary,
    *,
    seeds: Sequence[int],
    experiment: str,
    model: str,
) -> list[records.Record]:
    """The records of all outcomes, and for those after the first what they gain over the first.

    Args:
        experiment, model: Names for the records.
    """
    train_data = setting.data.split.train
    common = {
        "experiment": experiment,
        "model": model,
        "dataset": setting.data.title,
        "split": setting.data.split_title,
        "protocol": robustness.PROTOCOL,
        "fingerprint": setting.data.fingerprint["sha256"],
        "device": provenance.device(),
        "commit": provenance.commit(),
    }
    made = []
    for outcome in outcomes:
        stage = outcome.stage
        for (chosen_by, measured, steps), (_, base, _) in zip(_chosen(outcome), _chosen(outcomes[0]), strict=True):
            of_stage = summaries.records_of(
                measured,
                seeds=seeds,
                cutoffs=[k for k in (10, 50, 100) if k <= train_data.num_items],
                tail=splits.tail_items(train_data),
                surface=adversary.surface_name,
                gauge=setting.model.gauge,
                defence=stage.defence,
                training=stage.training,
                step=round(float(np.mean(steps))),
                chosen_by=f"{chosen_by} epoch",
                **common,
            )
            made += of_stage
            if outcome is not outcomes[0]:
                made += summaries.gain_records(base, measured, of_stage, k=10)
    return made


def _chosen(outcome: staged.Outcome):
    """(what chose the epoch, measurements, steps), where there are any."""
    found = [
        ("validation", outcome.best, outcome.best_steps),
        ("robust validation", outcome.robust, outcome.robust_steps),
        ("last", outcome.last, outcome.last_steps),
    ]
    return [each for each in found if each[1]]


def write(path: pathlib.Path, found: Sequence[records.Record]) -> None:
    """Writes results.json, results.md and curve.png."""
    found = results.write(path, found)
    curves.draw(path / "curve.png", found, metric="ndcg", k=10)


def show(path: pathlib.Path, *, epsilon: float) -> None:
    """Prints the models of a finished run, clean and attacked at one absolute epsilon, and where its files lie."""
    found = records.read_records(path / "results.json")
    near = [r for r in found if r.attack is None or (r.epsilon == epsilon and r.epsilon_unit == "absolute")]
    display.records_table(near)
    display.say(f"Everything lies in {path}/: results.md, results.json, curve.png, metrics.jsonl, checkpoints/")
