"""APGD: projected ascent with momentum, whose steps halve where they no longer help, from the best point found.

Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks",
ICML 2020, arXiv:2003.01690, algorithm 1 (Auto-PGD).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, norms, perturbations
from jaxrec.norms import Norm
from jaxrec.types import Array, Attack, PyTree, Scalar

MOMENTUM = 0.75  # alpha: the share of the new step in a move
IMPROVEMENTS = 0.75  # rho: the share of the steps since a checkpoint that must have raised the loss


class _State(NamedTuple):
    """The search after a step; each array but the trees has one entry for each unit, [N].

    Attributes:
        delta, previous: Where it is, and where it came from.
        losses: At delta.
        best: The candidate (losses, delta) with the highest loss.
        step_size: In units of epsilon.
        improved: Steps since the last checkpoint that raised the loss.
        best_then: The best losses at the last checkpoint.
        halved: Whether the step was halved there.
    """

    delta: PyTree
    previous: PyTree
    losses: Array
    best: tuple[Array, PyTree]
    step_size: Array
    improved: Array
    best_then: Array
    halved: Array


def attack(*, epsilon: Scalar, norm: Norm = norms.L2, num_steps: int = 100) -> Attack:
    """Builds the attack that has no step size to tune.

        z <- project(delta + step_size * steepest(grad))
        delta <- project(delta + .75 * (z - delta) + .25 * (delta - previous))

    The step size begins at 2 * epsilon. At each checkpoint a unit's step is halved, and its search goes on from its
    best point, if fewer than .75 of the steps since the last checkpoint raised its loss (condition 1), or if neither
    its step size nor its best loss changed since then (condition 2). Units, one for each of the oracle's losses, are
    searched apart.

    Args:
        epsilon: Radius of the ball around each row. May be traced.
        norm: The norm of the ball, of the step and of the projection. (With `norms.L1` it is the same algorithm with
            steepest L1 steps, not the L1-APGD of Croce and Hein, ICML 2021.)
        num_steps: Gradient steps. They decide the checkpoints, so fewer steps are not a part of more.

    Returns:
        `(key, oracle, x) -> (delta, info)`: for each unit the point with the highest loss met, delta = 0 among them,
        where the search starts. Each row of `delta` lies in the ball, entries outside the oracle's mask are zero and
        x + delta lies in its box; a row whose gradient is zero stays.

    Raises:
        ValueError: If `epsilon` is negative or not finite, or `num_steps` is no whole number of at least 1.
    """
    checks.non_negative(epsilon=epsilon)
    checks.counts(num_steps=num_steps)

    def apgd(key, oracle, x):
        perturbations.check_gradient(oracle)
        steps_key, loss_key = jax.random.split(key)

        def move(state, key, alpha):
            grad = perturbations.masked(oracle, oracle.grad(key, jax.tree.map(jnp.add, x, state.delta)))
            step = lambda d, g: d + epsilon * perturbations.over_units(state.step_size, d) * norm.steepest(g)
            target = perturbations.projected(oracle, norm, x, jax.tree.map(step, state.delta, grad), epsilon)
            mix = lambda d, z, before: d + alpha * (z - d) + (1 - alpha) * (d - before)
            moved = jax.tree.map(mix, state.delta, target, state.previous)
            return perturbations.projected(oracle, norm, x, moved, epsilon)

        def step(state, given):
            key, first, span = given
            alpha = jnp.where(first, 1.0, MOMENTUM)  # the first step has nothing to keep up
            found = perturbations.candidate(loss_key, oracle, x, move(state, key, alpha))
            state = state._replace(
                delta=found[1],
                previous=state.delta,
                losses=found[0],
                best=perturbations.better(state.best, found),
                improved=state.improved + (found[0] > state.losses),
            )
            return jax.lax.cond(span > 0, lambda state: _at_checkpoint(state, span), lambda state: state, state), None

        nothing = perturbations.candidate(loss_key, oracle, x, jax.tree.map(jnp.zeros_like, x))
        start = _State(
            delta=nothing[1],
            previous=nothing[1],
            losses=nothing[0],
            best=nothing,
            step_size=jnp.full_like(nothing[0], 2),
            improved=jnp.zeros_like(nothing[0]),
            best_then=nothing[0],
            halved=jnp.zeros(nothing[0].shape, bool),
        )
        given = jax.random.split(steps_key, num_steps), jnp.arange(num_steps) == 0, jnp.asarray(_spans(num_steps))
        (_, delta) = jax.lax.scan(step, start, given)[0].best
        cost = {"gradient_evaluations": num_steps, "queries": num_steps + 2}
        return perturbations.outcome(loss_key, oracle, norm, x, delta, **cost)

    return apgd


def _at_checkpoint(state: _State, span: Array) -> _State:
    """Halves the steps of the units that `span` steps did not help, and takes those units back to their best point."""
    stuck = ~state.halved & (state.best[0] <= state.best_then)
    halved = (state.improved < IMPROVEMENTS * span) | stuck
    restart = lambda best, here: jnp.where(perturbations.over_units(halved, here), best, here)
    losses, delta = jax.tree.map(restart, state.best, (state.losses, state.delta))
    return state._replace(
        delta=delta,
        losses=losses,
        step_size=jnp.where(halved, state.step_size / 2, state.step_size),
        improved=jnp.zeros_like(state.improved),
        best_then=state.best[0],
        halved=halved,
    )


def _spans(num_steps: int) -> np.ndarray:
    """For each step 0 or, where it ends in a checkpoint, the number of steps since the one before.

    The checkpoints are ceil(p_j * num_steps) with p_1 = .22 and p_{j+1} = p_j + max(p_j - p_{j-1} - .03, .06), in whole
    per cents here, as .41 * 100 is more than 41 in floating point.
    """
    spans = np.zeros(num_steps, np.int32)
    before, percent, last = 0, 22, 0
    while percent <= 100:
        checkpoint = -(-percent * num_steps // 100)
        spans[checkpoint - 1] += checkpoint - last
        before, percent, last = percent, percent + max(percent - before - 3, 6), checkpoint
    return spans
