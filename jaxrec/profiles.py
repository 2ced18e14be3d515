"""What each user has touched, as models of items read it: on the device, in the memory of the interactions alone.

A user's profile is the set of their known items: the same item twice counts once, and order does not matter (where it
does, see `sequences`). There is no [U, I] array; `multi_hot` makes the rows of a chunk of users.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from jaxrec.types import Array, Interactions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Profiles:
    """The distinct items of each user.

    Attributes:
        starts: int32 [U + 1], where each user's stretch of `items` begins.
        items: int32 [N + 1], ascending within a user; I after the last of them, so that there is always one.
        num_items: I.
        longest: Items of the user who has most of them, P.
    """

    starts: Array
    items: Array
    num_items: int = dataclasses.field(metadata={"static": True})
    longest: int = dataclasses.field(metadata={"static": True})


def matrix(known: Interactions) -> scipy.sparse.csr_array:
    """The known pairs as a matrix of ones, float32 [U, I], on the host; a repeated pair counts once."""
    shape = (known.num_users, known.num_items)
    pairs = scipy.sparse.csr_array((np.ones(len(known), np.float32), (known.users, known.items)), shape=shape)
    pairs.sum_duplicates()
    pairs.data[:] = 1
    return pairs


def ratings(known: Interactions) -> Any:
    """What users have said of items, a sparse float64 [U, I] on the host: ratings, or ones of implicit feedback.

    Places that are not filled are no ratings. A pair that occurs twice adds up. (Any: SciPy's types are too wide.)
    """
    values = np.ones(len(known)) if known.ratings is None else known.ratings.astype(np.float64)
    return scipy.sparse.csr_array((values, (known.users, known.items)), shape=(known.num_users, known.num_items))


def prepare(known: Interactions) -> Profiles:
    """Lays the profiles out on the device."""
    pairs = matrix(known)
    longest = int(np.diff(pairs.indptr).max(initial=0))
    ended = np.append(pairs.indices, known.num_items)
    starts, items = jax.device_put((pairs.indptr.astype(np.int32), ended.astype(np.int32)))
    return Profiles(starts, items, known.num_items, longest)


def empty(num_users: int, num_items: int) -> Profiles:
    """The profiles of users who have touched nothing, for parameters that have not seen data."""
    return Profiles(jnp.zeros(num_users + 1, jnp.int32), jnp.full(1, num_items, jnp.int32), num_items, 0)


def items_of(profiles: Profiles, users: Array) -> Array:
    """users [...] -> int32 [..., P], each user's items, I (out of range) in the places that are left."""
    places = profiles.starts[users][..., None] + _like_last(jnp.arange(profiles.longest), users.ndim)
    items = profiles.items.at[places].get(mode="fill", fill_value=profiles.num_items)
    return jnp.where(places < profiles.starts[users + 1][..., None], items, profiles.num_items)


def multi_hot(profiles: Profiles, users: Array) -> Array:
    """users [B] -> float32 [B, I], one where the user has the item."""
    rows = jnp.broadcast_to(jnp.arange(len(users))[:, None], (len(users), profiles.longest))
    zeros = jnp.zeros((len(users), profiles.num_items))
    return zeros.at[rows, items_of(profiles, users)].set(1.0, mode="drop")


def contain(profiles: Profiles, users: Array, items: Array) -> Array:
    """users [...] and items [...], of one shape -> bool [...], whether the user has the item; false for item -1."""
    low, high = profiles.starts[users], profiles.starts[users + 1]
    end = high
    for _ in range(profiles.longest.bit_length()):
        middle = (low + high) // 2
        below, inside = profiles.items[middle] < items, low < high
        low, high = jnp.where(inside & below, middle + 1, low), jnp.where(inside & ~below, middle, high)
    return (low < end) & (profiles.items[low] == items)


def pair_by_pair(function: Callable[[Array, Array], Array], users: Array, items: Array, *, size: int = 512) -> Array:
    """`function` (users [N], items [N]) -> [N] of users [...] and items [...], broadcast against each other -> [...].

    At most `size` pairs at a time, where a pair takes much room: a whole profile, or the scores of a whole catalogue.
    """
    users, items = jnp.broadcast_arrays(jnp.asarray(users), jnp.asarray(items))
    pairs = users.reshape(-1), items.reshape(-1)
    if users.size <= size:
        return function(*pairs).reshape(users.shape)
    whole = users.size // size * size
    blocks = tuple(column[:whole].reshape(-1, size) for column in pairs)
    scores = jax.lax.map(lambda block: function(*block), blocks).reshape(-1)
    rest = function(*(column[whole:] for column in pairs)) if whole < users.size else scores[:0]
    return jnp.concatenate([scores, rest]).reshape(users.shape)


def _like_last(vector: Array, num_axes: int) -> Array:
    """[P] -> [1, ..., 1, P], since ranks are never raised in silence."""
    return vector.reshape((1,) * num_axes + vector.shape)
