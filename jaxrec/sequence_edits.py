"""What every attack on item sequences does with an edit: is it allowed, what comes out, what was reached.

Three kinds of edit, each at a place p of a history (see `EditOracle`), whose newest item is at the last place:

    REPLACE   another item at p                          a b c -> a x c      (p = 1)
    INSERT    a new item at p; the entry that was there  - b c -> b x c      (p = 1)
              and all older ones move back by one        a b c -> b x c      (p = 1; the oldest leaves the window)
    DELETE    the entry at p is taken out; all older     a b c -> - a c      (p = 1)
              ones move up by one
"""

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxrec.types import Array, EditOracle, Key, Metrics

EMPTY = -1


class Kind(enum.IntEnum):
    """What an edit does at its place."""

    REPLACE = 0
    INSERT = 1
    DELETE = 2


class Edit(NamedTuple):
    """One edit, or as many as its arrays have entries.

    Attributes:
        kind: int32, a `Kind`.
        place: int32, in [0, L).
        item: int32, what is put in; -1 when nothing is.
    """

    kind: Array
    place: Array
    item: Array


class History(NamedTuple):
    """A history in the course of an attack.

    Attributes:
        ids: int32 [L].
        where: bool [L], whether edits may be at this entry; it moves with the entry.
    """

    ids: Array
    where: Array


def white_box(
    embed: Callable[[Array], Array],
    loss: Callable[[Array, Array], Array],
    *,
    num_items: int,
    where: Array | None = None,
    items: Array | None = None,
) -> EditOracle:
    """The oracle of an adversary who knows the model and differentiates it.

    Args:
        embed: ids [...] -> rows [..., D], what the model puts in for an item, and for -1 in an empty place.
        loss: (rows [L, D], present bool [L]) -> [], of one history. Its slope says nothing about `present`, so the
            gradient sees of a deletion and an insertion what they do to the rows.
        num_items, where, items: As in `EditOracle`.
    """

    def grad(ids):
        slopes = jax.grad(loss)(embed(ids), ids != EMPTY)
        return slopes @ embed(jnp.append(jnp.arange(num_items), EMPTY)).T

    losses = jnp.vectorize(lambda ids: loss(embed(ids), ids != EMPTY), signature="(l)->()")
    return EditOracle(losses, num_items, grad, where, items)


def check_num_edits(num_edits: int | Array) -> None:
    """Raises a ValueError if a static number of edits is negative or no integer; a traced one passes."""
    if isinstance(num_edits, jax.core.Tracer):
        return
    if not (np.issubdtype(np.asarray(num_edits).dtype, np.integer) and num_edits >= 0):
        raise ValueError(f"Expected an integer num_edits >= 0, got num_edits={num_edits}.")


def check_kinds(kinds: Sequence[Kind]) -> None:
    """Raises a ValueError unless there is a kind and none comes twice."""
    if not kinds or len(set(kinds)) < len(kinds):
        raise ValueError(f"Expected one or more different kinds, got kinds={tuple(kinds)}.")


def start(oracle: EditOracle, ids: Array) -> History:
    """The history an attack starts from.

    Raises:
        ValueError: If `ids` is not one history of known items, or a mask of the oracle does not fit; the values of
            traced ids are not looked at.
    """
    if ids.ndim != 1 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"Expected integer ids of shape [L], got {ids.dtype} {list(ids.shape)}: use vmap for batches.")
    for name, mask, length in (("where", oracle.where, len(ids)), ("items", oracle.items, oracle.num_items)):
        if mask is not None and mask.shape != (length,):
            raise ValueError(f"Expected {name} of shape [{length}], got {list(mask.shape)}.")
    if not isinstance(ids, jax.core.Tracer):
        known = np.asarray(ids)
        wrong = known[(known < EMPTY) | (known >= oracle.num_items)]
        if len(wrong):
            raise ValueError(f"Expected ids in [0, {oracle.num_items}), or -1 for an empty place, got {wrong[0]}.")
    return History(ids, jnp.ones(ids.shape, bool) if oracle.where is None else oracle.where)


def admitted(oracle: EditOracle) -> Array:
    """Which items may be put in: bool [num_items]."""
    return jnp.ones(oracle.num_items, bool) if oracle.items is None else oracle.items


def every_edit(kinds: Sequence[Kind], length: int, pool: Array) -> Edit:
    """The edits of these kinds at each of `length` places with each item of the pool [P], allowed or not.

    There are `length * P` of REPLACE and of INSERT and `length` of DELETE, kind by kind in the order given.
    """

    def of_kind(kind):
        items = jnp.full(1, EMPTY) if kind == Kind.DELETE else pool
        place, item = jnp.meshgrid(jnp.arange(length), items, indexing="ij")
        return Edit(jnp.full(place.size, int(kind)), place.reshape(-1), item.reshape(-1))

    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *map(of_kind, kinds))


def allowed(oracle: EditOracle, history: History, edits: Edit) -> Array:
    """Which edits the adversary may make, like `edits.kind`.

    All keep to the oracle's places and items. An entry is replaced by a different item; the last item of a history is
    not deleted; nothing is inserted among the empty places, but before the oldest item, or after any.
    """
    present = history.ids != EMPTY
    here = present[edits.place]
    item_is_admitted = admitted(oracle)[edits.item]
    newer_is_present = jnp.append(present, True)[edits.place + 1]
    by_kind = (
        here & item_is_admitted & (edits.item != history.ids[edits.place]),
        (here | newer_is_present) & item_is_admitted,
        here & (jnp.sum(present) > 1),
    )
    return history.where[edits.place] & jnp.choose(edits.kind, by_kind, mode="clip")


def apply(history: History, edit: Edit) -> History:
    """The history after one edit."""
    place = jnp.arange(len(history.ids))
    source = place + jnp.where(edit.kind == int(Kind.INSERT), place < edit.place, 0)
    source = source - jnp.where(edit.kind == int(Kind.DELETE), place <= edit.place, 0)
    is_new = (place == edit.place) & (edit.kind != int(Kind.DELETE))
    moved = jnp.where(source < 0, EMPTY, history.ids[source])
    return History(
        jnp.where(is_new, edit.item, moved).astype(history.ids.dtype),
        is_new | history.where[jnp.maximum(source, 0)],
    )


class Climb(NamedTuple):
    """Where a greedy search stands: a history, its loss, and what it has cost; all but the history are scalars."""

    history: History
    loss: Array
    edits: Array
    steps: Array
    queries: Array
    improving: Array


def climb(
    key: Key,
    oracle: EditOracle,
    ids: Array,
    propose: Callable[[Key, History], tuple[Edit, Array]],
    *,
    num_edits: int | Array,
    chunk_size: int,
) -> Climb:
    """Takes the best of the proposed edits, again and again, until none raises the loss or `num_edits` are made.

    Args:
        key: One step's key is folded in from the edits made before it.
        oracle: Its losses judge every proposal; one that is not a number is never taken.
        ids: [L].
        propose: (key, history) -> (edits [C], which of them count [C]).
        num_edits: At most this many. May be traced.
        chunk_size: Histories whose losses are asked for at a time.

    Returns:
        The end of the search; its loss is never below that of `ids`. Under `queries` stand `ids` and the edits that
        counted, not what fixed shapes made the device compute besides.
    """
    losses = lambda ids: jax.lax.stop_gradient(oracle.losses(ids))

    def step(at):
        edits, counts = propose(jax.random.fold_in(key, at.edits), at.history)
        found = jax.lax.map(lambda edit: losses(apply(at.history, edit).ids), edits, batch_size=chunk_size)
        found = jnp.where(counts & ~jnp.isnan(found), found, -jnp.inf)
        best = jnp.argmax(found)
        improving = found[best] > at.loss
        edited = apply(at.history, jax.tree.map(lambda values: values[best], edits))
        return Climb(
            history=jax.tree.map(lambda new, old: jnp.where(improving, new, old), edited, at.history),
            loss=jnp.where(improving, found[best], at.loss),
            edits=at.edits + improving,
            steps=at.steps + 1,
            queries=at.queries + jnp.sum(counts),
            improving=improving,
        )

    none = jnp.int32(0)
    begin = Climb(start(oracle, ids), losses(ids), none, none, none + 1, jnp.array(True))
    return jax.lax.while_loop(lambda at: at.improving & (at.edits < num_edits), step, begin)


def outcome(loss: Array, *, edits: Array, gradient_evaluations: Array | int, queries: Array | int) -> Metrics:
    """What an attack did: the `losses` [] reached, `edits` made, `gradient_evaluations` and `queries` (of losses)."""
    return {"losses": loss, "edits": edits, "gradient_evaluations": gradient_evaluations, "queries": queries}
