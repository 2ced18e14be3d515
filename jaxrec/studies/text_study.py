"""An experiment on filters of texts: for each seed a split, filters trained on it, and texts edited to pass them."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import sklearn.metrics

from jaxrec import (
    checkpoint,
    classification,
    classifier,
    display,
    files,
    loop,
    provenance,
    records,
    results,
    sampling,
    summaries,
    text_classifier,
    texts,
    train,
)
from jaxrec.datasets.labelled_text import LabelledText
from jaxrec.pictures import edits
from jaxrec.text_classifier import TextClassifier
from jaxrec.types import Array, EditAttack, InputError, Objective, Params

CLEAN = "clean"
METRICS = ("precision", "recall", "f1", "roc_auc")
PROTOCOL = (
    "test texts of the class to be stopped are edited to pass, the others stay as they are; the threshold has the "
    "highest F1 on clean validation texts; intervals: Student's t over seeds, each with a split of its own"
)
NUM_EXAMPLES = 3  # edited texts that are kept in words


class Filter(NamedTuple):
    """A filter: its name, how it is trained (None: its `init` is fitted), and for the records the defence and how."""

    name: str
    classifier: TextClassifier
    objective: Objective | None
    defence: str | None
    words: str


class Threat(NamedTuple):
    """An attack by edits.

    Attributes:
        name, oracle: As in a record.
        make: num_edits -> the attack.
        on: The filter that it is mounted on.
        against: Names of the filters that its texts are shown to.
    """

    name: str
    oracle: str
    make: Callable[[Array], EditAttack]
    on: str
    against: Sequence[str]


class Plan(NamedTuple):
    """What is done for each seed; `data_title` is of the records."""

    data: LabelledText
    data_title: str
    filters: Sequence[Filter]
    threats: Sequence[Threat]
    budgets: Sequence[int]
    optimizer: optax.GradientTransformation
    batch_size: int
    num_epochs: int
    max_words: int
    num_words: int


Measured = dict[str, dict[str, Any]]  # {CLEAN or "THREAT, k": {metric: value, and what the attack cost}}


def fingerprint(data: LabelledText) -> dict[str, Any]:
    """Rows, and a SHA-256 over texts and labels."""
    return provenance.of_arrays({"labels": data.labels}) | {
        "texts": provenance.of_arrays({"texts": np.array(data.texts)})["sha256"]
    }


def run(directory: pathlib.Path, plan: Plan, *, seeds: Sequence[int]) -> dict[str, list[Measured]]:
    """{filter: what was measured for each seed}. A stopped run goes on; what is in a file is not done again.

    A seed decides the split, the vocabulary with it, the initial rows and the order of the texts.
    """
    for folder in ("logs", "edited", "measured"):
        (directory / folder).mkdir(exist_ok=True)
    paths = {
        (one.name, seed): _path(directory, "measured", one.name, seed, ".json")
        for one in plan.filters
        for seed in seeds
    }
    for seed in seeds:
        if any(not path.exists() for (_, of), path in paths.items() if of == seed):
            _run_seed(directory, plan, seed)
    return {one.name: [files.read_json(paths[one.name, seed]) for seed in seeds] for one in plan.filters}


def _run_seed(directory: pathlib.Path, plan: Plan, seed: int) -> None:
    """Fills the files of a seed."""
    corpus = texts.corpus(
        plan.data, seed=seed, max_words=plan.max_words, num_words=plan.num_words, room=max(plan.budgets)
    )
    trained = {
        one.name: functools.cache(functools.partial(_fit, directory, plan, one, corpus, seed)) for one in plan.filters
    }
    with display.counting(f"filters, seed {seed}", len(plan.filters)) as report:
        for one in plan.filters:
            path = _path(directory, "measured", one.name, seed, ".json")
            if not path.exists():
                files.write_json(path, _measure(directory, plan, one, corpus, seed, trained))
            report(one)


def _fit(directory: pathlib.Path, plan: Plan, one: Filter, corpus: texts.Corpus, seed: int) -> Params:
    """The filter at the epoch with the highest area under the ROC curve on validation texts."""
    init_key, key = jax.random.split(jax.random.key(seed))
    start = one.classifier.init(corpus, init_key)
    if one.objective is None:
        return start
    given = start["given"]
    state = train.init_state(start, plan.optimizer, key)

    def validate(params):
        found = text_classifier.scores(one.classifier, params, corpus.valid.ids)
        return {"valid_auc": float(sklearn.metrics.roc_auc_score(corpus.valid.labels, found))}

    name = f"{files.stem(one.name)}-{seed}"
    logs = [files.Log(directory / "logs" / f"{name}{ending}.jsonl") for ending in ("", "-timings")]
    with (
        checkpoint.Checkpoints(directory / "checkpoints" / name) as checkpoints,
        display.progress(name, plan.num_epochs) as report,
    ):
        loop.fit(
            _driver(one.objective, plan.optimizer),
            state,
            classifier.interactions(corpus.train.labels, num_classes=2),
            name={"model": one.name, "seed": seed},
            num_epochs=plan.num_epochs,
            batch_size=plan.batch_size,
            sampler=sampling.shuffled,
            seed=seed,
            checkpoints=checkpoints,
            log=logs[0],
            timings=logs[1],
            given=given,
            validate=validate,
            score="valid_auc",
            validate_every=1,
            report=report,
        )
        best = checkpoints.restore_best(state)
    for log in logs:
        log.close()
    if best is None:
        raise InputError(f"Expected a scored checkpoint of {name} in {directory}, found none.")
    return {**best.state.trained, "given": given}


@functools.lru_cache(maxsize=8)
def _driver(objective: Objective, optimizer: optax.GradientTransformation) -> train.Trainer:
    """Compiled once for all seeds."""
    make = lambda devices: train.make_step(objective, optimizer, devices=devices)
    return train.parallel(make, draw=classifier.no_negatives)


def _measure(
    directory: pathlib.Path,
    plan: Plan,
    one: Filter,
    corpus: texts.Corpus,
    seed: int,
    trained: Mapping[str, Callable[[], Params]],
) -> Measured:
    """The filter clean, and with the texts of each threat against it in the place of those that they were made of."""
    scores = functools.partial(text_classifier.scores, one.classifier, trained[one.name]())
    threshold = best_threshold(corpus.valid.labels, scores(corpus.valid.ids))
    labels, logits = corpus.test.labels, scores(corpus.test.ids)
    clean = classification.binary(labels, logits - threshold)
    measured: Measured = {CLEAN: clean | {"threshold": threshold, "texts": len(labels), "stopped": int(labels.sum())}}
    for threat in plan.threats:
        if one.name not in threat.against:
            continue
        found = _edited(directory, plan, threat, corpus, seed, trained[threat.on])
        for k in plan.budgets:
            attacked = logits.copy()
            attacked[labels == 1] = scores(found[f"ids{k}"])
            measured[f"{threat.name}, {k}"] = classification.binary(labels, attacked - threshold) | {
                name: int(found[f"{name}{k}"]) for name in ("edits", "gradient_evaluations", "queries")
            }
    return measured


def best_threshold(labels: np.ndarray, logits: np.ndarray) -> float:
    """What to take from logits [N] so that those above 0 have the highest F1; half way to the next lower logit."""
    precision, recall, thresholds = sklearn.metrics.precision_recall_curve(labels, logits)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))  # the last point has no threshold
    return float(thresholds[best] + thresholds[best - 1]) / 2 if best else float(thresholds[0]) - 1


def _edited(
    directory: pathlib.Path,
    plan: Plan,
    threat: Threat,
    corpus: texts.Corpus,
    seed: int,
    trained: Callable[[], Params],
) -> dict[str, np.ndarray]:
    """The test texts to be stopped after each number of edits, from their file, which is made if it is not there.

    All of these attacks are greedy: with more edits each goes on from where it stood with fewer.
    """
    path = _path(directory, "edited", f"{threat.name}-on-{threat.on}", seed, ".npz")
    if not path.exists():
        mounted = next(one.classifier for one in plan.filters if one.name == threat.on)
        edit = text_classifier.editor(mounted, threat.make)
        ids, spent = corpus.test.ids[corpus.test.labels == 1], 0
        found = {"ids0": ids}
        cost = dict.fromkeys(("edits", "gradient_evaluations", "queries"), 0)
        for k in plan.budgets:
            key = jax.random.fold_in(jax.random.key(seed), k)
            ids, info = edit(trained(), ids, k - spent, key)
            cost = {name: total + info[name] for name, total in cost.items()}
            found |= {f"ids{k}": ids} | {f"{name}{k}": np.max(total) for name, total in cost.items()}
            spent = k
        with files.whole(path) as file:
            np.savez(file, allow_pickle=False, **found)
        _write_examples(path.with_suffix(".txt"), corpus.vocabulary, found, plan.budgets)
    return files.read_npz(path)


def _write_examples(
    path: pathlib.Path, vocabulary: Sequence[str], found: Mapping[str, Any], budgets: Sequence[int]
) -> None:
    """The first texts in words that the filter knows, as they are and after each number of edits."""
    lines = []
    for row in range(min(NUM_EXAMPLES, len(found["ids0"]))):
        for k in (0, *budgets):
            known = found[f"ids{k}"][row]
            lines.append(f"{k} edits: {' '.join(vocabulary[int(word)] for word in known[known >= 0])}")
    files.write_text(path, "\n".join(lines) + "\n")


def _path(directory: pathlib.Path, folder: str, name: str, seed: int, ending: str) -> pathlib.Path:
    return directory / folder / f"{files.stem(name)}-{seed}{ending}"


def records_of(
    experiment: str, plan: Plan, found: Mapping[str, Sequence[Measured]], *, seeds: Sequence[int]
) -> list[records.Record]:
    """A record for each filter, threat, number of edits and metric."""
    common: dict[str, Any] = {
        "experiment": experiment, "dataset": plan.data_title, "protocol": PROTOCOL, "k": None, "seeds": tuple(seeds),
        "split": "60 / 20 / 20 % of the different texts, stratified, equal texts taken once", "step": None,
        "device": provenance.device(), "commit": provenance.commit(), "fingerprint": fingerprint(plan.data)["texts"],
        "chosen_by": "validation",
    }  # fmt: skip
    made = []
    for one in plan.filters:
        of_seeds = found[one.name]
        model = one.name.split(",")[0]
        of_filter = common | {"model": model, "defence": one.defence, "training": one.words}
        of_filter["users"] = int(of_seeds[0][CLEAN]["texts"])
        made += _records([each[CLEAN] for each in of_seeds], of_filter | records.NOBODY)
        for threat in plan.threats:
            if one.name in threat.against:
                for k in plan.budgets:
                    attacked = [each[f"{threat.name}, {k}"] for each in of_seeds]
                    made += _records(attacked, of_filter | _adversary(threat, k, attacked))
    return made


def _adversary(threat: Threat, k: int, of_seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fields of a record that say who attacked: epsilon is the number of edits."""
    most = lambda name: max(int(one[name]) for one in of_seeds)
    return {
        "surface": "words of a text", "attack": threat.name, "oracle": threat.oracle, "epsilon": float(k),
        "epsilon_unit": "absolute", "gauge": None, "achieved_norm": float(most("edits")),
        "gradient_evaluations": most("gradient_evaluations"), "queries": most("queries"),
    }  # fmt: skip


def _records(of_seeds: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> list[records.Record]:
    """A record for each of `METRICS`."""
    return [summaries.of_seeds([one[metric] for one in of_seeds], **fields, metric=metric) for metric in METRICS]


def write(path: pathlib.Path, found: Sequence[records.Record]) -> None:
    """Writes results.json, results.md and edits.png."""
    found = results.write(path, found)
    edits.draw(path / "edits.png", found, metrics=METRICS[1:])
