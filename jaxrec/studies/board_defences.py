"""The defences of a board: each maps a subject to the settings that it tries, or says why it does not apply.

Each tries as many settings as the subject has radii. Radii of adversaries are shares of the mean row norms of the
clean tables (`Subject.relative`), so that one list serves all models.
"""

import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np
import optax

from jaxrec import losses, min_max, norms, objectives, surfaces, worst_of
from jaxrec.attacks import fgsm, pgd
from jaxrec.defences import (
    apr,
    certified_margin,
    contrastive,
    distillation,
    dropout,
    edge_dropout,
    fast,
    free,
    mixed,
    multi_norm,
    noise,
    normalised,
    penalties,
    periodic,
    reweighted,
    sam,
    scheduled,
    smoothing,
    tail_aware,
    trades,
    truncated,
    virtual_adversarial,
    vulnerability_aware,
    weight_perturbation,
)
from jaxrec.models import ensemble
from jaxrec.studies.board import PLAIN, TEACHER, UNITS, Defence, Setting, Subject
from jaxrec.types import Attack, Model, Objective, Params

Make = Callable[[Subject, float], Objective]  # (subject, radius) -> what is minimised


def by_radius(make: Make, **options: Any) -> Defence:
    """One setting for each radius of training's adversary."""
    return lambda on: [Setting(f"epsilon {radius:g} relative", make(on, radius), **options) for radius in on.radii]


def carrying(make: Make, **options: Any) -> Defence:
    """The same where the state carries a perturbation."""
    return lambda on: by_radius(make, carried=min_max.nothing(on.surface), **options)(on)


def against(attack: Callable[[Subject, float], Attack]) -> Defence:
    """APR against an attack."""
    return by_radius(lambda on, radius: _apr(on, attack(on, radius)))


def comparing(defence: ModuleType, attack: Callable[[float], Attack]) -> Defence:
    """Of lists before and after an attack: TRADES or virtual adversarial training."""
    return by_radius(
        lambda on, radius: defence.objective(
            clean=on.clean,
            model=on.model,
            attack=attack(radius),
            surface=on.relative,
            list_scores=on.list_scores,
            adv_weight=on.adv_weight,
        )
    )


def of_clicks(make: Callable[[Model, float], Objective], words: str, values: Sequence[float]) -> Defence:
    """A loss for noisy clicks."""

    def settings(on: Subject) -> Sequence[Setting] | str:
        if on.name != "NeuMF":
            return "it changes the cross-entropy of single pairs, which this model is not trained on"
        return [Setting(f"{words} {value:g}", make(on.model, value)) for value in values]

    return settings


def plain(on: Subject) -> list[Setting]:
    """No defence: the clean loss goes on."""
    slower = optax.chain(on.optimizer, optax.scale(0.3))
    return [Setting("clean loss", on.clean), Setting("clean loss, learning rate x .3", on.clean, optimizer=slower)]


def grown(on: Subject) -> Sequence[Setting] | str:
    """A control: plain tables scaled up, which is the same model."""
    if on.bounds is None:
        return "its scores are no products of its tables, so that growing them changes the lists"
    grow = lambda params: {**params, "tables": jax.tree.map(lambda x: 10 * x, params["tables"])}
    return [
        each._replace(words=f"{each.words}, tables x 10", after=grow, trained_as=f"{PLAIN}, {each.words}")
        for each in plain(on)
    ]


def random_rows(on: Subject, radius: float) -> Objective:
    """A control: random rows where an adversary's would be."""
    return noise.objective(clean=on.clean, surface=on.relative, epsilon=radius, adv_weight=on.adv_weight)


def penalised(on: Subject) -> Sequence[Setting] | str:
    """A control: L2."""
    if on.model.sequence is not None:
        return "it has no rows of users to weigh beside those of items"
    return [Setting(f"L2 {l2:g}", penalties.objective(clean=on.clean, l2=l2)) for l2 in (0.001, 0.01)]


def dropped(on: Subject) -> list[Setting]:
    """A control: dropout on rows."""
    under = lambda rate: dropout.objective(clean=on.clean, surface=on.surface, rate=rate)
    return [Setting(f"rate {rate:g}", under(rate)) for rate in (0.1, 0.3)]


def of_length_one(on: Subject) -> Sequence[Setting] | str:
    """A control: scores that are cosines."""
    if on.model.score_rows is None:
        return "its scores depend on more than a user's and an item's row"
    models = {t: normalised.wrap(on.model, temperature=t) for t in (0.1, 0.3)}
    return [Setting(f"temperature {t:g}", on.clean_of(model), model=model) for t, model in models.items()]


def smoothed_labels(on: Subject) -> list[Setting]:
    """A control: label smoothing."""
    return [Setting(f"smoothing {share:g}", on.smoothed(share)) for share in (0.1, 0.3)]


def softmaxed(on: Subject) -> Sequence[Setting] | str:
    """A control: a list's softmax, which distillation's student learns from a teacher, learnt from labels."""
    if on.name == "MF":
        make = functools.partial(objectives.among_batch, model=on.model)
        return [Setting(f"of the batch's items, temperature {t:g}", make(loss=losses.softened(t))) for t in (1.0, 5.0)]
    if on.name == "NeuMF":
        return [Setting(f"of the negatives, temperature {t:g}", on.softened(t)) for t in (1.0, 5.0)]
    return "its examples have one negative, of which the softmax is the pairwise loss"


def averaged(on: Subject) -> list[Setting]:
    """A control: the mean of several models' scores, attacked through all of them."""
    (alone, _), names = plain(on), sorted(jax.eval_shape(on.model.init, jax.random.key(0))["tables"])
    make = functools.partial(ensemble.model, num_users=on.train.num_users, num_items=on.train.num_items)

    def of(num: int) -> Setting:
        members = {str(number): on.model for number in range(num)}
        return alone._replace(
            words=f"z-scores of {num} models",
            model=make(members=members),
            surface=surfaces.tables(*(f"{member}/{name}" for member in members for name in names)),
            num_members=num,
            after=lambda *params: ensemble.joined(dict(zip(members, params, strict=True))),
            trained_as=f"{PLAIN}, {alone.words}",
        )

    return [of(2), of(3)]


def one_step(on: Subject, radius: float) -> Attack:
    return fgsm.attack(epsilon=radius)


def three_steps(on: Subject, radius: float) -> Attack:
    return pgd.attack(epsilon=radius, num_steps=3)


def two_norms(on: Subject, radius: float) -> list[Attack]:
    """Two balls of which either may win: one step raises the loss as much in both if a gradient is Gaussian."""
    corner = radius * (math.pi / (2 * _width(on))) ** 0.5
    return [fgsm.attack(epsilon=radius), fgsm.attack(epsilon=corner, norm=norms.LINF)]


def every_other_epoch(on: Subject, radius: float) -> Objective:
    """PGD-3 on an epoch's batches, and what it found again on the next one's."""
    return periodic.objective(
        clean=on.clean,
        attack=three_steps(on, radius),
        surface=on.relative,
        every=2 * _epoch(on),
        fresh=_epoch(on),
        adv_weight=on.adv_weight,
    )


def by_user(on: Subject) -> Sequence[Setting] | str:
    """Vulnerability-aware training."""
    if on.model.sequence is not None:
        return "it has no rows of users to set a radius for"
    return by_radius(
        lambda on, radius: vulnerability_aware.objective(
            clean=on.clean, attack=one_step(on, radius), surface=on.relative, adv_weight=on.adv_weight
        )
    )(on)


def sparing_the_tail(on: Subject, radius: float) -> Objective:
    popularity = np.bincount(on.train.items, minlength=on.train.num_items)
    return tail_aware.objective(
        clean=on.clean,
        attack=one_step(on, radius),
        surface=on.relative,
        scales={"item": tail_aware.scales(popularity)},
        adv_weight=on.adv_weight,
    )


def sharpness_aware(on: Subject) -> list[Setting]:
    """SAM: one ball for all that is trained, in the mean of the tables' units."""

    def at(size: float) -> Objective:
        def objective(params, batch, key, reduce):
            unit = sum(params["given"][UNITS].values()) / len(params["given"][UNITS])
            return sam.objective(clean=on.clean, epsilon=size * unit)(params, batch, key, reduce)

        return objective

    sizes = [10 * radius for radius in on.radii]  # as on 100 rows
    return [Setting(f"epsilon {size:g} relative, over all rows", at(size)) for size in sizes]


def perturbed_weights(on: Subject, radius: float) -> Objective:
    return weight_perturbation.objective(
        clean=on.clean, attack=one_step(on, radius), surface=on.relative, adv_weight=on.adv_weight
    )


def distilled(on: Subject) -> list[Setting]:
    """Defensive distillation: the student of a teacher that was trained before."""
    return [
        Setting(f"temperature {t:g}", functools.partial(_student, on, t), dense=True, teacher=on.softened(t))
        for t in (5.0, 20.0)
    ]


def _student(on: Subject, temperature: float, params: Params, batch, key, reduce):
    learn = distillation.objective(
        model=on.model,
        teacher=on.model,
        teacher_params={**params["given"][TEACHER], "given": params["given"]},
        num_users=on.train.num_users,
        num_items=on.train.num_items,
        list_scores=on.list_scores,
        temperature=temperature,
    )
    return learn(params, batch, key, reduce)


def in_place_of_some(on: Subject, radius: float) -> Objective:
    """Adversarial examples mixed among clean ones."""
    return mixed.objective(
        clean=on.clean, attack=one_step(on, radius), surface=on.relative, relative_weight=on.adv_weight
    )


def ramp(on: Subject, radius: float) -> Objective:
    """APR whose epsilon grows from nothing over half the training."""
    return scheduled.schedule(
        make=lambda epsilon: _apr(on, fgsm.attack(epsilon=epsilon)),
        epsilon=optax.linear_schedule(0.0, radius, max(on.epochs * _epoch(on) // 2, 1)),
    )


def certified(on: Subject) -> Sequence[Setting] | str:
    """Training for certified margins."""
    if on.factors is None:
        return "its scores are no dot products, which the certificate is of"
    make = functools.partial(
        certified_margin.objective,
        clean=on.clean,
        num_users=on.train.num_users,
        num_items=on.train.num_items,
        factors=on.factors,
        adv_weight=on.adv_weight,
    )
    return [Setting(f"epsilon {e:g} of factors", make(epsilon=e), dense=True) for e in (0.02, 0.05)]


def smoothed(on: Subject) -> list[Setting]:
    """Randomised smoothing, attacked through its draws."""

    def at(radius: float) -> Setting:
        sigma = radius / _width(on) ** 0.5  # so that a row's noise is about as long as the radius
        return Setting(
            f"noise {radius:g} relative, 8 draws",
            smoothing.objective(clean=on.clean, surface=on.relative, sigma=sigma),
            dense=True,
            model=smoothing.wrap(on.model, surface=on.relative, sigma=sigma, num_samples=8),
        )

    return [at(radius) for radius in on.radii]


def thinned(on: Subject) -> Sequence[Setting] | str:
    """Edge dropout."""
    if on.name != "LightGCN":
        return "it has no graph"
    return [Setting(f"rate {rate:g}", edge_dropout.objective(clean=on.clean, rate=rate)) for rate in (0.1, 0.3)]


def views(on: Subject) -> Sequence[Setting] | str:
    """Contrast of two augmented views of a history."""
    if on.model.sequence is None:
        return "it reads no histories"
    contrast = lambda share: contrastive.objective(clean=on.clean, model=on.model, weight=share)
    return [Setting(f"weight {share:g}", contrast(share)) for share in (0.1, 1.0)]


def _apr(on: Subject, attack: Attack) -> Objective:
    return apr.objective(clean=on.clean, attack=attack, surface=on.relative, adv_weight=on.adv_weight)


def _width(on: Subject) -> int:
    """Of an item's row."""
    return jax.eval_shape(on.model.init, jax.random.key(0))["tables"]["item"].shape[1]


def _epoch(on: Subject) -> int:
    """Its steps."""
    return -(-len(on.examples(on.train)) // on.batch_size)


ALL: dict[str, Defence] = {
    PLAIN: plain,
    "norms grown (control)": grown,
    "noise (control)": by_radius(random_rows),
    "L2 (control)": penalised,
    "dropout (control)": dropped,
    "normalised (control)": of_length_one,
    "label smoothing (control)": smoothed_labels,
    "softmax (control)": softmaxed,
    "ensemble (control)": averaged,
    "APR": against(one_step),
    "PGD-3 training": against(three_steps),
    "free": carrying(
        lambda on, radius: free.objective(clean=on.clean, surface=on.relative, epsilon=radius), num_replays=4
    ),
    "fast": by_radius(lambda on, radius: fast.objective(clean=on.clean, surface=on.relative, epsilon=radius)),
    "periodic PGD-3": carrying(every_other_epoch),
    "multi-norm, average": by_radius(
        lambda on, radius: multi_norm.objective(
            clean=on.clean, attacks=two_norms(on, radius), surface=on.relative, adv_weight=on.adv_weight
        )
    ),
    "multi-norm, max": against(lambda on, radius: worst_of.shared(two_norms(on, radius))),
    "TRADES": comparing(trades, lambda radius: pgd.attack(epsilon=radius, num_steps=2, random_start=True)),
    "virtual adversarial": comparing(
        virtual_adversarial, lambda radius: virtual_adversarial.power_iteration(epsilon=radius)
    ),
    "vulnerability-aware": by_user,
    "tail-aware": by_radius(sparing_the_tail, dense=True),
    "SAM": sharpness_aware,
    "AWP": by_radius(perturbed_weights),
    "distillation": distilled,
    "mixed": by_radius(in_place_of_some),
    "scheduled": by_radius(ramp),
    "certified margin": certified,
    "smoothing": smoothed,
    "truncated loss": of_clicks(
        lambda model, rate: truncated.objective(model=model, drop_rate=rate), "drop rate", (0.1, 0.2)
    ),
    "reweighted loss": of_clicks(
        lambda model, exponent: reweighted.objective(model=model, exponent=exponent), "exponent", (0.1, 0.25)
    ),
    "edge dropout": thinned,
    "contrastive": views,
}
