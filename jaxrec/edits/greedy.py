"""Greedy search: of all single edits make the one that raises the loss most, and so on, by asking for losses alone."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxrec import checks, sequence_edits
from jaxrec.sequence_edits import Kind
from jaxrec.types import Array, EditAttack


def attack(
    *,
    num_edits: int | Array,
    kinds: Sequence[Kind] = tuple(Kind),
    pool_size: int | None = None,
    chunk_size: int = 1024,
) -> EditAttack:
    """Builds an attack that takes the best single edit, at most `num_edits` times, until none raises the loss.

    Args:
        num_edits: Edits it may make. May be traced.
        kinds: The kinds it may make.
        pool_size: Items that are tried at each step, drawn anew without replacement among those that the oracle admits;
            None for all of them.
        chunk_size: Edited histories whose losses are asked for at a time, so that their activations fit in memory.

    Returns:
        `(key, oracle, ids [L]) -> (ids [L], info)`. The loss never ends below that of `ids`. With one edit and no
        pool it is the highest that any allowed edit reaches. A step asks for up to `L * (2 * pool_size + 1)` losses.

    Raises:
        ValueError: If `num_edits` is negative or no integer, `kinds` is empty or has one twice, `pool_size < 1` or
            `chunk_size < 1`; when it is called, if `pool_size` exceeds the number of items.
    """
    sequence_edits.check_num_edits(num_edits)
    sequence_edits.check_kinds(kinds)
    if pool_size is not None:
        checks.counts(pool_size=pool_size)
    checks.counts(chunk_size=chunk_size)

    def pool(key, oracle):
        if pool_size is None:
            return jnp.arange(oracle.num_items)
        if pool_size > oracle.num_items:
            raise ValueError(f"Expected pool_size <= {oracle.num_items}, the items, got pool_size={pool_size}.")
        order = jnp.where(sequence_edits.admitted(oracle), jax.random.uniform(key, (oracle.num_items,)), -1)
        return jax.lax.top_k(order, pool_size)[1]

    def greedy(key, oracle, ids):
        def propose(key, history):
            edits = sequence_edits.every_edit(kinds, len(ids), pool(key, oracle))
            return edits, sequence_edits.allowed(oracle, history, edits)

        end = sequence_edits.climb(key, oracle, ids, propose, num_edits=num_edits, chunk_size=chunk_size)
        return end.history.ids, sequence_edits.outcome(
            end.loss, edits=end.edits, gradient_evaluations=0, queries=end.queries
        )

    return greedy
