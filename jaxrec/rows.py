"""Work on the rows a batch touches instead of on whole tables, with the same result.

A batch of 512 examples reads at most 512 users and 1,024 items, and in a step of SGD or Adagrad no other row moves, in
an attack no other row has a gradient. `compact` gives each distinct row one slot in a small table, without sorting;
the unchanged objective, attack and optimiser run on the small tables; `write_back` puts the rows where they came from.
`in_pieces` is the other form, for batches that touch most rows: a sum over the batch, and its gradient, in pieces whose
intermediates stay in the processor's cache.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec.types import Array, Objective, PyTree

Reads = Mapping[str, tuple[str, ...]]
_CHECKED = "promise_in_bounds"  # ids are checked on the host (types.check_ids); clamping again costs time


class Plan(NamedTuple):
    """Where the rows of the small tables come from.

    Attributes:
        ids: {table: [n]}, the row of the full table that each row of the small one copies, for compacted tables only.
        slots: {table: [n]}, the row of the small table that stands for each of `ids`; rows that are no slot of any id
            are spare copies, which nothing reads.
    """

    ids: dict[str, Array]
    slots: dict[str, Array]


def compact(
    tables: Mapping[str, Array], batch: Mapping[str, Array], reads: Reads, gather: Callable[[Array], Array]
) -> tuple[Plan, dict[str, Array]]:
    """Plans the small tables of a batch and rewrites the batch's ids to point into them.

    Args:
        tables: {name: [rows, D]}, of which only the number of rows is used.
        batch: Its id columns, named in `reads`, are int32 [B].
        reads: {table: names of the columns that hold its row ids}.
        gather: Concatenates the ids of all devices, so that a row has the same slot on each of them; the identity on
            one device. (Slots from local ids alone would add gradients of different rows.)

    Returns:
        The plan, and the batch with slots in place of ids. A table with no more rows than the batch has ids for it is
        left as it is: there the dense form is faster.
    """
    ids, slots, relabelled = {}, {}, dict(batch)
    for name, columns in reads.items():
        own = jnp.concatenate([batch[column] for column in columns])
        everyones = gather(own)
        num_rows, num_ids = tables[name].shape[0], everyones.shape[0]
        if num_ids >= num_rows:
            continue
        # Whoever writes last owns the slot; all ids of one row read the same winner.
        winner = jnp.zeros(num_rows, jnp.int32).at[everyones].set(jnp.arange(num_ids, dtype=jnp.int32), mode=_CHECKED)
        ids[name], slots[name] = everyones, _take(winner, everyones)
        own_slots = jnp.split(_take(winner, own), len(columns))
        relabelled.update(zip(columns, own_slots, strict=True))
    return Plan(ids, slots), relabelled


def take(tree: PyTree, tables: list[str | None], plan: Plan) -> PyTree:
    """The tree with the small tables' rows in place of each compacted table; `tables` as `tables_of` gives it."""
    leaves, structure = jax.tree.flatten(tree)
    pick = lambda leaf, name: _take(leaf, plan.ids[name]) if name in plan.ids else leaf
    return jax.tree.unflatten(structure, list(map(pick, leaves, tables)))


def write_back(tree: PyTree, small: PyTree, tables: list[str | None], plan: Plan) -> PyTree:
    """The tree with the rows of `small` written to where `take` read them, and its other leaves replaced by small's."""
    leaves, structure = jax.tree.flatten(tree)

    def write(leaf, small_leaf, name):
        if name not in plan.ids:
            return small_leaf
        # Only a row that is a slot is written; the spare copies point past the end, and are dropped.
        slots = plan.slots[name]
        is_slot = slots == jnp.arange(slots.shape[0], dtype=slots.dtype)
        return leaf.at[jnp.where(is_slot, plan.ids[name], leaf.shape[0])].set(small_leaf, mode="drop")

    return jax.tree.unflatten(structure, list(map(write, leaves, jax.tree.leaves(small), tables)))


class _Mark(NamedTuple):
    """One leaf of a tree of marks: the table a leaf of the marked tree has the rows of."""

    table: str | None


def tables_of(optimizer: optax.GradientTransformation, trained: PyTree, opt_state: PyTree) -> list[str | None]:
    """For each leaf of `(trained, opt_state)` the table whose rows it has; None for counters and dense weights."""
    marks = {
        "tables": {name: _Mark(name) for name in trained["tables"]},
        "weights": jax.tree.map(lambda _: _Mark(None), trained["weights"]),
    }
    is_mark = lambda x: isinstance(x, _Mark)
    of_state = optax.tree.map_params(
        optimizer, lambda _, mark: mark, opt_state, marks, transform_non_params=lambda _: _Mark(None)
    )
    return [mark.table for mark in jax.tree.leaves((marks, of_state), is_leaf=is_mark)]


def separable(optimizer: optax.GradientTransformation) -> bool:
    """Whether a row with gradient zero stays still, its optimiser slots too: then a step by rows is the dense step.

    True of SGD and Adagrad. False of momentum, Adam and weight decay, which move rows that a batch does not touch.
    """
    table = {"t": np.array([[1, 2], [3, 4]], np.float32)}
    grad = np.array([[0.3, -0.2], [0.1, 0.4]], np.float32)

    @jax.jit  # one compilation instead of one for every operation
    def moves():
        first, state = optimizer.update({"t": grad}, optimizer.init(table), table)
        update, after = optimizer.update({"t": grad * [[0], [1]]}, state, optax.apply_updates(table, first))
        before = jax.tree.leaves((jax.tree.map(jnp.zeros_like, update), state))
        return [new - old for old, new in zip(before, jax.tree.leaves((update, after)), strict=True)]

    return not any(move[0].any() for move in jax.device_get(moves()) if move.shape == grad.shape)


def in_pieces(objective: Objective, *, reads: Reads, size: int = 256) -> Objective:
    """The same objective, summed piece by piece, its gradient too.

    Args:
        objective: A sum over the examples of its batch whose `where` is true. Its metrics are such sums as well, and
            are not differentiated.
        reads: As in `compact`; the objective reads the tables through these columns alone.
        size: Examples in a piece. 256 rows of 64 floats, a few times over, fit the second-level cache.

    Returns:
        An objective with the value and the gradient of `objective` up to the order of summation. Batches of at most
        `size` examples go to `objective` as they are.
    """

    def pieced(params, batch, key, reduce):
        num_examples = batch["where"].shape[0]
        if num_examples <= size:
            return objective(params, batch, key, reduce)
        pieces = _split(batch, size)
        given = params["given"]
        keys = jax.random.split(key, -(-num_examples // size))

        def value(trained, piece, key):
            return objective({**trained, "given": given}, piece, key, reduce)

        @jax.custom_vjp
        def total(trained):
            totals = jax.lax.map(lambda args: value(trained, *args), (pieces, keys))
            return jax.tree.map(lambda x: jnp.sum(x, axis=0), totals)

        def forward(trained):
            def add(carry, args):
                totals, grads = carry
                value_of_piece, grads = _add_gradient(value, trained, grads, *args)
                return (jax.tree.map(jnp.add, totals, value_of_piece), grads), None

            zeros = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
            first = jax.tree.map(lambda x: x[0], (pieces, keys))
            start = (zeros(jax.eval_shape(value, trained, *first)), zeros(trained))
            return jax.lax.scan(add, start, (pieces, keys))[0]

        def backward(grads, cotangents):
            return (jax.tree.map(lambda g: cotangents[0] * g, grads),)

        total.defvjp(forward, backward)
        return total({"tables": params["tables"], "weights": params["weights"]})

    def _add_gradient(value, trained, grads, piece, key):
        """Adds the gradient of one piece: taken with respect to copies of the rows it reads, one an occurrence."""
        ids = {name: jnp.concatenate([piece[column] for column in columns]) for name, columns in reads.items()}
        places = {}
        for name, columns in reads.items():
            positions = jnp.split(jnp.arange(ids[name].shape[0], dtype=jnp.int32), len(columns))
            places.update(zip(columns, positions, strict=True))

        def of_copies(copies, weights):
            return value({"tables": {**trained["tables"], **copies}, "weights": weights}, {**piece, **places}, key)

        copies = {name: _take(trained["tables"][name], ids[name]) for name in reads}
        result, (by_copy, by_weight) = jax.value_and_grad(of_copies, argnums=(0, 1), has_aux=True)(
            copies, trained["weights"]
        )
        tables = {name: grads["tables"][name].at[ids[name]].add(by_copy[name], mode=_CHECKED) for name in reads}
        weights = jax.tree.map(jnp.add, grads["weights"], by_weight)
        return result, {"tables": {**grads["tables"], **tables}, "weights": weights}

    return pieced


def _split(batch: Mapping[str, Array], size: int) -> dict[str, Array]:
    """Each column as [pieces, size], the last piece filled up with examples that do not count."""
    num_examples = batch["where"].shape[0]
    fill = -num_examples % size

    def split(x):
        return jnp.pad(x, ((0, fill), *((0, 0),) * (x.ndim - 1))).reshape(-1, size, *x.shape[1:])

    return {name: split(x) for name, x in batch.items()}


def _take(table: Array, ids: Array) -> Array:
    return table.at[ids].get(mode=_CHECKED)
