"""Fake rows that are learned: gradient steps in the convex hull of the profiles that a budget allows, then rounding.

Projected gradient on relaxed rows as in Tang, Wen and Wang, RecSys 2020, arXiv:2008.04876. They project onto zeros and
ones; these rows stay in the hull of all profiles of n fillers until the end, so that each always spends its budget.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, fake_profiles, injection, norms
from jaxrec.fake_profiles import Budget
from jaxrec.injection import Outer, Surrogate
from jaxrec.types import Array, Interactions, Key, Poison, PyTree, Scalar


class Hull(NamedTuple):
    """The convex hull of the profiles: zeros and ones with n ones among the free items, the others fixed.

    Attributes:
        free: bool [I], where fillers may be.
        fixed: [I], the values elsewhere: 1 for the targets of a push, 0.
        num_fillers: n; at most the number of free items.
    """

    free: Array
    fixed: Array
    num_fillers: int | Array


def attack(budget: Budget, surrogate: Surrogate, *, num_steps: int, step_size: float, temperature: float) -> Poison:
    """Builds the attack that learns the fillers of all fakes together, from the gradient of a surrogate.

    Args:
        budget: What may be spent.
        surrogate: The recommender that is trained with the fakes at each step.
        num_steps: Gradients, each of a whole training.
        step_size: How far each row moves in a step, L2; two profiles of n fillers lie up to sqrt(2 n) apart.
        temperature: Of `injection.promotion`.

    Returns:
        `(key, interactions, targets) -> fakes`, from rows of noise around equal shares. The surrogate reads who has
        what, and no rating: fillers get the highest one, and the targets of a nuke count as not had.

    Raises:
        ValueError: If `num_steps` is negative, or a size is not above 0 and finite; the attack itself as
            `fake_profiles.know` and `injection.audience`.
    """
    check(num_steps=num_steps, step_size=step_size, temperature=temperature)

    def learned(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        walked = {"num_steps": num_steps, "step_size": step_size, "temperature": temperature}
        known, hull, rows = learn(key, budget, surrogate, interactions, targets, **walked)
        if budget.num_fakes == 0:
            return fake_profiles.fakes(known, (np.zeros((0, 0), int), None))
        return fake_profiles.fakes(known, fake_profiles.all_rated(known, fillers(rows, hull), "highest"))

    return learned


def learn(
    key: Key,
    budget: Budget,
    surrogate: Surrogate,
    interactions: Interactions,
    targets: np.ndarray,
    *,
    num_steps: int,
    step_size: float,
    temperature: float,
) -> tuple[fake_profiles.Known, Hull, Array]:
    """What `attack` knows, the hull it walks in, and the rows [M, I] that it has learned there, not rounded yet.

    Args and errors are those of `attack`.
    """
    know_key, noise_key, start_key = jax.random.split(key, 3)
    known = fake_profiles.know(know_key, interactions, targets, budget)
    hull = hull_of(known)
    outer = injection.promoting(injection.audience(interactions, targets), temperature)
    rows = noise(noise_key, budget.num_fakes, hull)
    if budget.num_fakes:
        signed = step_size if budget.direction == "push" else -step_size
        rows = walk(start_key, surrogate, interactions, outer, hull, rows, num_steps, signed)
    return known, hull, rows


def check(*, num_steps: int, **sizes: float) -> None:
    """Raises a ValueError if the number of steps is negative, or a size is not above 0 and finite."""
    if num_steps < 0:
        raise ValueError(f"Expected num_steps >= 0, got num_steps={num_steps}.")
    for name, value in sizes.items():
        checks.positive(**{name: value})


def walk(
    key: Key,
    surrogate: Surrogate,
    interactions: Interactions,
    outer: Outer,
    hull: Hull,
    rows: Array,
    num_steps: int,
    step_size: Scalar,
) -> Array:
    """The rows [M, I] after `num_steps` of `step`, beside the interactions; the key draws the surrogate's start."""
    data = surrogate.prepare(interactions, len(rows))
    start = surrogate.init(data, key, len(rows))
    for _ in range(num_steps):
        rows, start, _ = step(surrogate, data, outer, hull, step_size, rows, start)
    return rows


def hull_of(known: fake_profiles.Known) -> Hull:
    """The hull of the profiles that an attacker may make."""
    fixed = np.zeros(len(known.free), jnp.zeros(()).dtype)
    if known.budget.direction == "push":
        fixed[known.targets] = 1
    return Hull(jnp.asarray(known.free), jnp.asarray(fixed), known.budget.num_fillers)


def noise(key: Key, num_fakes: int, hull: Hull) -> Array:
    """Rows [M, I] of the hull, each entry uniform between nothing and twice its equal share."""
    share = hull.num_fillers / jnp.maximum(hull.free.sum(), 1)
    return project(2 * share * jax.random.uniform(key, (num_fakes, len(hull.free))), hull)


@functools.partial(jax.jit, static_argnames="surrogate")
def step(
    surrogate: Surrogate,
    data: PyTree,
    outer: Outer,
    hull: Hull,
    step_size: Scalar,
    rows: Array,
    start: PyTree,
) -> tuple[Array, PyTree, tuple[Array, Array]]:
    """A step that lowers the outer loss, or raises it where `step_size < 0`.

    Returns:
        The rows [M, I] after it, the start of the next training; and the outer loss and its gradient [M, I] before it.
    """
    (loss, solution), gradient = injection.inner(surrogate, data, outer, start, rows)
    moved = rows - step_size * norms.L2.steepest(jnp.where(hull.free[None], gradient, 0))
    return project(moved, hull), surrogate.again(start, solution), (loss, gradient)


def project(rows: Array, hull: Hull) -> Array:
    """The nearest points [M, I] of the hull: each row's free entries, shifted alike and cut to [0, 1], sum to n.

    The shift is found by bisection, to the precision of the type.
    """

    def cut(shift):
        return jnp.where(hull.free[None], jnp.clip(rows - shift[:, None], 0, 1), 0)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        too_much = cut(middle).sum(axis=1) > hull.num_fillers
        return jnp.where(too_much, middle, low), jnp.where(too_much, high, middle)

    ends = rows.min(axis=1) - 1, rows.max(axis=1)
    low, high = jax.lax.fori_loop(0, jnp.finfo(rows.dtype).nmant + 2, halve, ends)
    return jnp.where(hull.free[None], cut((low + high) / 2), hull.fixed[None])


def fillers(rows: Array, hull: Hull) -> np.ndarray:
    """The n free items of largest value in each row [M, I], [M, n] on the host."""
    values = np.where(np.asarray(hull.free)[None], np.asarray(rows), -1)
    return np.argsort(-values, axis=1, kind="stable")[:, : int(hull.num_fillers)]
