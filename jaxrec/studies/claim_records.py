"""What a study of a claim found: its records, the comparisons that were declared before, and the page of both."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxrec import display, files, provenance, records, results, robustness, splits, statistics, summaries
from jaxrec.studies import claim_study, continued, study
from jaxrec.studies.claim_study import Found, Which

CLEAN = ("none", 0.0)
CHOSEN = (
    "Validation items chose a first model, over the same seeds whose differences on test items the p takes as "
    "symmetric: it is conditional on that choice. Where a seed's noise is alike on both, chance finds a difference "
    "more often than p says."
)


class Question(NamedTuple):
    """Does the first rank better than the second under an attack at a relative epsilon? Decided on before the run.

    `chosen_by` says what chose the first, if it was not fixed before: p is then conditional on that choice (`CHOSEN`).
    """

    first: Which
    second: Which
    attack: tuple[str, float] = CLEAN
    chosen_by: str = "last"

    def __str__(self) -> str:
        name, epsilon = self.attack
        return "clean" if self.attack == CLEAN else f"{name}, {epsilon:g}"


def answers(found: Found, questions: Sequence[Question], *, seed: int = 0) -> list[statistics.Declared]:
    """NDCG@10 of the first less that of the second, in the order of the questions."""
    ndcg = lambda which, attack: claim_study.per_user(found[which], *attack)
    pairs = [(ndcg(each.first, each.attack), ndcg(each.second, each.attack)) for each in questions]
    return statistics.declared(pairs, seed=seed)


def records_of(
    experiment: str, data: study.Data, start: continued.Start, found: Found, questions: Sequence[Question]
) -> list[records.Record]:
    """Those of `summaries.records_of` for each model, and for each question "ndcg less SECOND" and its Holm's p."""
    common: dict[str, Any] = {
        "experiment": experiment, "model": f"MF {continued.dimension(start)}", "dataset": data.title,
        "split": data.split_title, "step": None, "chosen_by": "last", "device": provenance.device(),
        "commit": provenance.commit(), "fingerprint": data.fingerprint["sha256"],
    }  # fmt: skip
    made: list[records.Record] = []
    for which, by_seed in found.items():
        made += summaries.records_of(
            by_seed,
            seeds=start.seeds,
            cutoffs=[min(10, data.split.train.num_items)],
            tail=splits.tail_items(data.split.train),
            surface="user and item tables",
            gauge=start.model.gauge,
            defence=None if which.setting == continued.CONTROL else which.arm,
            protocol=_protocol(which),
            training=_training(start, which),
            **common,
        )
    for question, answer in zip(questions, answers(found, questions), strict=True):
        name, epsilon = question.attack
        of = (
            _protocol(question.first),
            _training(start, question.first),
            *((None, None) if question.attack == CLEAN else (name, epsilon)),
        )
        like = next(r for r in made if r.metric == "ndcg" and (r.protocol, r.training, r.attack, r.epsilon) == of)
        metric, like = f"ndcg less {question.second}", dataclasses.replace(like, chosen_by=question.chosen_by)
        mean, low, high = answer.interval
        made.append(dataclasses.replace(like, metric=metric, value=mean, interval=(low, high)))
        made.append(dataclasses.replace(like, metric=f"{metric}, Holm p", value=answer.p_value, interval=None))
    return made


def _protocol(which: Which) -> str:
    return f"{robustness.PROTOCOL}; {which.items} items"


def _training(start: continued.Start, which: Which) -> str:
    return f"BPR {start.epochs} epochs; {which}"


def page(questions: Sequence[Question], found: Sequence[statistics.Declared]) -> str:
    """The questions and their answers as a Markdown table."""
    lines = ["| | first | second | NDCG@10, first less second | p, Holm |", "|---|---|---|---|--:|"]
    for question, answer in zip(questions, found, strict=True):
        mean, low, high = answer.interval
        value = f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
        lines.append(f"| {question} | {question.first} | {question.second} | {value} | {answer.p_value:.3f} |")
    if found[0].smallest_p_value > 0.05:
        lines += ["", f"So few seeds can reach no p below {found[0].smallest_p_value:.2g}: the tests cannot tell."]
    if any(question.chosen_by != "last" for question in questions):
        lines += ["", CHOSEN]
    return "\n".join([*lines, ""])


def publish(
    path: pathlib.Path,
    experiment: str,
    data: study.Data,
    start: continued.Start,
    found: Found,
    questions: Sequence[Question],
) -> None:
    """Writes results.json, results.md and answers.md; prints the first look and the answers."""
    made = results.write(path, records_of(experiment, data, start, found, questions))
    told = page(questions, answers(found, questions))
    files.write_text(path / "answers.md", told)
    shown = [r for r in made if not r.metric.startswith("ndcg less") and r.protocol.endswith("test items")]
    display.records_table([r for r in shown if r.attack in (None, claim_study.NOISE, claim_study.WORST, "PGD-10")])
    display.say(told)
    display.say(f"Everything lies in {path}/: results.md, results.json, answers.md, logs/, measured/")
