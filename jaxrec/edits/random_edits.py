"""Random edits: the control that every attack on sequences is held against, as many edits and no aim."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxrec import sequence_edits
from jaxrec.sequence_edits import Kind
from jaxrec.types import Array, EditAttack


def attack(*, num_edits: int | Array, kinds: Sequence[Kind] = tuple(Kind)) -> EditAttack:
    """Builds the control: `num_edits` random edits one after the other, fewer only when none is left that is allowed.

    Each is of a kind drawn uniformly among those that have an allowed edit, and then uniform among that kind's.

    Args:
        num_edits: Edits it makes. May be traced: `info["edits"]` of an attack gives a control with as many as that.
        kinds: The kinds it may make.

    Returns:
        `(key, oracle, ids [L]) -> (ids [L], info)`. It asks the oracle for nothing but what the final loss is. A later
        edit can undo an earlier one.

    Raises:
        ValueError: If `num_edits` is negative or no integer, or `kinds` is empty or has one twice.
    """
    sequence_edits.check_num_edits(num_edits)
    sequence_edits.check_kinds(kinds)

    def random_edits(key, oracle, ids):
        edits = sequence_edits.every_edit(kinds, len(ids), jnp.arange(oracle.num_items))

        def step(i, state):
            history, made = state
            allowed = sequence_edits.allowed(oracle, history, edits)
            of_kind = jnp.stack([jnp.sum(allowed & (edits.kind == int(kind))) for kind in Kind])
            log_odds = jnp.where(allowed, -jnp.log(of_kind[edits.kind]), -jnp.inf)
            drawn = jax.random.categorical(jax.random.fold_in(key, i), log_odds)
            edited = sequence_edits.apply(history, jax.tree.map(lambda values: values[drawn], edits))
            left = jnp.any(allowed)
            return jax.tree.map(lambda new, old: jnp.where(left, new, old), edited, history), made + left

        history, made = jax.lax.fori_loop(0, num_edits, step, (sequence_edits.start(oracle, ids), jnp.int32(0)))
        loss = jax.lax.stop_gradient(oracle.losses(history.ids))
        return history.ids, sequence_edits.outcome(loss, edits=made, gradient_evaluations=0, queries=1)

    return random_edits
