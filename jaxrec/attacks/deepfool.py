"""DeepFool: steps onto the nearest class boundary of the scores' linearisation, until the label no longer wins.

Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep neural networks", CVPR 2016,
arXiv:1511.04599, algorithm 2.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrec import checks, norms, units
from jaxrec.types import Array, Attack, Scalar


class _State(NamedTuple):
    """The search after a number of steps.

    Attributes:
        num_steps: Taken.
        path: [N, M], the sum of the steps, without the overshoot.
        success: [N], whether the label no longer wins.
        moving: [N], whether there is a boundary to step to.
    """

    num_steps: Array
    path: Array
    success: Array
    moving: Array


def attack(
    *, epsilon: Scalar = math.inf, overshoot: float = 0.02, num_steps: int = 50, num_classes: int | None = None
) -> Attack:
    """Builds the attack that steps to the nearest boundary and a little past it.

        k = argmin |f_k| / |grad f_k|_2,   path <- path + |f_k| / |grad f_k|_2^2 * grad f_k,
        delta = (1 + overshoot) * path

    where f_k is the score of class k less that of the label, in L2, each row by itself. On linear scores that is exact:
    one step, of 1 + overshoot times the distance to the nearest boundary (where no box cuts it). The scores are
    linearised at x + delta, overshoot included, as in the authors' code.

    Args:
        epsilon: Radius of the ball around each unit. A longer perturbation is scaled down to it, and is then no
            success. May be traced.
        overshoot: How far past the boundary, as a share of the path.
        num_steps: Steps at most; a unit stops when another class has a higher score than its label.
        num_classes: Boundaries that are looked at: those with the classes that score highest at x (the authors' code:
            9). None for all; with many classes (items), gradients for all take memory: classes times the size of x.

    Returns:
        `(key, oracle, x) -> (delta, info)` for an oracle with a gradient, which the attack takes through `scores`, and
        `labels`: one for each row of x, whose scores depend on that row, or one for all of x. A unit that is wrong
        without it, or whose scores do not depend on it, stays; one whose label wins to the end keeps the last point;
        `info["success"]` [N] tells which changed. A step costs `num_classes` gradient evaluations (the Jacobian: one
        for each class but the label) and 2 queries; the scores at x and the final losses are one each.

    Raises:
        ValueError: If `epsilon` is negative or not a number, `overshoot` negative or not finite, or `num_steps` or
            `num_classes` no whole number of at least 1.
    """
    checks.radius(epsilon=epsilon)
    checks.non_negative(overshoot=overshoot)
    checks.counts(num_steps=num_steps)
    if num_classes is not None:
        checks.counts(num_classes=num_classes)

    def deepfool(key, oracle, x):
        it = units.of(oracle, x)
        start_key, steps_key, loss_key = jax.random.split(key, 3)
        delta_at = lambda path: it.legal((1 + overshoot) * path)
        wrong = lambda scores: units.ahead(scores, it.labels, None) > 0

        scores = it.scores(start_key, jnp.zeros_like(it.x))
        own = jax.nn.one_hot(it.labels, scores.shape[1], dtype=scores.dtype)
        others = scores.shape[1] - 1
        likely = jax.lax.top_k(jnp.where(own > 0, -jnp.inf, scores), min(num_classes or others, others))[1]
        # [K, N, C]: the weights of the scores in each f_k
        differences = jax.nn.one_hot(likely.T, scores.shape[1], dtype=scores.dtype) - own[None]

        def step(state):
            slopes_key, check_key = jax.random.split(jax.random.fold_in(steps_key, state.num_steps))
            scores, slopes = units.pull(it, slopes_key, delta_at(state.path), differences)
            move, exists = _to_boundary(jnp.sum(scores[None] * differences, axis=2), slopes)
            moving = state.moving & exists & ~state.success
            path = jnp.where(moving[:, None], state.path + move, state.path)
            success = state.success | (moving & wrong(it.scores(check_key, delta_at(path))))
            return _State(state.num_steps + 1, path, success, moving)

        def unfinished(state):
            return (state.num_steps < num_steps) & jnp.any(state.moving & ~state.success)

        start = _State(jnp.int32(0), jnp.zeros_like(it.x), wrong(scores), jnp.ones(len(it.x), bool))
        end = jax.lax.while_loop(unfinished, step, start)
        cost = {"gradient_evaluations": end.num_steps * len(differences), "queries": 2 * end.num_steps + 2}
        return units.smallest(loss_key, oracle, x, it, delta_at(end.path), end.success, epsilon, **cost)

    return deepfool


def _to_boundary(heights: Array, slopes: Array) -> tuple[Array, Array]:
    """The step [N, M] to the nearest of K planes, and whether there is one, [N].

    Args:
        heights: [K, N], the value of each function.
        slopes: [K, N, M], its gradient.
    """
    steepness = jax.vmap(norms.L2.size)(slopes)
    flat = steepness == 0
    distances = jnp.where(flat, jnp.inf, jnp.abs(heights) / jnp.where(flat, 1, steepness))
    places = jnp.argmin(distances, axis=0), jnp.arange(heights.shape[1])
    distance = distances[places]
    exists = jnp.isfinite(distance)
    return jnp.where(exists, distance, 0)[:, None] * norms.L2.steepest(slopes[places]), exists
