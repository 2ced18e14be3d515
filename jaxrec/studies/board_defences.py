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

from jaxrec import min_max, norms, worst_of
from jaxrec.attacks import fgsm, pgd
from jaxrec.defences import (
    apr,
    certified_margin,
    contrastive,
    distillation,
    edge_dropout,
    fast,
    free,
    mixed,
    multi_norm,
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
from jaxrec.studies import board, board_controls
from jaxrec.studies.board import TEACHER, UNITS, Defence, Setting, Subject
from jaxrec.types import Attack, Model, Objective, Params


def carrying(make: board.Make, **options: Any) -> Defence:
    """As `board.by_radius`, where the state carries a perturbation."""
    return lambda on: board.by_radius(make, carried=min_max.nothing(on.surface), **options)(on)


def against(attack: Callable[[Subject, float], Attack]) -> Defence:
    """APR against an attack."""
    return board.by_radius(lambda on, radius: _apr(on, attack(on, radius)))


def comparing(defence: ModuleType, attack: Callable[[float], Attack]) -> Defence:
    """Of lists before and after an attack: TRADES or virtual adversarial training."""
    return board.by_radius(
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
    return board.by_radius(
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
    **board_controls.ALL,
    "APR": against(one_step),
    "PGD-3 training": against(three_steps),
    "free": carrying(
        lambda on, radius: free.objective(clean=on.clean, surface=on.relative, epsilon=radius), num_replays=4
    ),
    "fast": board.by_radius(lambda on, radius: fast.objective(clean=on.clean, surface=on.relative, epsilon=radius)),
    "periodic PGD-3": carrying(every_other_epoch),
    "multi-norm, average": board.by_radius(
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
    "tail-aware": board.by_radius(sparing_the_tail, dense=True),
    "SAM": sharpness_aware,
    "AWP": board.by_radius(perturbed_weights),
    "distillation": distilled,
    "mixed": board.by_radius(in_place_of_some),
    "scheduled": board.by_radius(ramp),
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
