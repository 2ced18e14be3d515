"""JSMA: changes the pair of entries that most helps a target class and hurts the others, again and again.

Papernot, McDaniel, Jha, Fredrikson, Celik and Swami, "The Limitations of Deep Learning in Adversarial Settings", IEEE
EuroS&P 2016, arXiv:1511.07528, algorithms 2 and 3.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxrec import checks, norms, perturbations, units
from jaxrec.types import Array, Attack, Scalar


class _State(NamedTuple):
    """The search after a number of steps: which entries are changed [N, M], which units are at their target [N], and
    which still had a pair to change [N]."""

    num_steps: Array
    changed: Array
    success: Array
    moving: Array


def attack(
    *, epsilon: Scalar = math.inf, target: ArrayLike | None = None, theta: float = 1.0, gamma: float = 1.0
) -> Attack:
    """Builds the attack on few entries: L0, targeted.

    Each step changes two entries p and q of a unit by theta: those with the largest -alpha * beta, where alpha is the
    derivative of the target's score by p plus that by q, and beta the same for the sum of the other scores, among the
    admissible pairs, alpha > 0 and beta < 0. With theta < 0 entries are decreased, and a pair is admissible where alpha
    < 0 and beta > 0 (the paper's second saliency map). The scores are the oracle's, which should be logits.

    An entry is used once. It is no longer considered then, nor when the oracle's mask forbids it or its box leaves it
    no room in theta's direction.

    Args:
        epsilon: How far any entry may move, on top of theta; the number of entries is bounded by gamma. May be traced.
        target: The class each unit is to be given, [N] or one for all; None for the class that scores highest at x but
            for the label.
        theta: What is added to an entry; where the box is nearer, as far as that.
        gamma: Share of a unit's M entries that may change: never more than floor(gamma * M), in pairs. (The paper's
            experiments: .145.)

    Returns:
        `(key, oracle, x) -> (delta, info)` for an oracle with a gradient, which the attack takes through `scores`, and
        `labels`: one for each row of x, whose scores depend on that row, or one for all of x. A unit stops when its
        target's score is the highest, no admissible pair is left, or gamma is reached, and keeps what has been changed
        by then; one that is at its target without it stays. `info["success"]` [N] says who reached the target,
        `info["num_changed"]` [N] how many entries were changed, and `info["norms"]` is in LINF, as epsilon is. A step
        costs 2 gradient evaluations, as the map needs only two sums of the Jacobian's rows, and 2 queries; the scores
        at x and the final losses are one each.

    Raises:
        ValueError: If `epsilon` is negative or not a number, `theta` is 0 or not finite, `gamma` is not in (0, 1], or
            `target` holds no classes.
    """
    checks.radius(epsilon=epsilon)
    units.check_targets(target)
    if theta == 0 or not math.isfinite(theta):
        raise ValueError(f"Expected theta to be finite and not 0, got theta={theta}.")
    if not 0 < gamma <= 1:
        raise ValueError(f"Expected gamma in (0, 1], got gamma={gamma}.")

    def jsma(key, oracle, x):
        it = units.of(oracle, x)
        start_key, steps_key, loss_key = jax.random.split(key, 3)
        room = it.legal(jnp.full_like(it.x, jnp.clip(theta, -epsilon, epsilon)))
        num_pairs = math.floor(gamma * it.x.shape[1] + 1e-6) // 2  # .58 of 100 entries is 58, and 57.99... in binary

        scores = it.scores(start_key, jnp.zeros_like(it.x))
        of_label = jax.nn.one_hot(it.labels, scores.shape[1], dtype=bool)
        goal = jnp.argmax(jnp.where(of_label, -jnp.inf, scores), axis=1) if target is None else target
        wanted = jax.nn.one_hot(jnp.broadcast_to(goal, it.labels.shape), scores.shape[1], dtype=scores.dtype)
        reached = lambda scores: units.ahead(scores, it.labels, goal) > 0

        def step(state):
            slopes_key, check_key = jax.random.split(jax.random.fold_in(steps_key, state.num_steps))
            delta = jnp.where(state.changed, room, 0)
            _, (helps, hurts) = units.pull(it, slopes_key, delta, jnp.stack([wanted, 1 - wanted]))
            free = (room != 0) & ~state.changed
            sign = math.copysign(1, theta)
            pair, exists = jax.lax.map(lambda unit: _best_pair(*unit), (sign * helps, sign * hurts, free))
            moving = state.moving & exists & ~state.success
            changed = state.changed | (pair & moving[:, None])
            now = reached(it.scores(check_key, jnp.where(changed, room, 0)))
            return _State(state.num_steps + 1, changed, state.success | (moving & now), moving)

        def unfinished(state):
            return (state.num_steps < num_pairs) & jnp.any(state.moving & ~state.success)

        start = _State(jnp.int32(0), jnp.zeros(it.x.shape, bool), reached(scores), jnp.ones(len(it.x), bool))
        end = jax.lax.while_loop(unfinished, step, start)
        cost = {"gradient_evaluations": 2 * end.num_steps, "queries": 2 * end.num_steps + 2}
        delta = it.tree(jnp.where(end.changed, room, 0))
        delta, info = perturbations.outcome(loss_key, oracle, norms.LINF, x, delta, **cost)
        return delta, {**info, "success": end.success, "num_changed": jnp.sum(end.changed, axis=1)}

    return jsma


def _best_pair(helps: Array, hurts: Array, free: Array) -> tuple[Array, Array]:
    """The free entries, bool [M], of the pair with the largest -alpha * beta, and whether any is admissible, [].

    Args:
        helps, hurts: [M], the derivatives of the target's score and of the others' sum.
        free: bool [M].
    """
    alpha, beta = helps[:, None] + helps[None], hurts[:, None] + hurts[None]
    entries = jnp.arange(len(free))
    pairs = (entries[:, None] < entries[None]) & free[:, None] & free[None]
    admissible = pairs & (alpha > 0) & (beta < 0)
    best = jnp.argmax(jnp.where(admissible, -alpha * beta, -1))
    return (entries == best // len(free)) | (entries == best % len(free)), jnp.any(admissible)
