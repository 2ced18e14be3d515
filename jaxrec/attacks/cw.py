"""C&W: a penalty for the scores that still win, its weight found by bisection, gives the smallest L2 perturbation.

Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", IEEE S&P 2017, arXiv:1608.04644,
section VI-A (the L2 attack).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxrec import checks, units
from jaxrec.types import Array, Attack, Oracle, Scalar

INSIDE = 0.999999  # of the box, where arctanh is finite


class _Best(NamedTuple):
    """The smallest perturbation that has been successful: delta [N, M] and its size squared [N], infinite for none."""

    size: Array
    delta: Array


class _Weights(NamedTuple):
    """The bisection for the paper's c, [N] each: lower has failed, upper has not, weight comes next."""

    lower: Array
    weight: Array
    upper: Array


def attack(
    *,
    epsilon: Scalar = math.inf,
    target: ArrayLike | None = None,
    confidence: float = 0.0,
    num_steps: int = 1000,
    num_searches: int = 9,
    learning_rate: float = 0.01,
    initial_weight: float = 0.001,
) -> Attack:
    """Builds the attack that looks for each unit's smallest successful perturbation.

        minimise |delta|_2^2 + weight * max(confidence - lead, 0)

    by Adam, where lead is the best other score less the label's (with a target: the target's less the best other one).
    A perturbation is successful if lead > confidence: a tie is none. In an oracle's box, x + delta = (low + high) / 2 +
    (high - low) / 2 * tanh(w), and w is what Adam moves; without a box it moves delta. The weight, the paper's c, is
    searched for each unit: tenfold until one run has a success, then by bisection. Each run starts at x.

    Args:
        epsilon: Radius of the ball around each unit. A perturbation found outside is scaled down to it, and is then no
            success. May be traced.
        target: The class each unit is to be given, [N] or one for all; None for any but its label.
        confidence: The paper's kappa.
        num_steps: Adam's steps for each weight (the authors' code: 10,000).
        num_searches: Weights that are tried.
        learning_rate: Adam's: in units of w in a box, otherwise of x.
        initial_weight: The first weight.

    Returns:
        `(key, oracle, x) -> (delta, info)` for an oracle with a gradient, which the attack takes through `scores`, and
        `labels`: one for each row of x, whose scores depend on that row, or one for all of x. `delta` is zero for a
        unit that is wrong without it, and for one for which nothing was found; `info["success"]` [N] tells them apart.
        A step costs one gradient evaluation and one query; the scores at x and the final losses are one query each.

    Raises:
        ValueError: If `epsilon` is negative or not a number, `confidence` negative or not finite, `learning_rate` or
            `initial_weight` not positive and finite, `num_steps` or `num_searches` no whole number of at least 1, or
            `target` holds no classes.
    """
    checks.radius(epsilon=epsilon)
    units.check_targets(target)
    checks.non_negative(confidence=confidence)
    checks.counts(num_steps=num_steps, num_searches=num_searches)
    checks.positive(learning_rate=learning_rate, initial_weight=initial_weight)
    adam = optax.adam(learning_rate)

    def cw(key, oracle, x):
        it = units.of(oracle, x)
        start_key, steps_key, loss_key = jax.random.split(key, 3)
        ahead = lambda scores: units.ahead(scores, it.labels, target)
        start, delta_at = _variables(oracle, it.x)

        def objective(w, weight, key):
            delta = it.legal(delta_at(w))
            size, lead = jnp.sum(jnp.square(delta), axis=1), ahead(it.scores(key, delta))
            found = _Best(jnp.where(lead > confidence, size, jnp.inf), delta)
            return jnp.sum(size + weight * jnp.maximum(confidence - lead, 0)), found

        def search(carry, key):
            best, weights = carry

            def step(carry, key):
                w, opt_state, best, reached = carry
                grad, found = jax.grad(objective, has_aux=True)(w, weights.weight, key)
                updates, opt_state = adam.update(grad, opt_state)
                w = jnp.asarray(optax.apply_updates(w, updates))
                return (w, opt_state, _smaller(best, found), reached | jnp.isfinite(found.size)), None

            run = (start, adam.init(start), best, jnp.zeros(len(it.x), bool))
            (_, _, best, reached), _ = jax.lax.scan(step, run, jax.random.split(key, num_steps))
            return (best, _bisected(weights, reached)), None

        nothing = jnp.zeros_like(it.x)
        wrong = ahead(it.scores(start_key, nothing)) > confidence
        best = _Best(jnp.where(wrong, 0.0, jnp.inf), nothing)
        zeros = jnp.zeros(len(it.x))
        weights = _Weights(zeros, zeros + initial_weight, zeros + jnp.inf)
        (best, _), _ = jax.lax.scan(search, (best, weights), jax.random.split(steps_key, num_searches))
        num_asked = num_searches * num_steps
        cost = {"gradient_evaluations": num_asked, "queries": num_asked + 2}
        return units.smallest(loss_key, oracle, x, it, best.delta, jnp.isfinite(best.size), epsilon, **cost)

    return cw


def _variables(oracle: Oracle, x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """What Adam moves, at x, and w [N, M] -> delta [N, M].

    Entries without two finite bounds are moved as they are. As in `perturbations.legal`, the box is widened to an x
    outside it.
    """
    low, high = (-jnp.inf, jnp.inf) if oracle.box is None else oracle.box
    low, high = jnp.minimum(low, x), jnp.maximum(high, x)
    bounded = jnp.isfinite(high - low)
    middle = jnp.where(bounded, (low + high) / 2, 0)
    half = jnp.maximum(jnp.where(bounded, (high - low) / 2, 1), jnp.finfo(x.dtype).tiny)
    start = jnp.where(bounded, jnp.arctanh(INSIDE * jnp.clip((x - middle) / half, -1, 1)), 0)
    return start, lambda w: jnp.where(bounded, middle + half * jnp.tanh(w) - x, w)


def _smaller(first: _Best, second: _Best) -> _Best:
    """For each unit the smaller of two; the first on a tie."""
    wins = second.size < first.size
    return _Best(jnp.minimum(first.size, second.size), jnp.where(wins[:, None], second.delta, first.delta))


def _bisected(weights: _Weights, reached: Array) -> _Weights:
    """The next weights, after runs that reached a success or not."""
    lower = jnp.where(reached, weights.lower, weights.weight)
    upper = jnp.where(reached, weights.weight, weights.upper)
    return _Weights(lower, jnp.where(jnp.isfinite(upper), (lower + upper) / 2, 10 * lower), upper)
