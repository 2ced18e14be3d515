"""The exam of a board's rows: trained, chosen on validation under attack, and then put through the same attacks.

Each final model is attacked anew, white box, by one perturbation for all users, which raises the loss of the model's
own clean lists: in units of the scores' spread, so that it does not saturate (`model_robustness`), and through whatever
the model does to its tables. It is certified, where its scores are dot products, and looked at for gradient masking.
Budgets are relative to row norms, so that growing them buys nothing; an absolute one may stand beside.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxrec import bench, display, files, gradient_masking, measurements, metrics, robustness
from jaxrec.certificates import dot_product
from jaxrec.robustness import Measurement
from jaxrec.studies import model_robustness, model_table
from jaxrec.studies.board import Row, Setting, Subject, row_norms
from jaxrec.types import InputError, Model, Params, Surface

CERTIFIED = "certified (any adversary)"
MEMBERS_APART = 1000  # between the seeds of the trainings that one seed's ensemble is made of


class Exam(NamedTuple):
    """What every final model is put through.

    Attributes:
        attacks: {name: epsilon -> attack}: noise, and what is as strong as can be paid for.
        epsilons: {unit: radii}, as in `robustness.measure`.
        certified: Relative epsilons, smaller ones: certificates give out long before attacks succeed.
        choosing: The attack under which validation chooses, at the first relative epsilon.
        num_users: Random users who are listed, ranked and attacked, the same for every row and training.
        num_doubted: Of whom the flags of gradient masking are asked, for the first seed; with 0 none is.
        flag_steps: Gradient steps of the attacks that flags compare.
        black_box: As in `gradient_masking.inspect`.
        seed: Of who these users are.
    """

    attacks: Mapping[str, robustness.MakeAttack]
    epsilons: Mapping[str, Sequence[float]]
    certified: Sequence[float]
    choosing: robustness.MakeAttack
    num_users: int
    num_doubted: int
    flag_steps: int
    black_box: Mapping[str, Any]
    seed: int


class Cell(NamedTuple):
    """What one seed of a row gave.

    Attributes:
        measured: Clean, under each attack at each budget, and what is certain.
        about: {"setting": words, "tried": {words: {metric: value}} of validation, "step", "seconds" of training over
            each of the subject's epochs (a teacher's and all members' added), "gauge", "sizes": {table: mean row norm},
            "flags": of gradient masking}.
    """

    measured: list[Measurement]
    about: dict[str, Any]


class Final(NamedTuple):
    """A setting's final model for one seed; its params know no interactions yet."""

    model: Model
    surface: Surface
    params: Params
    step: int
    seconds: float


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
                about = files.read_json(path.with_suffix(".json"))
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
    final = finish(directory, row, setting, on, seed)
    display.say(f"{row.name}, seed {seed}, {setting.words}: attacks")
    measured = _attacked(row.subject, final, on, exam, seed)
    flags = _doubts(row.subject, final, on, exam, seed) if is_first and exam.num_doubted else []
    about = {
        "setting": setting.words,
        "tried": tried,
        "step": final.step,
        "seconds": final.seconds,
        "gauge": final.model.gauge,
        "sizes": {name: float(size) for name, size in row_norms(final.surface.get(final.params)).items()},
        "flags": [flag._asdict() for flag in flags],
    }
    files.write_json(path.with_suffix(".json"), about)
    measurements.write(path, measured)


def finish(directory: pathlib.Path, row: Row, setting: Setting, on: bench.Bench, seed: int) -> Final:
    """Trains what a setting is made of, from where that stopped: its teacher, and all members with their own starts."""
    training, subject, params, seconds, step = row.trainings[setting.words], row.subject, [], 0.0, 0
    fit = training.fit
    if fit is None:
        raise ValueError(f"Expected a fit of {training.name}.")
    for member in range(setting.num_members):
        its_seed = seed + MEMBERS_APART * member
        done, *teachers = (model_table.finish(directory, of, on, its_seed) for of in (training, *fit.parts[1:]))
        params.append(done.params)
        seconds += sum(each.seconds for each in (done, *teachers)) * fit.num_epochs / subject.epochs
        step += done.step
    model, surface = setting.model or subject.model, setting.surface or subject.surface
    return Final(model, surface, setting.after(*params), step, seconds)


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
            scores[setting.words] = _validated(finish(directory, row, setting, on, seed), on, exam, seed)
        files.write_json(path, scores)
    scores = files.read_json(path)
    if set(scores) != {setting.words for setting in row.settings}:
        raise InputError(f"Expected {path} to name the settings of {row.name}, got {', '.join(scores)}. Remove it.")
    best = max(row.settings, key=lambda setting: scores[setting.words]["valid_robust_ndcg"])
    return best, scores


def _validated(final: Final, on: bench.Bench, exam: Exam, seed: int) -> dict[str, float]:
    """NDCG of validation items, clean and under the attack that chooses."""
    params = final.model.knowing(final.params, on.split.train)
    ranked = model_robustness.protocol(final.model, params, on, num_users=exam.num_users, seed=exam.seed, valid=True)
    clean, attacked = robustness.measure(
        final.model,
        params,
        ranked,
        {"choosing": exam.choosing},
        {"relative": exam.epsilons["relative"][:1]},
        surface=final.surface,
        key=jax.random.key(seed),
        adversary=model_robustness.ADVERSARY,
    )
    k, num = ranked.list_length, on.both.num_items
    ndcg = lambda each: float(metrics.ndcg(each.ranks.ranks, k, num).mean())
    return {"valid_ndcg": ndcg(clean), "valid_robust_ndcg": ndcg(attacked)}


def _attacked(subject: Subject, final: Final, on: bench.Bench, exam: Exam, seed: int) -> list[Measurement]:
    """Clean, under each attack at each budget, and what is certain, on the test items."""
    params = final.model.knowing(final.params, on.both)
    ranked = model_robustness.protocol(final.model, params, on, num_users=exam.num_users, seed=exam.seed)
    found = robustness.measure(
        final.model,
        params,
        ranked,
        exam.attacks,
        exam.epsilons,
        surface=final.surface,
        key=jax.random.key(seed),
        adversary=model_robustness.ADVERSARY,
        oracle=model_robustness.ORACLE,
    )
    if subject.bounds is None or final.model is not subject.model:
        return found
    factors, budget = subject.bounds(params)
    bounds = dot_product.certify(factors, ranked.ranking, budget, exam.certified, fall=dot_product.pairwise)
    certain = [
        dataclasses.replace(found[0], attack=CERTIFIED, epsilon=e, unit="relative", ranks=ranks, achieved_norm=e)
        for e, ranks in zip(exam.certified, bounds, strict=True)
    ]
    return found + certain


def _doubts(subject: Subject, final: Final, on: bench.Bench, exam: Exam, seed: int) -> list[gradient_masking.Flag]:
    """The flags of gradient masking at the larger relative epsilon."""
    model, params = final.model, final.model.knowing(final.params, on.both)
    if model is not subject.model and subject.model.reads is not None:
        # A wrapped model may not say that it reads no rows of users who are not listed: they have no gradient by right.
        named = lambda table: (subject.model.reads or {}).get(table.rpartition("/")[2], ())
        reads = {name: columns for name in final.surface.get(params) if (columns := named(name))}
        model = dataclasses.replace(model, reads=reads)
    return gradient_masking.inspect(
        model,
        params,
        model_robustness.protocol(model, params, on, num_users=exam.num_doubted, seed=exam.seed),
        surface=final.surface,
        key=jax.random.key(seed),
        epsilon=exam.epsilons["relative"][-1],
        adversary=model_robustness.ADVERSARY,
        num_steps=exam.flag_steps,
        black_box=exam.black_box,
        rescaled=None if final.model is subject.model else {},  # of a wrapped model none is known
        k=min(10, on.both.num_items),
    )
