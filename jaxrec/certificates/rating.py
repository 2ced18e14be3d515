"""How low an adversary can bring one predicted rating who perturbs the two rows for that prediction alone.

A user's row moves by at most epsilon_u (L2) and an item's by at most epsilon_i. Of p . q alone, or of b_u + b_i + p . q
where the rows end with their biases (w = 1 then, else 0), the prediction falls at most by

    F = max over |(a, alpha)| <= epsilon_u of  epsilon_i |(p + a, w)| - a . q - w alpha

the item's row having moved against (p + a, w). As every prediction here has an adversary of its own, none that all
predictions share gets below it. With w = 0, F is the fall of a margin in `dot_product.pairwise`: by the triangle
inequality at most |p| epsilon_i + |q| epsilon_u + epsilon_u epsilon_i, which it is where p = -c q.

F is the maximum of a convex function on a ball. For every r > 0 and mu > c = epsilon_i / r, by
|x| <= (|x|^2 / r + r) / 2 and a multiplier mu for the ball (robust counterparts as in Ben-Tal and Nemirovski, "Robust
solutions of uncertain linear programs", Operations Research Letters 1999),

    F <= c (|p|^2 + w) / 2 + epsilon_i r / 2 + |c p - q|^2 / (2 (mu - c)) + w / (2 mu) + mu epsilon_u^2 / 2

so that a poor search for r and mu costs tightness, not truth. For D >= 2 the smallest right side is F: it is convex in
1 / r, and where its slope is zero the worst a has |(p + a, w)| = r, which makes both inequalities equalities.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrec.types import Array, Scalar

_NUM_STEPS = 24  # halvings of each bracket: as many as a float32 has bits


class Pairs(NamedTuple):
    """What the worst case of N predictions is made of; `pairs_of` makes it of their rows."""

    predictions: Float[Array, " N"]
    user_square: Float[Array, " N"]
    item_square: Float[Array, " N"]
    dot: Float[Array, " N"]
    rounding: float  # largest relative error of a dot product of rows


def pairs_of(predictions: Float[Array, " N"], user: Float[Array, "N D"], item: Float[Array, "N D"]) -> Pairs:
    """Of the predictions and the embeddings p [N, D] and q [N, D] behind them, without biases."""
    square = lambda x: jnp.sum(jnp.square(x), axis=1)
    rounding = (user.shape[1] + 8) * 2.0**-24
    return Pairs(predictions, square(user), square(item), jnp.sum(user * item, axis=1), rounding)


def lowest(pairs: Pairs, user: Scalar, item: Scalar, *, biases: bool) -> Float[Array, " N"]:
    """The lowest value that each prediction can be brought to, by an adversary of its own.

    Args:
        pairs: From `pairs_of`.
        user, item: Radii epsilon_u and epsilon_i of the rows' balls, one number or one for each prediction [N]. May be
            traced.
        biases: Whether a row is an embedding and its bias, in one ball, or the embedding alone.

    Returns:
        A lower bound that is attained, up to the end of the search and what is left for rounding: up to sqrt(D) * 6e-4
        of |q| epsilon_u where p and q have nearly one direction, next to nothing elsewhere.
    """
    weight = float(biases)
    user, item = (jnp.broadcast_to(jnp.asarray(radius, jnp.float32), pairs.dot.shape) for radius in (user, item))
    length = jnp.sqrt(pairs.user_square)
    low = jnp.sqrt(jnp.square(jnp.maximum(length - user, 0)) + weight)
    high = jnp.sqrt(jnp.square(length + user) + weight)

    def halve(_, bracket):
        low, high = bracket
        r = jnp.sqrt(low * high)  # geometric: r may be small where p is
        grow = _at(pairs, user, item, weight, r)[1] > jnp.square(r)
        return jnp.where(grow, r, low), jnp.where(grow, high, r)

    tiny = 1e-6 * jnp.maximum(high, 1e-6)
    _, r = jax.lax.fori_loop(0, _NUM_STEPS, halve, (jnp.maximum(low, tiny), jnp.maximum(high, tiny)))
    return pairs.predictions - _at(pairs, user, item, weight, r)[0]


def radii(
    pairs: Pairs, user: Scalar, item: Scalar, *, target: float, biases: bool, largest: float
) -> Float[Array, " N"]:
    """The smallest epsilon at which each prediction can be brought to `target` or below, radii epsilon * user and
    epsilon * item: what an adversary of all predictions at once needs at least.

    Args:
        pairs, biases: As in `lowest`.
        user, item: Radii at epsilon 1.
        largest: Where the search ends.

    Returns:
        [N]. 0 for a prediction that is there already; infinite where `largest` does not do.
    """
    reaches = lambda epsilon: lowest(pairs, epsilon * user, epsilon * item, biases=biases) <= target

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        there = reaches(middle)
        return jnp.where(there, low, middle), jnp.where(there, middle, high)

    start = jnp.zeros_like(pairs.dot), jnp.full_like(pairs.dot, largest)
    _, found = jax.lax.fori_loop(0, _NUM_STEPS, halve, start)
    found = jnp.where(reaches(start[1]), found, jnp.inf)
    return jnp.where(pairs.predictions <= target, 0, found)


def _at(pairs: Pairs, user: Array, item: Array, weight: float, r: Array) -> tuple[Array, Array]:
    """The bound of F for this r at its best mu, and |(p + a, w)|^2 of the a that attains it."""
    c = item / r
    terms = c**2 * pairs.user_square + pairs.item_square
    # |c p - q|^2, rounded up: where c p is near q little is left of terms that are large.
    square = jnp.maximum(terms - 2 * c * pairs.dot, 0) + 2 * pairs.rounding * terms
    # |(a, alpha)| = epsilon_u where |c p - q|^2 / m^2 + w / (m + c)^2 = epsilon_u^2, m = mu - c.
    radius = jnp.maximum(user, 1e-12)
    least = 1e-12 * (1 + jnp.sqrt(pairs.item_square))

    def halve(_, bracket):
        low, high = bracket
        m = (low + high) / 2
        too_long = square / m**2 + weight / (m + c) ** 2 > radius**2
        return jnp.where(too_long, m, low), jnp.where(too_long, high, m)

    low, high = jnp.sqrt(square) / radius, jnp.sqrt(square + weight) / radius
    _, m = jax.lax.fori_loop(0, _NUM_STEPS, halve, (jnp.maximum(low, least), jnp.maximum(high, least)))
    mu = m + c
    bound = (c * (pairs.user_square + weight) + item * r + square / m + weight / mu + mu * user**2) / 2
    # a = (c p - q) / m, so |p + a|^2 = |p|^2 + 2 a . p + |a|^2.
    reach = pairs.user_square + 2 * (c * pairs.user_square - pairs.dot) / m + square / m**2 + weight
    return bound, reach
