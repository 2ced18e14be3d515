"""Fields of a feature model: the ids of a user and an item, what is known beside them, and crosses of both, embedded.

What is known is given to a model, not trained (`params["given"]`): `features` makes it, and `surfaces.given` lets an
adversary perturb its real-valued part. The fields of a user do not depend on the item, nor the other way round, so a
model that sums over fields, or multiplies their sums, scores all items by one matrix product.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks
from jaxrec.models import mf
from jaxrec.rows import Reads
from jaxrec.types import Array, Key, Params


class Side(NamedTuple):
    """What is known of users and items beside their ids; None where there is nothing.

    Attributes:
        user_ids, item_ids: int32 [U, F] and [I, F], categories, each column with ids of its own (`numbered`).
        user_values, item_values: float32 [U, V] and [I, V], finite, on one scale: a value multiplies an embedding.
        user_crossed, item_crossed: int32 [U, C] and [I, C]: column c of both is crossed, each pair of codes a category.
    """

    user_ids: np.ndarray | None = None
    item_ids: np.ndarray | None = None
    user_values: np.ndarray | None = None
    item_values: np.ndarray | None = None
    user_crossed: np.ndarray | None = None
    item_crossed: np.ndarray | None = None


class Fields(NamedTuple):
    """Embedded fields.

    Attributes:
        init: key -> params without weights: tables "user", "item" and those of what is known beside them
            ("user_feature", "item_feature", "user_value", "item_value", "cross"), and all that is given.
        of_users: (params, users [...]) -> [..., F, D].
        of_items: (params, items [...]) -> [..., F, D].
        of_both: (params, users [...], items [...]) -> [..., C, D], crosses; users and items of one rank; C may be 0.
        num_users, num_items, num_both: Of fields: F, F and C.
        given: What is given to the model: the arrays of its `Side`.
        reads: `Model.reads`. None where something is given, which is looked up by id: a step on the touched rows
            numbers its batch's users and items anew.
    """

    init: Callable[[Key], Params]
    of_users: Callable[[Params, Array], Array]
    of_items: Callable[[Params, Array], Array]
    of_both: Callable[[Params, Array, Array], Array]
    num_users: int
    num_items: int
    num_both: int
    given: dict[str, Array]
    reads: Reads | None


def numbered(columns: np.ndarray) -> np.ndarray:
    """Columns of category codes >= 0, [R, F], renumbered so that each column has ids of its own, int32 [R, F]."""
    sizes = columns.max(axis=0, initial=-1) + 1
    return (columns + np.r_[0, np.cumsum(sizes)[:-1]][None].astype(np.int64)).astype(np.int32)


def crossed(users: Array, items: Array, num_buckets: int) -> Array:
    """Buckets of pairs of codes, int32 [..., C] each -> [..., C], by a hash that differs from column to column."""
    column = jnp.arange(users.shape[-1], dtype=jnp.uint32).reshape(*(1,) * (users.ndim - 1), -1)
    mixed = users.astype(jnp.uint32) * np.uint32(0x9E3779B1) + items.astype(jnp.uint32) * np.uint32(0x85EBCA77)
    mixed = mixed + column * np.uint32(0xC2B2AE3D)
    mixed = (mixed ^ (mixed >> 15)) * np.uint32(0x2C1B3C6D)
    mixed = (mixed ^ (mixed >> 12)) * np.uint32(0x297A2D39)
    return ((mixed ^ (mixed >> 15)) % np.uint32(num_buckets)).astype(jnp.int32)


def embedded(
    *, num_users: int, num_items: int, dimension: int, init_scale: float, side: Side | None, num_buckets: int
) -> Fields:
    """Builds the fields.

    Args:
        num_users, num_items, dimension, init_scale: As in `mf.model`, for each table.
        side: What is known beside the ids; None for nothing.
        num_buckets: Rows that all crosses share.

    Raises:
        ValueError: As in `mf.model`, if `num_buckets < 1`, an array of `side` has not one row for each user or item,
            ids are negative, values are not finite, or the crossed columns of users and items differ in number.
    """
    embeddings = mf.model(num_users=num_users, num_items=num_items, dimension=dimension, init_scale=init_scale)
    given = _checked(side or Side(), num_users, num_items, num_buckets)
    made = {name: jnp.asarray(array) for name, array in given.items()}
    width = lambda name: given[name].shape[1] if name in given else 0
    sizes = {f"{who}_feature": int(given[f"{who}_ids"].max()) + 1 for who in ("user", "item") if f"{who}_ids" in given}
    sizes |= {f"{who}_value": width(f"{who}_values") for who in ("user", "item") if f"{who}_values" in given}
    sizes |= {"cross": num_buckets} if "user_crossed" in given else {}

    def init(key: Key) -> Params:
        table_key, *keys = jax.random.split(key, 1 + len(sizes))
        params = embeddings.init(table_key)
        rows_of = lambda key, size: init_scale * jax.random.truncated_normal(key, -2, 2, (size, dimension))
        tables = {name: rows_of(key, size) for key, (name, size) in zip(keys, sizes.items(), strict=True)}
        return {**params, "tables": {**params["tables"], **tables}, "given": made}

    def of(who: str, params: Params, ids: Array) -> Array:
        tables, known = params["tables"], params["given"]
        parts = [tables[who][ids][..., None, :]]
        if f"{who}_ids" in known:
            parts.append(tables[f"{who}_feature"][known[f"{who}_ids"][ids]])
        if f"{who}_values" in known:
            parts.append(jnp.einsum("...v,vd->...vd", known[f"{who}_values"][ids], tables[f"{who}_value"]))
        return jnp.concatenate(parts, axis=-2)

    def of_both(params: Params, users: Array, items: Array) -> Array:
        known = params["given"]
        if "user_crossed" not in known:
            return jnp.zeros((*jnp.broadcast_shapes(users.shape, items.shape), 0, dimension))
        buckets = crossed(known["user_crossed"][users], known["item_crossed"][items], num_buckets)
        return params["tables"]["cross"][buckets]

    return Fields(
        init=init,
        of_users=lambda params, users: of("user", params, users),
        of_items=lambda params, items: of("item", params, items),
        of_both=of_both,
        num_users=1 + width("user_ids") + width("user_values"),
        num_items=1 + width("item_ids") + width("item_values"),
        num_both=width("user_crossed"),
        given=made,
        reads=None if given else embeddings.reads,
    )


def flat(fields: Array) -> Array:
    """Fields [..., F, D] -> [..., F * D]."""
    return fields.reshape(*fields.shape[:-2], -1)


def _checked(side: Side, num_users: int, num_items: int, num_buckets: int) -> dict[str, np.ndarray]:
    """The arrays of `side` that have columns, each with a row for each user or item."""
    checks.counts(num_buckets=num_buckets)
    given = {name: array for name, array in side._asdict().items() if array is not None and array.shape[1]}
    for name, array in given.items():
        num = num_users if name.startswith("user") else num_items
        if len(array) != num:
            raise ValueError(f"Expected {name} with {num} rows, got {len(array)}.")
        if name.endswith("values") and not np.isfinite(array).all():
            raise ValueError(f"Expected finite {name}, got {int((~np.isfinite(array)).sum())} that are not.")
        if not name.endswith("values") and array.min() < 0:
            raise ValueError(f"Expected {name} >= 0, got {array.min()}.")
    widths = [given[name].shape[1] if name in given else 0 for name in ("user_crossed", "item_crossed")]
    if widths[0] != widths[1]:
        raise ValueError(f"Expected as many crossed columns of users as of items, got {widths[0]} and {widths[1]}.")
    return given
