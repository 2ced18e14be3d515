"""Work on the rows a batch touches instead of on whole tables, with the same result.

A batch of 512 examples reads at most 512 users and 1,024 items, and in a step of SGD or Adagrad no other row moves, in
an attack no other row has a gradient. `compact` gives each distinct row one slot in a small table; the unchanged
objective, attack and optimiser run on the small tables; `write_back` puts the rows where they came from.
`in_pieces` is the other form, for batches that touch most rows: a sum over the batch, and its gradient, in pieces whose
intermediates stay in the processor's cache.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec.types import Array, Key, Metrics, Model, Objective, Params, PyTree, Reduce

Reads = Mapping[str, tuple[str, ...]]
_CHECKED = "promise_in_bounds"  # ids are checked on the host (types.check_ids); clamping again costs time
_SPARSE = 256  # rows of a table for each id of a batch, from which sorting the ids costs less than a pass over all rows


def sums(x: Array) -> Array:
    """x [..., D] -> [...], summed over the last axis.

    As a product with ones it takes a CPU half the time of `jnp.sum` along a short axis, or less. Accelerators must not
    round the terms, as their fast matrix products would.
    """
    return jnp.dot(x, jnp.ones(x.shape[-1], x.dtype), precision=jax.lax.Precision.HIGHEST)


def products(users: Array, items: Array) -> Array:
    """Rows of users [..., D] and of items [..., D], broadcast against each other -> dot products [...].

    Each of B users on the same C items, [B, 1, D] and [1, C, D], is a product of matrices, and never B C D numbers.
    """
    if users.ndim == items.ndim == 3 and users.shape[1] == items.shape[0] == 1:
        return jnp.dot(users[:, 0], items[0].T, precision=jax.lax.Precision.HIGHEST)
    return sums(users * items)


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
        batch: Its id columns, named in `reads`, are int32 [B] or [B, N].
        reads: {table: names of the columns that hold its row ids}.
        gather: Concatenates the ids of all devices, so that a row has the same slot on each of them; the identity on
            one device. (Slots from local ids alone would add gradients of different rows.)

    Returns:
        The plan, and the batch with slots in place of ids. A table with no more rows than the batch has ids for it is
        left as it is: there the dense form is faster.

    Raises:
        ValueError: If two tables read one column: it cannot hold the slots of both.
    """
    _check_reads(reads)
    ids, slots, relabelled = {}, {}, dict(batch)
    for name, columns in reads.items():
        own = _joined(batch, columns)
        everyones = gather(own)
        num_rows, num_ids = tables[name].shape[0], everyones.shape[0]
        if num_ids >= num_rows:
            continue
        ids[name], slot_of = _slots(everyones, num_rows)
        slots[name] = slot_of(ids[name])
        ends = np.cumsum([batch[column].size for column in columns])
        for column, part in zip(columns, jnp.split(slot_of(own), ends[:-1]), strict=True):
            relabelled[column] = part.reshape(batch[column].shape)
    return Plan(ids, slots), relabelled


def _joined(batch: Mapping[str, Array], columns: tuple[str, ...]) -> Array:
    """The ids of some columns, one after another."""
    return jnp.concatenate([batch[column].reshape(-1) for column in columns])


def _slots(ids: Array, num_rows: int) -> tuple[Array, Callable[[Array], Array]]:
    """The rows that a small table copies, [n], from ids [n] that repeat, and id -> its row in the small table.

    Both depend on the ids alone, so they are the same on all devices, in whatever order each writes.
    """
    if num_rows >= _SPARSE * len(ids):
        ordered = jnp.sort(ids)
        return ordered, lambda ids: jnp.searchsorted(ordered, ids).astype(jnp.int32)
    # The last place among the ids. Of a million rows the zeros would drive the rows themselves out of the cache.
    last = jnp.zeros(num_rows, jnp.int32).at[ids].max(jnp.arange(len(ids), dtype=jnp.int32), mode=_CHECKED)
    return ids, lambda ids: _take(last, ids)


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
    """Whether a step by rows is the dense step: found out by taking both, on a table of three rows, with gradients of
    about .3 and of a million times that, which are clipped wherever there is a limit.

    True of SGD and Adagrad. False where a row with gradient zero moves, or its optimiser slots do (momentum, Adam,
    weight decay), and where a row's update depends on the other rows (clipping by a block's size, trust ratios).
    """
    table = np.array([[1, 2], [3, 4], [5, -6]], np.float32)
    grad = np.array([[0.3, -0.2], [0.1, 0.4], [0.2, 0.5]], np.float32)
    some = grad * np.array([[0], [1], [1]], np.float32)
    touched = np.array([1, 2, 1, 1])  # with spare copies of row 1, whose gradient is zero

    @jax.jit  # one compilation instead of one for every operation
    def both(scale):
        start = {"t": jnp.asarray(table)}
        first, state = optimizer.update({"t": scale * jnp.asarray(grad)}, optimizer.init(start), start)
        start = optax.apply_updates(start, first)
        dense = optimizer.update({"t": scale * jnp.asarray(some)}, state, start)
        rows_of = lambda x: x[touched] if jnp.shape(x) == table.shape else x
        copies = scale * jnp.asarray(some[touched] * np.array([[1], [1], [0], [0]], np.float32))
        by_rows = optimizer.update({"t": copies}, *jax.tree.map(rows_of, (state, start)))
        moved = [(new, old) for new, old in zip(*map(jax.tree.leaves, (dense, ({"t": 0 * table}, state))), strict=True)]
        pairs = list(zip(*map(jax.tree.leaves, (dense, by_rows)), strict=True))
        full = lambda x: jnp.shape(x) == table.shape
        stays = [jnp.all(new[0] == old[0]) for new, old in moved if full(new)]
        agree = [jnp.allclose(x[1:], y[:2], rtol=1e-5) for x, y in pairs if full(x)]
        return jnp.all(jnp.stack(stays + agree))

    with jax.ensure_compile_time_eval():  # also where a step is built while another function is traced
        return all(bool(both(scale)) for scale in (1.0, 1e6))


def additive(optimizer: optax.GradientTransformation) -> bool:
    """Whether the update of a sum of gradients is the sum of their updates, whatever came before: plain SGD, found out
    by trying it on gradients from 1e-3 to 1e6.
    """
    first = np.array([[1e-3, -1.0], [1e6, 0.3]], np.float32)
    second = np.array([[2.0, -1e6], [0.1, 1e-3]], np.float32)
    gradients = (first, second, first + second)

    @jax.jit
    def tried():
        start = {"t": jnp.zeros(first.shape)}
        state = optimizer.init(start)
        results: list[PyTree] = [optimizer.update({"t": jnp.asarray(g)}, state, start) for g in gradients]
        (one, one_state), (other, other_state), (both, _) = results
        same = [jnp.all(x == y) for x, y in zip(*map(jax.tree.leaves, (one_state, other_state)), strict=True)]
        return jnp.all(jnp.stack([jnp.allclose(one["t"] + other["t"], both["t"], rtol=1e-5), *same]))

    with jax.ensure_compile_time_eval():
        return bool(tried())


ByExample = Callable[[Params, Mapping[str, Array], Key, Reduce], tuple[tuple[Array, Metrics], dict[str, Array], PyTree]]


def by_example(make: Callable[[Model], Objective], model: Model) -> ByExample:
    """The objective `make(model)` and its gradient by the rows that each example read, not yet added up.

    Args:
        make: Builds the objective, which sees its model through `score_pairs` alone, or takes rows by `read` and scores
            them by `score_rows`, and is a sum over the examples of its batch whose `where` is true, each adding a
            number of its own (a clean objective; the adversary of an adversarial one needs the sums).
        model: With `reads` and `score_rows`.

    Returns:
        `(params, batch, key, reduce) -> ((loss, metrics), {column: gradient [B, D], or [B, N, D] of a column [B, N]},
        gradient of the weights)`.

    Raises:
        ValueError: If the model lacks `reads` or `score_rows`.
    """
    if model.reads is None or model.score_rows is None:
        raise ValueError("Expected a model with reads and score_rows, got one without.")
    score_rows, reads = model.score_rows, model.reads

    def score_pairs(params, users, pos, neg):
        return score_rows(params, users, pos), score_rows(params, users, neg)

    of_rows = make(dataclasses.replace(model, score_pairs=score_pairs))

    def differentiate(params, batch, key, reduce):
        def value(rows, weights):
            return of_rows({**params, "weights": weights}, {**batch, **rows}, key, reduce)

        own = {column: _take(params["tables"][name], batch[column]) for name in reads for column in reads[name]}
        result, (by_row, by_weight) = jax.value_and_grad(value, argnums=(0, 1), has_aux=True)(own, params["weights"])
        return result, by_row, by_weight

    return differentiate


def add_rows(
    table: Array, columns: tuple[str, ...], batch: Mapping[str, Array], by_row: Mapping[str, Array], gather=lambda x: x
) -> Array:
    """The table with each example's rows of each column added at their ids; `gather` concatenates over devices."""
    by_id = jnp.concatenate([by_row[column].reshape(-1, table.shape[1]) for column in columns])
    return table.at[gather(_joined(batch, columns))].add(gather(by_id), mode=_CHECKED)


def in_pieces(make: Callable[[Model], Objective], model: Model, *, size: int = 256) -> Objective:
    """The objective `make(model)`, summed piece by piece, its gradient too.

    Args:
        make, model: As in `by_example`. The metrics are sums over the examples as well, and are not differentiated.
        size: Examples in a piece. 256 rows of 64 floats, a few times over, fit the second-level cache.

    Returns:
        An objective with the value of `make(model)` and its gradient in tables and weights (not in what is given), up
        to the order of summation. Each piece is differentiated with respect to the rows it read, and these gradients
        are added to the tables' at once. Batches of at most `size` examples go to `make(model)` as they are.

    Raises:
        ValueError: If the model lacks `reads` or `score_rows`.
    """
    differentiate, whole, reads = by_example(make, model), make(model), model.reads or {}

    def pieced(params, batch, key, reduce):
        num_examples = batch["where"].shape[0]
        if num_examples <= size:
            return whole(params, batch, key, reduce)
        pieces = _split(batch, size)
        keys = jax.random.split(key, -(-num_examples // size))
        given = params["given"]

        @jax.custom_vjp
        def total(trained):
            value = lambda args: whole({**trained, "given": given}, args[0], args[1], reduce)
            return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.lax.map(value, (pieces, keys)))

        def forward(trained):
            def add(carry, args):
                (totals, grads), (piece, key) = carry, args
                result, by_row, by_weight = differentiate({**trained, "given": given}, piece, key, reduce)
                tables = grads["tables"] | {
                    name: add_rows(grads["tables"][name], columns, piece, by_row) for name, columns in reads.items()
                }
                grads = {"tables": tables, "weights": jax.tree.map(jnp.add, grads["weights"], by_weight)}
                return (jax.tree.map(jnp.add, totals, result), grads), None

            start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (jax.eval_shape(total, trained), trained))
            return jax.lax.scan(add, start, (pieces, keys))[0]

        def backward(grads, cotangents):
            return (jax.tree.map(lambda g: cotangents[0] * g, grads),)

        total.defvjp(forward, backward)
        return total({"tables": params["tables"], "weights": params["weights"]})

    return pieced


def _check_reads(reads: Reads) -> None:
    columns = [column for of_table in reads.values() for column in of_table]
    if len(set(columns)) < len(columns):
        raise ValueError(f"Expected each column of a batch to hold the ids of one table, got reads={dict(reads)}.")


def _split(batch: Mapping[str, Array], size: int) -> dict[str, Array]:
    """Each column as [pieces, size], the last piece filled up with examples that do not count."""
    num_examples = batch["where"].shape[0]
    fill = -num_examples % size

    def split(x):
        return jnp.pad(x, ((0, fill), *((0, 0),) * (x.ndim - 1))).reshape(-1, size, *x.shape[1:])

    return {name: split(x) for name, x in batch.items()}


def read(table: Array, column: Array) -> Array:
    """The rows [..., D] of a batch's ids [...]; a column that `by_example` has read holds the rows themselves."""
    return column if jnp.issubdtype(column.dtype, jnp.floating) else _take(table, column)


def _take(table: Array, ids: Array) -> Array:
    return table.at[ids].get(mode=_CHECKED)
