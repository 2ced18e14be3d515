"""A board of defences: each on each model, from the same start, for as many epochs, under the same attacks at the end.

A subject is a model with its own clean training. Every defence goes on from the subject's clean tables for as many
epochs, on the same batches with the same negatives, those of the epochs after the start's, the optimiser anew (as in
He et al., SIGIR 2018), and so does the clean loss: the row that the others are held against. A row may try a few
settings, every row as many. `board_exam` trains and measures, `board_records` says what was found.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from jaxrec import consistency, factor_bounds, sampling, surfaces
from jaxrec.certificates import dot_product
from jaxrec.defences import penalties
from jaxrec.studies import model_table
from jaxrec.types import InputError, Interactions, Model, Objective, Params, Surface

PLAIN = "plain"  # the defence that is none
TEACHER = "teacher"  # by which a teacher's params stand under params["given"]
UNITS = "units"  # and the mean row norms of the subject's clean tables, in which training's radii are


class Subject(NamedTuple):
    """A model that is defended, and its clean training.

    Attributes:
        clean_of: A model in its form, wrapped or not -> what it minimises without a defence, but for `l2`.
        softened: Temperature -> the loss of a teacher (`defences.distillation`).
        smoothed: Smoothing -> the clean loss with smoothed labels (`defences.label_smoothing`).
        list_scores: The lists that consistency losses compare.
        surface: What adversaries perturb at the end, and in training as `relative`.
        radii: Of training's adversaries, in mean row norms of the clean tables; one for each setting that a row tries.
        adv_weight: Of the adversarial loss.
        training: In words, for the records.
        start_epochs, epochs: Of the clean loss before, and of every row from there.
        l2: Of the rows that a batch reads (`defences.penalties`), once in what every row of the board minimises.
        train: The interactions it is trained on.
        draw, examples: As in `model_table.Fit`.
        bounds: From `factor_bounds`; None where scores are no dot products.
        factors: Params -> the rows whose dot products the scores are, as they are trained; None where they are none.
    """

    name: str
    model: Model
    clean_of: Callable[[Model], Objective]
    softened: Callable[[float], Objective]
    smoothed: Callable[[float], Objective]
    list_scores: consistency.ListScores
    surface: Surface
    radii: tuple[float, ...]
    optimizer: optax.GradientTransformation
    batch_size: int
    training: str
    start_epochs: int
    epochs: int
    train: Interactions
    adv_weight: float = 1.0
    l2: float = 0.0
    draw: sampling.Draw = sampling.negatives
    examples: Callable[[Interactions], Interactions] = lambda pairs: pairs
    bounds: factor_bounds.Bounds | None = None
    factors: Callable[[Params], dot_product.Factors] | None = None

    @property
    def clean(self) -> Objective:
        """What the model minimises without a defence, but for `l2`."""
        return self.clean_of(self.model)

    @property
    def relative(self) -> Surface:
        """`surface` in units that training does not change: the mean row norms of the clean tables it started from.

        Every row's params have them under params["given"][UNITS], so that one radius means as much for each model.
        Training that grows its rows gets a relatively smaller adversary, as at an absolute radius; the exam, whose
        radii are shares of the final norms, shows it.
        """
        units = lambda params: surfaces.scaled(self.surface, params["given"][UNITS])
        return Surface(get=lambda params: units(params).get(params), put=lambda params, x: units(params).put(params, x))


class Setting(NamedTuple):
    """A way of training that a row tries.

    Attributes:
        words: What tells it from the row's others.
        objective: What it minimises.
        dense: Steps must be on whole tables.
        teacher: An objective that is trained before, from the same start for as many epochs; then the params it gave,
            without what they were given, stand under params["given"]["teacher"].
        optimizer: In place of the subject's.
        model: What is trained, ranked and attacked in place of the subject's; with `trained_as` it is not trained.
        surface: What is attacked in place of the subject's, of a model with other tables.
        carried: As in `model_table.Fit`.
        num_replays: Steps on each batch (`train.replayed`), and as many times fewer epochs, at least one.
        num_members: Trainings, with seeds of their own, whose params `after` gets.
        after: What is done to the trained params.
        trained_as: The DEFENCE, SETTING whose training this is, where it is another's.
    """

    words: str
    objective: Objective
    dense: bool = False
    teacher: Objective | None = None
    optimizer: optax.GradientTransformation | None = None
    model: Model | None = None
    surface: Surface | None = None
    carried: Callable[[Params], dict[str, jax.Array]] = lambda params: {}
    num_replays: int = 1
    num_members: int = 1
    after: Callable[..., Params] = lambda params: params
    trained_as: str | None = None


row_norms = jax.jit(surfaces.row_scales)  # {table: mean row norm}, of arrays of the host too
Defence = Callable[[Subject], Sequence[Setting] | str]  # the settings it tries, or why it does not apply
Make = Callable[[Subject, float], Objective]  # (subject, radius) -> what is minimised


def by_radius(make: Make, **options: Any) -> Defence:
    """One setting for each radius of training's adversary."""
    return lambda on: [Setting(f"epsilon {radius:g} relative", make(on, radius), **options) for radius in on.radii]


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
    name, parts = setting.trained_as or f"{defence}, {setting.words}", (start,)
    after_start = {"start": lambda params, *_: params, "first_epoch": subject.start_epochs}
    units = lambda params: row_norms(subject.surface.get(params))
    given = lambda params: {UNITS: units(params)}
    if setting.teacher is not None:
        teacher = _training(subject, f"{name}, teacher", setting.teacher, **after_start, parts=parts)
        learned = lambda params: {part: params[part] for part in ("tables", "weights")}
        parts, given = (start, teacher), lambda start, params: {UNITS: units(start), TEACHER: learned(params)}
    model = subject.model if setting.trained_as else setting.model or subject.model
    own = {
        "model": dataclasses.replace(model, reads=None) if setting.dense else model,
        "optimizer": setting.optimizer or subject.optimizer,
        "num_epochs": max(subject.epochs // setting.num_replays, 1),
        "num_replays": setting.num_replays,
        "carried": setting.carried,
    }
    return _training(subject, name, setting.objective, **own, **after_start, parts=parts, given=given)


def _training(subject: Subject, name: str, objective: Objective, **others: Any) -> model_table.Row:
    """A training on the subject's batches, of its model, by its optimiser, for `Subject.epochs`, but for `others`."""
    shared = {field: getattr(subject, field) for field in ("model", "optimizer", "batch_size", "draw", "examples")}
    options = {**shared, "num_epochs": subject.epochs, **others}
    penalised = penalties.objective(clean=objective, l2=subject.l2) if subject.l2 else objective
    fit = model_table.by_steps(objective=penalised, **options)
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
