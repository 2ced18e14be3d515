"""HotFlip: the gradient by one-hot inputs proposes edits, and their true losses decide.

Ebrahimi, Rao, Lowd and Dou, "HotFlip: White-Box Adversarial Examples for Text Classification", ACL 2018,
arXiv:1712.06751, with items for characters.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxrec import checks, sequence_edits
from jaxrec.sequence_edits import EMPTY, Edit, Kind
from jaxrec.types import Array, EditAttack


def attack(*, num_edits: int | Array, kinds: Sequence[Kind] = tuple(Kind), num_candidates: int = 32) -> EditAttack:
    """Builds an attack that asks for the losses of the edits that a first-order estimate puts highest.

    An edit sets one-hot vectors of the input to others: a replacement one, an insertion or a deletion all up to its
    place. With the gradient g [L, num_items + 1] the loss changes, to first order, by

        sum over places l of  g[l, edited[l]] - g[l, ids[l]]        (section 4)

    Each step takes the gradient once, asks for the losses of the `num_candidates` allowed edits with the largest
    estimates, and makes the best of them if it raises the loss, else stops. The paper takes the estimates' word (or a
    beam's) and divides them by the square root of twice the flips; we do neither, since the losses are asked anyway.

    Args:
        num_edits: Edits it may make. May be traced.
        kinds: The kinds it may make.
        num_candidates: Edits that are verified at each step.

    Returns:
        `(key, oracle, ids [L]) -> (ids [L], info)`. It is deterministic: the key is not used. The loss never ends below
        that of `ids`. On a loss that is linear in the rows, one candidate is enough to find the best edit.

    Raises:
        ValueError: If `num_edits` is negative or no integer, `kinds` is empty or has one twice, or
            `num_candidates < 1`; when it is called, if the oracle has no gradient.
    """
    sequence_edits.check_num_edits(num_edits)
    sequence_edits.check_kinds(kinds)
    checks.counts(num_candidates=num_candidates)

    def gradient_guided(key, oracle, ids):
        if oracle.grad is None:
            raise ValueError("Expected an oracle with a gradient, got one without: use edits.greedy.")
        edits = sequence_edits.every_edit(kinds, len(ids), jnp.arange(oracle.num_items))

        def propose(key, history):
            counts = sequence_edits.allowed(oracle, history, edits)
            estimates = estimate(jax.lax.stop_gradient(oracle.grad(history.ids)), history.ids, edits)
            order = jnp.where(counts & ~jnp.isnan(estimates), estimates, -jnp.inf)
            _, largest = jax.lax.top_k(order, min(num_candidates, len(order)))
            return jax.tree.map(lambda values: values[largest], edits), counts[largest]

        end = sequence_edits.climb(key, oracle, ids, propose, num_edits=num_edits, chunk_size=num_candidates)
        return end.history.ids, sequence_edits.outcome(
            end.loss, edits=end.edits, gradient_evaluations=end.steps, queries=end.queries
        )

    return gradient_guided


def estimate(grad: Array, ids: Array, edits: Edit) -> Array:
    """First-order changes of the loss by edits [C] of a history [L], from grad [L, num_items + 1] there: [C]."""
    places = jnp.arange(len(ids))
    now = grad[places, ids]  # -1, an empty place, is the last column
    moving_back = grad[places, jnp.roll(ids, -1)] - now
    moving_up = grad[places, jnp.roll(ids, 1).at[0].set(EMPTY)] - now
    older_moved = jnp.stack([jnp.zeros_like(now), jnp.cumsum(moving_back) - moving_back, jnp.cumsum(moving_up)])
    put_in = grad[edits.place, edits.item] - now[edits.place]
    return older_moved[edits.kind, edits.place] + jnp.where(edits.kind == int(Kind.DELETE), 0, put_in)
