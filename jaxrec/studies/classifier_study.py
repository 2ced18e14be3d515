"""An experiment on a classifier of images: for each seed trained in several ways, attacked in several, and recorded."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import scipy.stats

from jaxrec import (
    checkpoint,
    classifier,
    display,
    files,
    loop,
    provenance,
    records,
    results,
    run_directory,
    sampling,
    statistics,
    train,
)
from jaxrec.datasets import digits, idx
from jaxrec.pictures import bars
from jaxrec.studies import study
from jaxrec.types import Attack, Key, Objective, PyTree, Split

CLEAN = "none"
PROTOCOL = (
    "share of test images that are right both as they are and attacked, each image apart; intervals: Wilson's over "
    "images for one seed, Student's t over several seeds"
)


class Images(NamedTuple):
    """What is trained and tested on; `data` says what it is, and its interactions are the labels."""

    train: idx.LabelledImages
    test: idx.LabelledImages
    data: study.Data


class Training(NamedTuple):
    """A way to train: its name, short, the objective, and for the records the defence (None: no defence) and how."""

    name: str
    objective: Objective
    defence: str | None
    words: str


class Threat(NamedTuple):
    """An attack, its radius (None where it has another budget, which its name says), and on how many test images."""

    name: str
    attack: Attack
    epsilon: float | None
    num_images: int


class Plan(NamedTuple):
    """What is done for each seed, and how long an epoch's steps are."""

    model: classifier.Classifier
    model_name: str
    images: Images
    trainings: Sequence[Training]
    threats: Sequence[Threat]
    optimizer: optax.GradientTransformation
    batch_size: int
    num_epochs: int


Measured = dict[str, dict[str, float]]  # {CLEAN or a threat's name: sums over images and costs}


def images(data_dir: pathlib.Path | None, *, num_train: int | None = None, num_test: int | None = None) -> Images:
    """The images of `digits.load`, or the first of them, and says which they are, loudly where they are not MNIST."""
    found = digits.load(data_dir)
    train_part, test_part = _first(found.train, num_train), _first(found.test, num_test)
    title = found.name if found.name == digits.MNIST else f"{found.name}, not MNIST"
    if found.name != digits.MNIST:
        display.say(f"MNIST was not found: every figure is of {title}.", style="bold red")
    if (num_train, num_test) != (None, None):
        title = f"{title}, a slice"
    of_train, of_test = (classifier.interactions(part.labels) for part in (train_part, test_part))
    split = Split(train=of_train, valid=of_test.take(np.zeros(0, np.int64)), test=of_test)
    fingerprint = provenance.of_arrays(
        {
            f"{name}.{kind}": x
            for name, part in (("train", train_part), ("test", test_part))
            for kind, x in part._asdict().items()
        }
    )
    display.say(f"Data: {title}; {found.path or 'in scikit-learn'}; SHA-256 {fingerprint['sha256'][:16]}")
    words = f"{len(of_train)} images to train on, {len(of_test)} to test on"
    name = found.name.lower().replace(" ", "-").replace("'", "")
    return Images(train_part, test_part, study.Data(split, name, title, words, fingerprint))


def _first(part: idx.LabelledImages, num: int | None) -> idx.LabelledImages:
    return idx.LabelledImages(part.images[:num], part.labels[:num])


def run(directory: run_directory.Run, plan: Plan, *, seeds: Sequence[int]) -> dict[str, list[Measured]]:
    """{training: what was measured for each seed}. A stopped run goes on; what was attacked is read from its file.

    A seed decides the initial weights and the order of the images, the same for all trainings, and the attacks'
    randomness.
    """
    drivers = {each.name: _driver(plan, each) for each in plan.trainings}
    evaluators = {each.name: classifier.evaluator(plan.model, each.attack) for each in plan.threats}
    found: dict[str, list[Measured]] = {each.name: [] for each in plan.trainings}
    log_end = 0
    for seed in seeds:
        init_key, step_key, attack_key = jax.random.split(jax.random.key(seed), 3)
        params = classifier.init(plan.model, plan.images.train.images, init_key)
        for training in plan.trainings:
            state = train.init_state(params, plan.optimizer, step_key)
            fitted = _fit(directory, plan, training, drivers[training.name], state, params["given"], seed, log_end)
            log_end = fitted.log_end
            file = directory.path / "measured" / f"{training.name}-{seed}.json"
            if not file.exists():
                measured = _measure(plan, evaluators, fitted.state.trained["weights"], attack_key, training.name)
                file.parent.mkdir(exist_ok=True)
                files.write_json(file, measured)
            found[training.name].append(files.read_json(file))
    return found


def _driver(plan: Plan, training: Training) -> train.Trainer:
    make = lambda devices: train.make_step(training.objective, plan.optimizer, devices=devices)
    return train.parallel(make, draw=classifier.no_negatives)


def _fit(
    directory: run_directory.Run,
    plan: Plan,
    training: Training,
    driver: train.Trainer,
    state: train.TrainState,
    given: PyTree,
    seed: int,
    log_start: int,
) -> loop.Fitted:
    """One training, from its newest checkpoint: there is one after each epoch."""
    name = f"{training.name}-{seed}"
    with (
        checkpoint.Checkpoints(directory.path / "checkpoints" / name) as checkpoints,
        display.progress(f"{training.name}, seed {seed}", plan.num_epochs) as report,
    ):
        return loop.fit(
            driver,
            state,
            plan.images.data.split.train,
            name={"model": training.name, "seed": seed},
            num_epochs=plan.num_epochs,
            batch_size=plan.batch_size,
            sampler=sampling.shuffled,
            seed=seed,
            checkpoints=checkpoints,
            log=directory.metrics,
            timings=directory.timings,
            log_start=log_start,
            given=given,
            validate_every=1,
            report=report,
        )


def _measure(plan: Plan, evaluators: Mapping[str, Any], weights: PyTree, key: Key, name: str) -> Measured:
    """The model clean and under each threat: sums over images, and over those that the attack turned wrong."""
    of_test = plan.images.test
    clean = classifier.correct(plan.model, weights, *of_test)
    measured: Measured = {CLEAN: {"correct": int(clean.sum()), "num": len(clean)}}
    with display.counting(f"attacks on {name}", len(plan.threats)) as report:
        for threat in plan.threats:
            part = _first(of_test, threat.num_images)
            attacked = evaluators[threat.name](weights, *part, key)
            fooled = clean[: len(part.labels)] & ~attacked.correct
            measured[threat.name] = {
                "correct": int(attacked.correct.sum()),
                "num": len(part.labels),
                "fooled": int(fooled.sum()),
                "l2": float(attacked.l2[fooled].sum(dtype=np.float64)),
                "num_changed": int(attacked.num_changed[fooled].sum()),
                "achieved_linf": float(attacked.linf.max()),
                "gradient_evaluations": attacked.gradient_evaluations,
                "queries": attacked.queries,
            }
            report(threat)
    return measured


def records_of(
    experiment: str, plan: Plan, found: Mapping[str, Sequence[Measured]], *, seeds: Sequence[int]
) -> list[records.Record]:
    """For each training the accuracy, clean and under each threat, and the mean size of what fooled it."""
    data = plan.images.data
    common: dict[str, Any] = {
        "experiment": experiment, "model": plan.model_name, "dataset": data.title, "split": data.split_title,
        "protocol": PROTOCOL, "k": None, "seeds": tuple(seeds), "chosen_by": "last",
        "step": plan.num_epochs * -(-len(data.split.train) // plan.batch_size), "device": provenance.device(),
        "commit": provenance.commit(), "fingerprint": data.fingerprint["sha256"],
    }  # fmt: skip
    made = []
    for training in plan.trainings:
        of_training = common | {"defence": training.defence, "training": training.words}
        made.append(_accuracy([one[CLEAN] for one in found[training.name]], **of_training, **records.NOBODY))
        for threat in plan.threats:
            of_seeds = [one[threat.name] for one in found[training.name]]
            fields = of_training | _adversary(threat, of_seeds)
            made.append(_accuracy(of_seeds, **fields))
            if fooled := sum(one["fooled"] for one in of_seeds):
                for metric, total in (("mean_l2_of_fooled", "l2"), ("mean_pixels_of_fooled", "num_changed")):
                    value = sum(one[total] for one in of_seeds) / fooled
                    users = int(of_seeds[0]["num"])
                    made.append(records.Record(**fields, users=users, metric=metric, value=value, interval=None))
    return made


def _adversary(threat: Threat, of_seeds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The fields of a record that say who attacked."""
    most = lambda name: max(one[name] for one in of_seeds)
    return {
        "surface": "pixels in [0, 1]", "attack": threat.name, "oracle": "white box: model, label",
        "epsilon": threat.epsilon, "epsilon_unit": None if threat.epsilon is None else "absolute", "gauge": None,
        "achieved_norm": {"Linf": most("achieved_linf")}, "queries": int(most("queries")),
        "gradient_evaluations": int(most("gradient_evaluations")),
    }  # fmt: skip


def _accuracy(of_seeds: Sequence[Mapping[str, float]], **fields: Any) -> records.Record:
    """The share that is right, with the interval that `PROTOCOL` says."""
    correct, num = [int(one["correct"]) for one in of_seeds], int(of_seeds[0]["num"])
    if len(correct) == 1:
        low, high = scipy.stats.binomtest(correct[0], num).proportion_ci(method="wilson")
    else:
        _, _, low, high, _ = statistics.summary(np.array(correct) / num)
    value = float(np.mean(correct)) / num
    return records.Record(**fields, users=num, metric="accuracy", value=value, interval=(float(low), float(high)))


def write(path: pathlib.Path, found: Sequence[records.Record]) -> None:
    """Writes results.json, results.md and accuracy.png."""
    found = results.write(path, found)
    accuracies = [record for record in found if record.metric == "accuracy"]
    head = accuracies[0]
    bars.draw(
        path / "accuracy.png",
        {
            defence or "standard": {
                r.attack or "clean": (r.value, r.interval) for r in accuracies if r.defence == defence
            }
            for defence in dict.fromkeys(r.defence for r in accuracies)
        },
        title=f"{head.model} on {head.dataset}: accuracy, clean and attacked",
    )
