"""A board of defences: each on each model, from the same start, for as many epochs, under the same attacks at the end.

A subject is a model with its own clean training. Every defence goes on from the subject's clean tables for as many
epochs, on the same batches with the same negatives, the optimiser anew (as in He et al., SIGIR 2018), and so does the
clean loss: the row that the others are held against. A row may try a few settings, every row as many; validation
NDCG under attack chooses, for the first seed. Then each final model is attacked anew, white box, by one perturbation
that raises the loss of its own clean lists, which does not saturate (`model_robustness`); certified, where its scores
are dot products; and looked at for gradient masking. Budgets are relative to row norms, so that growing them buys
nothing; an absolute one may stand beside.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from jaxrec import (
    bench,
    consistency,
    display,
    factor_bounds,
    files,
    gradient_masking,
    measurements,
    metrics,
    model_robustness,
    model_table,
    robustness,
    sampling,
)
from jaxrec.certificates import dot_product
from jaxrec.robustness import Measurement
from jaxrec.types import InputError, Interactions, Model, Objective, Params, Surface

PLAIN = "plain"  # the defence that is none
CERTIFIED = "any (certified)"
TEACHER = "teacher"  # by which a teacher's params stand under params["given"]


class Subject(NamedTuple):
    """A model that is defended, and its clean training.

    Attributes:
        clean: What it minimises without a defence.
        softened: Temperature -> the loss of a teacher (`defences.distillation`).
        list_scores: The lists that consistency losses compare.
        surface: What adversaries perturb, in training and at the end.
        radii: Absolute radii of training's adversaries, one for each setting that a row tries.
        training: In words, for the records.
        start_epochs, epochs: Of the clean loss before, and of every row from there.
        draw, examples: As in `model_table.Fit`.
        bounds: From `factor_bounds`; None where scores are no dot products.
    """

    name: str
    model: Model
    clean: Objective
    softened: Callable[[float], Objective]
    list_scores: consistency.ListScores
    surface: Surface
    radii: tuple[float, ...]
    optimizer: optax.GradientTransformation
    batch_size: int
    training: str
    start_epochs: int
    epochs: int
    draw: sampling.Draw = sampling.negatives
    examples: Callable[[Interactions], Interactions] = lambda pairs: pairs
    bounds: factor_bounds.Bounds | None = None


class Setting(NamedTuple):
    """A way of training that a row tries.

    Attributes:
        words: What tells it from the row's others.
        objective: What it minimises.
        dense: Steps must be on whole tables.
        teacher: An objective that is trained before, from the same start for as many epochs; then the params it gave,
            without what they were given, stand under params["given"]["teacher"].
        optimizer: In place of the subject's.
        model: What is trained, ranked and attacked in place of the subject's, with the same tables.
        after: What is done to the trained params.
        trained_as: The DEFENCE, SETTING whose training this is, where it is another's.
    """

    words: str
    objective: Objective
    dense: bool = False
    teacher: Objective | None = None
    optimizer: optax.GradientTransformation | None = None
    model: Model | None = None
    after: Callable[[Params], Params] = lambda params: params
    trained_as: str | None = None


Defence = Callable[[Subject], Sequence[Setting] | str]  # the settings it tries, or why it does not apply


class Row(NamedTuple):
    """A defence on a subject: the trainings of its settings, {words: row}; or the reason why there are none."""

    subject: Subject
    defence: str
    settings: tuple[Setting, ...]
    trainings: Mapping[str, model_table.Row]
    reason: str | None

    @property
    def name(self) -> str:
        return f"{self.subject.name}/{self.defence}"


class Exam(NamedTuple):
    """What every final model is put through.

    Attributes:
        attacks: {name: epsilon -> attack}: noise, and what is as strong as can be paid for.
        epsilons: {unit: radii}, as in `robustness.measure`.
        certified: Relative epsilons, smaller ones: certificates give out long before attacks succeed.
        choosing: The attack under which validation chooses, at the first relative epsilon.
        num_users: Random users who are listed, ranked and attacked.
        num_doubted: Of whom the flags of gradient masking are asked, for the first seed; with 0 none is.
        flag_steps: Gradient steps of the attacks that flags compare.
        black_box: As in `gradient_masking.inspect`.
    """

    attacks: Mapping[str, robustness.MakeAttack]
    epsilons: Mapping[str, Sequence[float]]
    certified: Sequence[float]
    choosing: robustness.MakeAttack
    num_users: int
    num_doubted: int
    flag_steps: int
    black_box: Mapping[str, Any]


class Cell(NamedTuple):
    """What one seed of a row gave: what was measured, and {"setting", "tried", "step", "seconds", "sizes",
    "flags"}: of the choice, of an epoch (a teacher's added), and mean row norms of the surface."""

    measured: list[Measurement]
    about: dict[str, Any]


def rows(subjects: Sequence[Subject], defences: Mapping[str, Defence]) -> list[Row]:
    """Every defence on every subject; `PLAIN` must be one of them.

    Raises:
        ValueError: If there is no plain row, or the rows of a subject do not try the same number of settings.
    """
    if PLAIN not in defences:
        raise ValueError(f"Expected a defence {PLAIN!r} to hold the others against, got {', '.join(defences)}.")
    made = []
    for subject in subjects:
        start = _training(subject, "start", subject.clean, num_epochs=subject.start_epochs)
        for name, defence in defences.items():
            found = defence(subject)
            reason, settings = (found, ()) if isinstance(found, str) else (None, tuple(found))
            if reason is None and len(settings) != len(subject.radii):
                raise ValueError(
                    f"Expected {len(subject.radii)} settings of {subject.name}/{name}, got {len(settings)}."
                )
            trainings = {each.words: _gone_on(subject, start, name, each) for each in settings}
            made.append(Row(subject, name, settings, trainings, reason))
    return made


def _gone_on(subject: Subject, start: model_table.Row, defence: str, setting: Setting) -> model_table.Row:
    """The training of a setting, and of its teacher before it."""
    name, parts, given = setting.trained_as or f"{defence}, {setting.words}", (start,), None
    begin = lambda params, *_: params
    if setting.teacher is not None:
        teacher = _training(subject, f"{name}, teacher", setting.teacher, parts=parts, start=begin)
        learned = lambda params: {part: params[part] for part in ("tables", "weights")}
        parts, given = (start, teacher), lambda _, params: {TEACHER: learned(params)}
    model = setting.model or subject.model
    model = dataclasses.replace(model, reads=None) if setting.dense else model
    own = {"model": model, "optimizer": setting.optimizer or subject.optimizer}
    return _training(subject, name, setting.objective, **own, parts=parts, start=begin, given=given)


def _training(subject: Subject, name: str, objective: Objective, **others: Any) -> model_table.Row:
    """A training on the subject's batches, of its model, by its optimiser, for `Subject.epochs`, but for `others`."""
    shared = {field: getattr(subject, field) for field in ("model", "optimizer", "batch_size", "draw", "examples")}
    options = {**shared, "num_epochs": subject.epochs, **others}
    fit = model_table.by_steps(objective=objective, **options)
    return model_table.Row(f"{subject.name}, {name}", options["model"], subject.training, fit, epochs="last")


def chosen(all_rows: Sequence[Row], only: Sequence[str]) -> list[Row]:
    """The rows that are asked for by MODEL/DEFENCE, MODEL or DEFENCE, and the plain rows of their models; all by none.

    Raises:
        InputError: If a pattern names no row.
    """
    names = lambda row: {text.lower() for text in (row.name, row.subject.name, row.defence)}
    for pattern in only:
        if not any(pattern.lower() in names(row) for row in all_rows):
            known = dict.fromkeys([*(row.subject.name for row in all_rows), *(row.defence for row in all_rows)])
            raise InputError(f"Expected --only of MODEL/DEFENCE, of {', '.join(known)}; got {pattern}.")
    asked = [row for row in all_rows if not only or names(row) & {pattern.lower() for pattern in only}]
    subjects = {row.subject.name for row in asked}
    return [row for row in all_rows if row in asked or (row.defence == PLAIN and row.subject.name in subjects)]


def run(
    directory: pathlib.Path,
    all_rows: Sequence[Row],
    asked: Sequence[Row],
    on: bench.Bench,
    exam: Exam,
    seeds: Sequence[int],
) -> dict[str, dict[int, Cell]]:
    """Trains and measures the rows that are asked for, {row: {seed: cell}}; what was measured is read, of all rows."""
    (directory / "measured").mkdir(exist_ok=True)
    found: dict[str, dict[int, Cell]] = {}
    names = {row.name for row in asked}
    for row in (row for row in all_rows if row.settings):
        for seed in seeds:
            path = directory / "measured" / f"{files.stem(row.name)}-{seed}.npz"
            if row.name in names and not path.exists():
                _examine(directory, path, row, on, exam, seed, is_first=seed == seeds[0])
            if path.exists():
                about = json.loads(path.with_suffix(".json").read_text())
                found.setdefault(row.name, {})[seed] = Cell(measurements.read(path), about)
    return found


def _examine(
    directory: pathlib.Path,
    path: pathlib.Path,
    row: Row,
    on: bench.Bench,
    exam: Exam,
    seed: int,
    *,
    is_first: bool,
) -> None:
    """Trains a row, puts the final model through the exam, and writes what came of it; the measurements last."""
    setting, tried = _choose(directory, row, on, exam, seed if is_first else None)
    training = row.trainings[setting.words]
    done = model_table.finish(directory, training, on, seed)
    teachers = training.fit.parts[1:] if training.fit else ()
    model, params = setting.model or row.subject.model, setting.after(done.params)
    params = model.knowing(params, on.both)
    display.say(f"{row.name}, seed {seed}, {setting.words}: attacks")
    measured = _attacked(row.subject, model, params, on, exam, seed)
    flags = _doubts(row.subject, model, params, on, exam, seed) if is_first and exam.num_doubted else []
    about = {
        "setting": setting.words,
        "tried": tried,
        "step": done.step,
        "seconds": done.seconds + sum(model_table.finish(directory, each, on, seed).seconds for each in teachers),
        "sizes": {name: float(np.linalg.norm(x, axis=1).mean()) for name, x in row.subject.surface.get(params).items()},
        "flags": [flag._asdict() for flag in flags],
    }
    files.write_json(path.with_suffix(".json"), about)
    measurements.write(path, measured)


def _choose(
    directory: pathlib.Path, row: Row, on: bench.Bench, exam: Exam, seed: int | None
) -> tuple[Setting, dict[str, dict[str, float]]]:
    """The setting with the highest validation NDCG under attack, and what each of them had: chosen once for a run."""
    path = directory / "measured" / f"{files.stem(row.name)}-choice.json"
    if not path.exists():
        if seed is None:
            raise InputError(f"Expected the first seed of {row.name} to be measured, which chooses its setting.")
        scores = {}
        for setting in row.settings:
            model = setting.model or row.subject.model
            done = model_table.finish(directory, row.trainings[setting.words], on, seed)
            params = model.knowing(setting.after(done.params), on.split.train)
            scores[setting.words] = _validated(row.subject, model, params, on, exam, seed)
        files.write_json(path, scores)
    scores = json.loads(path.read_text())
    if set(scores) != {setting.words for setting in row.settings}:
        raise InputError(f"Expected {path} to name the settings of {row.name}, got {', '.join(scores)}. Remove it.")
    best = max(row.settings, key=lambda setting: scores[setting.words]["valid_robust_ndcg"])
    return best, scores


def _validated(
    subject: Subject, model: Model, params: Params, on: bench.Bench, exam: Exam, seed: int
) -> dict[str, float]:
    """NDCG of validation items, clean and under the attack that chooses."""
    ranked = model_robustness.protocol(model, params, on, num_users=exam.num_users, seed=seed, valid=True)
    clean, attacked = robustness.measure(
        model,
        params,
        ranked,
        {"choosing": exam.choosing},
        {"relative": exam.epsilons["relative"][:1]},
        surface=subject.surface,
        key=jax.random.key(seed),
        adversary=model_robustness.ADVERSARY,
    )
    k, num = ranked.list_length, on.both.num_items
    ndcg = lambda each: float(metrics.ndcg(each.ranks.ranks, k, num).mean())
    return {"valid_ndcg": ndcg(clean), "valid_robust_ndcg": ndcg(attacked)}


def _attacked(
    subject: Subject, model: Model, params: Params, on: bench.Bench, exam: Exam, seed: int
) -> list[Measurement]:
    """Clean, under each attack at each budget, and what is certain, on the test items."""
    ranked = model_robustness.protocol(model, params, on, num_users=exam.num_users, seed=seed)
    found = robustness.measure(
        model,
        params,
        ranked,
        exam.attacks,
        exam.epsilons,
        surface=subject.surface,
        key=jax.random.key(seed),
        adversary=model_robustness.ADVERSARY,
        oracle=model_robustness.ORACLE,
    )
    if subject.bounds is None or model is not subject.model:
        return found
    factors, budget = subject.bounds(params)
    bounds = dot_product.certify(factors, ranked.ranking, budget, exam.certified, fall=dot_product.pairwise)
    certain = [
        dataclasses.replace(found[0], attack=CERTIFIED, epsilon=e, unit="relative", ranks=ranks, achieved_norm=e)
        for e, ranks in zip(exam.certified, bounds, strict=True)
    ]
    return found + certain


def _doubts(
    subject: Subject, model: Model, params: Params, on: bench.Bench, exam: Exam, seed: int
) -> list[gradient_masking.Flag]:
    """The flags of gradient masking at the larger relative epsilon."""
    return gradient_masking.inspect(
        model,
        params,
        model_robustness.protocol(model, params, on, num_users=exam.num_doubted, seed=seed),
        surface=subject.surface,
        key=jax.random.key(seed),
        epsilon=exam.epsilons["relative"][-1],
        adversary=model_robustness.ADVERSARY,
        num_steps=exam.flag_steps,
        black_box=exam.black_box,
        k=min(10, on.both.num_items),
    )
