"""Predicted ratings: how good they are, and how far an adversary must move the tables to drive the 4s among them down.

The adversary knows the model and which predictions it wants changed, and moves rows of both tables (more than any real
user can do). Two threat models stand beside each other, and are not to be confused:

    shared    one perturbation of the tables serves all predictions (`targeted.rating`, by gradient attacks)
    private   each prediction has an adversary, and a copy of the two rows, of its own (`certificates.rating`, exact)

Every shared perturbation is a private one for each prediction, so at no epsilon are more predictions driven down by the
first than by the second, and the second's smallest epsilon is a lower bound of the first's.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import adversaries, robustness, surfaces, targeted
from jaxrec.certificates import rating as certificate
from jaxrec.types import Array, Interactions, Key, Model, Params, Surface

FOUR = (3.5, 4.5)  # predictions in [3.5, 4.5) are shown as 4
TARGET, REACHED = 1.0, 1.5  # where they are driven to, and what counts as there
LEVELS = (0.5, 0.8)  # shares of the 4s whose smallest epsilon is asked for
PRIVATE = "private, exact"
_NUM_BISECTIONS = 6  # of a step of the grid: to a 64th of it
_FURTHEST = 10  # the private search ends at this many times the largest epsilon


class Threat(NamedTuple):
    """What is perturbed: `surface` of the params, whether the rows on it end with biases, and its name for records."""

    surface: Surface
    biases: bool
    name: str


class Curve(NamedTuple):
    """What one attack did to the predicted 4s of one model, in one unit.

    Attributes:
        attack, surface, unit: Which; the unit is that of `robustness.measure`.
        epsilons: Of the grid, rising.
        shares: Of the 4s, those that end at 1.5 or below, at each epsilon.
        achieved_norms: Largest norm of a perturbed row, at each epsilon.
        smallest: At each of `LEVELS` the smallest epsilon that drives as large a share down; None where the largest
            epsilon of the grid does not. A share need not rise with epsilon, as an attack may step too far: it is the
            first step of the grid that crosses the level, bisected.
        gradient_evaluations, queries: Of one attack.
    """

    attack: str
    surface: str
    unit: str
    epsilons: Sequence[float]
    shares: Sequence[float]
    achieved_norms: Sequence[float]
    smallest: Sequence[float | None]
    gradient_evaluations: int
    queries: int


class Bench(NamedTuple):
    """Attacks on the predictions of some pairs, each compiled once for all epsilons, units and trained params.

    Attributes:
        model, test: Whose predictions, and of which pairs.
        threats: What is perturbed.
        attacks: {(threat's name, attack's name): (key, params, scales, where, epsilon) -> (predictions, info)}.
    """

    model: Model
    test: Interactions
    threats: Sequence[Threat]
    attacks: Mapping[tuple[str, str], Callable]


def bench(
    model: Model,
    train: Interactions,
    test: Interactions,
    threats: Sequence[Threat],
    attacks: Mapping[str, robustness.MakeAttack],
) -> Bench:
    """Lays out what is attacked, and how.

    Args:
        model: With embeddings and biases in its rows, as `biased_mf`.
        train: What it learnt from.
        test: Pairs whose predictions are attacked where they are about 4.
        threats: What is perturbed.
        attacks: {name: epsilon -> attack}.
    """
    known = adversaries.prepare(train, jax.random.key(0))  # of it `targeted.rating` reads no more than sizes

    def compiled(surface, make):
        @jax.jit
        def perturb(key, params, scales, where, epsilon):
            units = surfaces.scaled(surface, scales)
            adversary = targeted.rating(test.users, test.items, where=where, target=TARGET)
            x = units.get(params)
            delta, info = make(epsilon)(key, adversary(model, params, units, known), x)
            perturbed = units.put(params, jax.tree.map(jnp.add, x, delta))
            return _score(model, perturbed, test.users, test.items), info

        return perturb

    made = {(threat.name, name): compiled(threat.surface, make) for threat in threats for name, make in attacks.items()}
    return Bench(model, test, threats, made)


def measure(
    bench: Bench,
    params: Params,
    epsilons: Mapping[str, Sequence[float]],
    *,
    key: Key,
    report: Callable[[Curve], None] = lambda curve: None,
) -> list[Curve]:
    """Drives the predicted 4s of one trained model down.

    Args:
        bench: From `bench`.
        params: Of its model.
        epsilons: {unit: radii}, at each of which the share is measured.
        key: Every attack at every epsilon starts from it.
        report: Called with each curve as it is made.

    Returns:
        For each threat and unit a curve of each attack, and that of the private adversaries, named `PRIVATE`.

    Raises:
        ValueError: If no prediction is about 4.
    """
    where = fours(predictions(bench.model, params, bench.test))
    if not where.any():
        raise ValueError("Expected a test pair whose predicted rating is about 4, got none.")
    found = []
    for threat in bench.threats:
        for unit, radii in epsilons.items():
            victim, scales = robustness.in_unit(bench.model, threat.surface, unit, params)
            fixed: dict[str, Any] = {"surface": threat.name, "unit": unit, "epsilons": sorted(radii)}
            for (name, attack), perturb in bench.attacks.items():
                if name == threat.name:
                    ask = functools.partial(_share, perturb, key, victim, scales, jnp.asarray(where))
                    found.append(_attacked(ask, attack=attack, **fixed))
                    report(found[-1])
            pairs = _pairs(bench.model, victim, bench.test.users, bench.test.items)
            found.append(_private(pairs, scales, where, biases=threat.biases, **fixed))
            report(found[-1])
    return found


def num_curves(bench: Bench, epsilons: Mapping[str, Sequence[float]]) -> int:
    """How many curves `measure` makes."""
    return (len(bench.attacks) + len(bench.threats)) * len(epsilons)


def predictions(model: Model, params: Params, pairs: Interactions) -> np.ndarray:
    """The predicted ratings [N] of pairs, as they are: not cut to the scale."""
    return np.asarray(_score(model, params, pairs.users, pairs.items))


def fours(predicted: np.ndarray) -> np.ndarray:
    """bool [N], which predictions are shown as 4."""
    return (predicted >= FOUR[0]) & (predicted < FOUR[1])


def crossing(
    share: Callable[[float], float], epsilons: Sequence[float], shares: Sequence[float], level: float
) -> float | None:
    """The smallest epsilon at which a share reaches a level: the first step of a rising grid that does, bisected.

    Args:
        share: epsilon -> share, which is 0 at epsilon 0.
        epsilons, shares: The grid.
        level: In (0, 1].

    Returns:
        An epsilon that does, at most 2^-6 of its step of the grid above one that does not; None if none of the grid
        does.
    """
    place = next((place for place, value in enumerate(shares) if value >= level), None)
    if place is None:
        return None
    low, high = (epsilons[place - 1] if place else 0.0), epsilons[place]
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if share(middle) >= level else (middle, high)
    return high


@functools.partial(jax.jit, static_argnums=0)
def _score(model: Model, params: Params, users: Array, items: Array) -> Array:
    return model.score(params, users, items)


def _share(
    perturb: Callable, key: Key, params: Params, scales: Any, where: Array, epsilon: float
) -> tuple[float, dict[str, Any]]:
    """The share of the 4s that end at 1.5 or below, and what the attack did."""
    after, info = jax.device_get(perturb(key, params, scales, where, jnp.float32(epsilon)))
    return float(np.mean(after[np.asarray(where)] <= REACHED)), info


def _attacked(ask: Callable[[float], tuple[float, dict[str, Any]]], **fixed: Any) -> Curve:
    """The curve of a gradient attack, or of noise."""
    measured = [ask(epsilon) for epsilon in fixed["epsilons"]]
    shares = [share for share, _ in measured]
    infos = [info for _, info in measured]
    share = lambda epsilon: ask(epsilon)[0]
    return Curve(
        **fixed,
        shares=shares,
        achieved_norms=[float(np.max(np.concatenate(jax.tree.leaves(info["norms"])))) for info in infos],
        smallest=[crossing(share, fixed["epsilons"], shares, level) for level in LEVELS],
        gradient_evaluations=int(infos[0]["gradient_evaluations"]),
        queries=int(infos[0]["queries"]),
    )


@functools.partial(jax.jit, static_argnums=0)
def _pairs(model: Model, params: Params, users: Array, items: Array) -> certificate.Pairs:
    """What the private adversaries are up against; the last column of a table is its biases."""
    user, item = params["tables"]["user"][users, :-1], params["tables"]["item"][items, :-1]
    return certificate.pairs_of(model.score(params, users, items), user, item)


_radii = jax.jit(certificate.radii, static_argnames=("biases", "target", "largest"))


def _private(pairs: certificate.Pairs, scales: Any, where: np.ndarray, *, biases: bool, **fixed: Any) -> Curve:
    """The curve of the adversaries who each have one prediction."""
    epsilons = fixed["epsilons"]
    largest = _FURTHEST * max(epsilons)
    radii = _radii(pairs, scales["user"], scales["item"], target=REACHED, biases=biases, largest=largest)
    radii = np.sort(np.asarray(radii, np.float64)[where])
    at_level = [float(radii[int(np.ceil(level * len(radii))) - 1]) for level in LEVELS]
    return Curve(
        **fixed,
        attack=PRIVATE,
        shares=[float(np.mean(radii <= epsilon)) for epsilon in epsilons],
        achieved_norms=list(epsilons),
        smallest=[epsilon if epsilon <= max(epsilons) else None for epsilon in at_level],
        gradient_evaluations=0,
        queries=0,
    )
