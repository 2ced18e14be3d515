"""What no perturbation of the tables can do to a ranking by dot products: a bound that no attack beats.

A user with row p ranks item i above item j by the margin m = p . d, with d = q_i - q_j. When the user's row moves by at
most epsilon_u (L2) and every item row by at most epsilon_i, the margin is at least

    (p + a) . d - 2 epsilon_i |p + a|  for some |a| <= epsilon_u        (the two item rows move against each other)

so it falls by at most max over |a| <= epsilon_u of (2 epsilon_i |p + a| - a . d). That maximum is `pairwise`, and by
the triangle inequality it is at most epsilon_u |d| + 2 epsilon_i |p| + 2 epsilon_u epsilon_i, which is `sufficient`.
Item biases within epsilon_b take another 2 epsilon_b. With one radius 0 it is the robust counterpart of a linear
constraint (Ben-Tal and Nemirovski, "Robust solutions of uncertain linear programs", Operations Research Letters 1999).

The certified rank of a held-out item is 1 + the number of candidates that are not certain to stay below it. It bounds
every adversary, one of each user's own who knows the held-out item included, so shared perturbations too. It is

    attained for item rows alone, whatever K (`held_out`): all candidates approach at once;
    attained at K = 1 for the user's row alone, and with `pairwise` for both tables: one candidate that passes suffices;
    a bound otherwise: `pairwise` is exact for each pair, and one a need not serve all pairs at once.

Strictly above is certain, ties count against the model. Beyond the fall, a margin must exceed a slack: the rounding of
the float32 scores here and of those of the perturbed tables. At epsilon 0 there is none, and the ranks are those of
`evaluate.ranks`. On accelerators whose default matrix products are coarser than float32, that holds for models
evaluated under `jax.default_matmul_precision("highest")`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxrec import checks, evaluate, metrics, norms, surfaces
from jaxrec.types import Array, Scalar

_UNIT_ROUNDOFF = 2.0**-24
_NUM_SEARCH_STEPS = 10  # the search ends at a minimum, so its error is the square of 2^-10 of the bracket
_NUM_BISECTIONS = 24  # as many as a float32 has bits


class Factors(NamedTuple):
    """A model whose ranking is that of p . q + item bias. Biases of users change no ranking.

    Attributes:
        user: p.
        item: q.
        item_bias: None where there are none.
    """

    user: Float[Array, "U D"]
    item: Float[Array, "I D"]
    item_bias: Float[Array, " I"] | None = None


class Radii(NamedTuple):
    """Radii of the balls round each row of the users and of the items, and round each item bias; 0 is not perturbed.

    As a *budget* they are the radii at epsilon 1: `Radii(user=1, item=1)` makes epsilon absolute, `Radii(item=1)`
    leaves the users alone, and `relative(factors)` makes it a share of the mean row norms.
    """

    user: Scalar = 0.0
    item: Scalar = 0.0
    bias: Scalar = 0.0

    def at(self, epsilon: Scalar) -> Radii:
        return Radii(*(epsilon * radius for radius in self))


class Pairs(NamedTuple):
    """What is known of B users' targets against all items.

    Attributes:
        margin: Score of the target less that of the item.
        dot: The same without biases, p . d.
        user_norm: |p|.
        distance: |d|, rounded up.
        item_norms: Sum of the norms of the target's and the item's row.
        bias_sizes: Sum of the sizes of their biases.
        rounding: Largest relative error of a dot product of rows.
    """

    margin: Float[Array, "B I"]
    dot: Float[Array, "B I"]
    user_norm: Float[Array, "B 1"]
    distance: Float[Array, "B I"]
    item_norms: Float[Array, "B I"]
    bias_sizes: Float[Array, "B I"]
    rounding: float


Fall = Callable[[Pairs, Radii], Float[Array, "B I"]]


def sufficient(pairs: Pairs, radii: Radii) -> Float[Array, "B I"]:
    """No margin falls further: epsilon_u |d| + 2 epsilon_i |p| + 2 epsilon_u epsilon_i.

    Exact where one of the two radii is 0. Without biases its last term decides no pair: the margin is lost where the
    angle of p + a and d has a cosine <= 2 epsilon_i / |d|, and p is |p| sin(arccos(2 epsilon_i / |d|) - angle of p and
    d) away from there, which is at least (margin - 2 epsilon_i |p|) / |d|.
    """
    return radii.user * pairs.distance + 2 * radii.item * (pairs.user_norm + radii.user)


def pairwise(pairs: Pairs, radii: Radii) -> Float[Array, "B I"]:
    """How far each margin falls at worst, each pair alone: max over |a| <= epsilon_u of 2 epsilon_i |p + a| - a . d.

    For every r > 0 |p + a| <= (|p + a|^2 / r + r) / 2, which is linear in a on the sphere, so that

        max <= epsilon_i ((|p|^2 + epsilon_u^2) / r + r) + epsilon_u |2 epsilon_i p / r - d|

    whatever r: a poor search costs tightness, not truth. The right side is convex in 1 / r, and for D >= 2 its minimum
    is the maximum, at r = |p + a| of the worst a (minimax over r and the ball; F(a) = 2 epsilon_i (|p|^2 + epsilon_u^2
    + 2 a . p)^1/2 - a . d, which the left side is on the sphere, is concave, and from a maximum of it inside the ball a
    step orthogonal to p and d leads to the sphere). We bisect for r in [||p| - epsilon_u|, |p| + epsilon_u], whose
    upper end alone gives no more than `sufficient`.
    """
    tiny = jnp.finfo(pairs.dot.dtype).tiny
    reach = pairs.user_norm**2 + radii.user**2

    def parts(r):
        """|2 epsilon_i p / r - d|, rounded up, and the product of that vector with p."""
        pull = 2 * radii.item / r
        square = jnp.maximum((pull * pairs.user_norm) ** 2 - 2 * pull * pairs.dot + pairs.distance**2, 0)
        room = pairs.rounding * pull * pairs.user_norm * (pairs.item_norms + pull * pairs.user_norm)
        below_root = square + 2 * room  # 0, where a root has no slope, for an item beside itself at epsilon 0: padding
        length = jnp.where(below_root > 0, jnp.sqrt(jnp.where(below_root > 0, below_root, 1)), 0)
        return length, pull * pairs.user_norm**2 - pairs.dot

    def bound(r):
        return radii.item * (reach / r + r) + radii.user * parts(r)[0]

    def halve(_, bracket):
        low, high = bracket
        middle = jnp.maximum((low + high) / 2, tiny)
        length, along = parts(middle)
        # The worst a for this r has |p + a|^2 = reach + 2 a . p; where that is longer than r, r must grow.
        grow = reach + 2 * radii.user * along / jnp.maximum(length, tiny) > middle**2
        return jnp.where(grow, middle, low), jnp.where(grow, high, middle)

    ends = (jnp.abs(pairs.user_norm - radii.user), pairs.user_norm + radii.user)
    bracket = (jnp.broadcast_to(ends[0], pairs.dot.shape), jnp.broadcast_to(ends[1], pairs.dot.shape))
    low, high = jax.lax.fori_loop(0, _NUM_SEARCH_STEPS, halve, bracket)
    return jnp.minimum(bound(jnp.maximum((low + high) / 2, tiny)), bound(jnp.maximum(ends[1], tiny)))


def relative(factors: Factors) -> Radii:
    """The budget in which epsilon is a share of each table's mean row norm, and of the mean size of centred biases.

    Bring the parameters to the canonical gauge first (`Model.canonical`): scores do not depend on the gauge, and this
    budget should not either. (A number added to all biases changes no ranking; hence centred.)
    """
    centred = None if factors.item_bias is None else factors.item_bias - jnp.mean(factors.item_bias)
    scales = surfaces.row_scales(factors._replace(item_bias=centred))
    return Radii(scales.user, scales.item, 0.0 if centred is None else scales.item_bias)


def certify(
    factors: Factors, plan: evaluate.RankPlan, budget: Radii, epsilons: Sequence[float], *, fall: Fall = sufficient
) -> list[evaluate.Ranks]:
    """Certified ranks of the held-out items on the host, one answer for each epsilon, in one pass over the users.

    `metrics.hit_rate` and `metrics.ndcg` of such ranks are certified: no adversary within the budget gets below them.

    Args:
        factors: Its tables; in the canonical gauge where the budget is relative.
        plan: From `evaluate.prepare`, ties against the model.
        budget: Radii at epsilon 1.
        epsilons: What the budget is multiplied by.
        fall: `sufficient`, or `pairwise` (tighter, about ten times the work).

    Raises:
        ValueError: If an epsilon or a radius is negative or not finite, the tables do not fit each other or the plan,
            or the plan averages ties.
    """
    for epsilon in epsilons:
        checks.non_negative(epsilon=epsilon)
    _check_budget(budget)
    found = np.asarray(ranks(factors, plan, budget, jnp.asarray(epsilons, jnp.float32), fall=fall), np.float64)
    return [
        evaluate.Ranks(np.asarray(plan.users), of_epsilon, np.asarray(plan.num_candidates), plan.num_left_out)
        for of_epsilon in found
    ]


@functools.partial(jax.jit, static_argnames="fall")
def ranks(
    factors: Factors, plan: evaluate.RankPlan, budget: Radii, epsilons: Float[Array, " E"], *, fall: Fall = sufficient
) -> Float[Array, "E n"]:
    """Certified ranks: 1 + the number of candidates that might reach the held-out item; in the order of `plan.users`.

    As `certify`, on the device; may be vmapped over factors.
    """
    check(factors, plan)

    def of_chunk(chunk):
        users, targets, rows, items = chunk
        pairs = _pairs(factors, users, targets)

        def at(epsilon):
            return evaluate.count_candidates(plan, rows, items, ~_certain(pairs, budget.at(epsilon), fall))

        return jax.lax.map(at, epsilons)

    chunks = plan.chunks
    above = jax.lax.map(of_chunk, (chunks.users, plan.targets, chunks.rows, chunks.items))
    return 1 + jnp.moveaxis(above, 1, 0).reshape(len(epsilons), -1)[:, chunks.places].astype(jnp.float32)


@functools.partial(jax.jit, static_argnames=("k", "fall"))
def radius(
    factors: Factors, plan: evaluate.RankPlan, budget: Radii, k: int, *, fall: Fall = sufficient
) -> Float[Array, " n"]:
    """Each user's largest epsilon at which the held-out item certainly stays among the first k.

    Bisection on the certified rank: at the radius itself the item is still certified, and at 1.0001 times the radius it
    no longer is, where that is not a thousandth or less of what losing to the farthest item takes: there it may be too
    small, never too large. 0 for an item that is not there to begin with (or by less than rounding); infinite where no
    epsilon can remove it, because there are fewer than k other candidates or nothing that the budget moves matters.

    Raises:
        InputError: If `k < 1` or `k > num_items`.
        ValueError: As in `certify`.
    """
    check(factors, plan)
    metrics.check_cutoff(k, plan.num_items)

    def of_chunk(chunk):
        users, targets, rows, items = chunk
        pairs = _pairs(factors, users, targets)

        def stays(epsilon):
            flags = ~_certain(pairs, budget.at(epsilon[:, None]), fall)
            return evaluate.count_candidates(plan, rows, items, flags) < k

        # Every fall is at least this at epsilon 1, and grows at least as fast as epsilon.
        least = jnp.maximum(2 * budget.item * pairs.user_norm, budget.user * pairs.distance) + 2 * budget.bias
        lost_at = pairs.margin / least
        enough = 2 * jnp.max(jnp.where((pairs.margin > 0) & jnp.isfinite(lost_at), lost_at, 0), axis=1)

        def halve(_, bracket):
            low, high = bracket
            middle = (low + high) / 2
            certain = stays(middle)
            return jnp.where(certain, middle, low), jnp.where(certain, high, middle)

        low, _ = jax.lax.fori_loop(0, _NUM_BISECTIONS, halve, (jnp.zeros_like(enough), enough))
        return jnp.where(stays(jnp.maximum(enough, 1)), jnp.inf, low)

    chunks = plan.chunks
    found = jax.lax.map(of_chunk, (chunks.users, plan.targets, chunks.rows, chunks.items))
    return found.reshape(-1)[chunks.places]


def scores(factors: Factors, users: Array) -> Float[Array, "B I"]:
    """Scores of all items, without the biases of users."""
    dots = _dots(factors.user[users], factors.item)
    return dots if factors.item_bias is None else dots + factors.item_bias[None]


def check(factors: Factors, plan: evaluate.RankPlan) -> None:
    """Refuses tables that do not fit each other or the plan, and a plan that averages ties."""
    num_users, num_items = len(plan.users) + plan.num_left_out, plan.num_items
    dimension = factors.user.shape[-1]
    wanted = ((num_users, dimension), (num_items, dimension), (num_items,))
    for name, array, shape in zip(Factors._fields, factors, wanted, strict=True):
        if array is not None and array.shape != shape:
            raise ValueError(f"Expected {name} of shape {shape}, got {array.shape}.")
    if plan.ties != "against":
        raise ValueError(f'Expected a plan with ties="against", got ties="{plan.ties}".')


def _check_budget(budget: Radii) -> None:
    for name, radius in budget._asdict().items():
        checks.non_negative(**{name: radius})


def _dots(rows: Float[Array, "B D"], item: Float[Array, "I D"]) -> Float[Array, "B I"]:
    return jnp.matmul(rows, item.T, precision=jax.lax.Precision.HIGHEST)


def _pairs(factors: Factors, users: Array, targets: Array) -> Pairs:
    """What `fall` and the slack are made of, for users [B] and their targets [B] against all items."""
    item_norm = norms.L2.size(factors.item)
    # A margin, like a threshold of `evaluate`, is taken between scores computed once.
    dots, score = jax.lax.optimization_barrier((_dots(factors.user[users], factors.item), scores(factors, users)))
    of_target = lambda all_items: jnp.take_along_axis(all_items, targets[:, None], axis=1)
    bias_size = jnp.zeros_like(item_norm) if factors.item_bias is None else jnp.abs(factors.item_bias)
    # Relative error of a sum of D products, and some for what is done with it.
    rounding = (factors.item.shape[1] + 8) * _UNIT_ROUNDOFF
    item_norms = item_norm[targets][:, None] + item_norm[None]
    target_norm_square, square = jnp.square(item_norm[targets])[:, None], jnp.square(item_norm)[None]
    square_distance = target_norm_square + square - 2 * _dots(factors.item[targets], factors.item)
    return Pairs(
        margin=of_target(score) - score,
        dot=of_target(dots) - dots,
        user_norm=norms.L2.size(factors.user[users])[:, None],
        distance=jnp.sqrt(jnp.maximum(square_distance, 0) + rounding * jnp.square(item_norms)),
        item_norms=item_norms,
        bias_sizes=bias_size[targets][:, None] + bias_size[None],
        rounding=rounding,
    )


def _certain(pairs: Pairs, radii: Radii, fall: Fall) -> Bool[Array, "B I"]:
    """Whether the target stays strictly above each item, whatever happens within the radii."""
    largest_products = (pairs.user_norm + radii.user) * (pairs.item_norms + 2 * radii.item)
    slack = 2 * pairs.rounding * (largest_products + pairs.bias_sizes + 2 * radii.bias)
    moved = jnp.maximum(jnp.maximum(radii.user, radii.item), radii.bias) > 0
    return pairs.margin > fall(pairs, radii) + 2 * radii.bias + jnp.where(moved, slack, 0)
