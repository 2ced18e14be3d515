"""Greedy edits against exhaustive search in Python, and what the pool and the chunks do."""

import edit_toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edit_toys import HISTORIES, NUM_ITEMS

from jaxrec.edits import greedy
from jaxrec.sequence_edits import Kind
from jaxrec.types import EditOracle

KEY = jax.random.key(0)
VICTIM = edit_toys.recurrent()
WEIGHTS = [0.5, -1.0, 2.0, 0.25, 3.0, -2.0, 1.0]
PADDED = [name for name in HISTORIES if name != "with a gap"]


def climb(losses, ids, kinds, num_edits):
    """The reference: (history, number of histories asked for), every single edit tried at each step."""
    asked = 1
    for _ in range(num_edits):
        neighbours = edit_toys.single_edits(ids, kinds)
        asked += len(neighbours)
        best = max(neighbours, key=losses, default=ids)
        if losses(best) <= losses(ids):
            break
        ids = best
    return ids, asked


@pytest.mark.parametrize(
    ("kinds", "chunk_size"), [((Kind.REPLACE,), 1024), ((Kind.INSERT,), 35), ((Kind.DELETE,), 1), (tuple(Kind), 8)]
)
def test_every_step_is_the_best_of_all_single_edits_in_chunks_of_any_size(kinds, chunk_size):
    all_losses = jax.jit(VICTIM.oracle().losses)
    losses = lambda ids: float(all_losses(jnp.array(ids)))

    @jax.jit
    def run(ids, num_edits):
        return greedy.attack(num_edits=num_edits, kinds=kinds, chunk_size=chunk_size)(KEY, VICTIM.oracle(), ids)

    for name in PADDED:
        for num_edits in (1, 3):
            after, info = run(edit_toys.history(name), jnp.int32(num_edits))
            expected, asked = climb(losses, HISTORIES[name], kinds, num_edits)
            np.testing.assert_allclose(losses(after.tolist()), losses(expected), rtol=1e-6)
            assert int(info["queries"]) == asked


def test_on_a_bag_of_items_the_best_edits_are_known():
    """Replace the smallest weights by the largest; delete the negative ones; stop where nothing is left to gain."""
    oracle = edit_toys.bag(WEIGHTS).oracle()

    def run(kind, num_edits):
        attack = jax.jit(lambda ids: greedy.attack(num_edits=num_edits, kinds=(kind,))(KEY, oracle, ids))
        return lambda *ids: attack(jnp.array(ids))

    replace, delete = run(Kind.REPLACE, 2), run(Kind.DELETE, 4)
    after, info = replace(-1, 0, 1, 5, 2)
    assert after.tolist() == [-1, 0, 4, 4, 2]
    np.testing.assert_allclose(info["losses"], 0.5 + 3 + 3 + 2)
    after, info = delete(-1, 0, 1, 5, 2)
    assert (after.tolist(), int(info["edits"])) == ([-1, -1, -1, 0, 2], 2)
    after, info = replace(4, 4, 4, 4, 4)
    assert (after.tolist(), int(info["edits"]), int(info["queries"])) == ([4] * 5, 0, 1 + 5 * 6)


def test_chunks_bound_what_is_asked_at_a_time():
    """75 edits in chunks of 8: batches of 8 and a last one of 3, as the shapes of a traced oracle tell."""
    batches = set()
    oracle = VICTIM.oracle()

    @jax.custom_batching.custom_vmap
    def losses(ids):
        return oracle.losses(ids)

    @losses.def_vmap
    def _(axis_size, in_batched, ids):
        batches.add(axis_size)
        return oracle.losses(ids), True

    attack = greedy.attack(num_edits=1, chunk_size=8)
    jax.eval_shape(lambda ids: attack(KEY, EditOracle(losses, NUM_ITEMS), ids), edit_toys.history("full"))
    assert batches == {8, 3}


def test_a_pool_is_drawn_from_the_admitted_items_without_replacement_and_anew_for_each_key():
    items = jnp.array([0, 1, 1, 0, 1, 1, 0], bool)
    asked = []

    def losses(ids):
        jax.debug.callback(lambda ids: asked.append(tuple(ids.tolist())), ids)
        return -1.0 * jnp.sum(ids != 3, axis=-1)

    oracle = EditOracle(losses, NUM_ITEMS, items=items)
    attack = greedy.attack(num_edits=1, kinds=(Kind.REPLACE,), pool_size=2)
    run = jax.jit(lambda key, ids: attack(key, oracle, ids))
    pools = set()
    for seed in range(8):
        asked.clear()
        _, info = run(jax.random.key(seed), jnp.array([3, 3, 3]))  # nothing beats it
        jax.effects_barrier()
        pool = frozenset(item for history in asked for item in history) - {3}
        assert len(pool) == 2
        assert pool <= {1, 2, 4, 5}
        assert int(info["queries"]) == 1 + 3 * 2
        pools.add(pool)
    assert len(pools) > 1


def test_a_pool_larger_than_what_is_admitted_still_puts_in_no_other_item():
    oracle = edit_toys.bag(WEIGHTS).oracle(items=jnp.array([1, 0, 0, 1, 0, 0, 0], bool))
    attack = greedy.attack(num_edits=5, kinds=(Kind.REPLACE,), pool_size=6)
    after, info = jax.jit(lambda ids: attack(KEY, oracle, ids))(jnp.array([1, 1, 1]))
    assert after.tolist() == [0, 0, 0]
    assert int(info["edits"]) == 3


@pytest.mark.parametrize(("name", "value"), [("pool_size", 0), ("chunk_size", 0), ("chunk_size", -3)])
def test_sizes_that_are_none_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} >= 1, a whole number, got {name}={value}"):
        greedy.attack(num_edits=1, **{name: value})


def test_a_pool_of_more_than_all_items_is_refused():
    with pytest.raises(ValueError, match="pool_size <= 7, the items, got pool_size=8"):
        greedy.attack(num_edits=1, pool_size=8)(KEY, VICTIM.oracle(), edit_toys.history("full"))
