"""Who has which item as bits, eight pairs a byte: dense rows of the data, in chunks, where sums run over all pairs.

On a CPU the products of dense chunks beat gathers of the pairs where about a twentieth of the pairs is in the data.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import profiles
from jaxrec.types import Array, Interactions


class Rows(NamedTuple):
    """All users, dealt to chunks in order.

    Attributes:
        users: int32 [chunks, B]; user 0 in the places that are left over.
        present: bool [chunks, B], false there.
        bits: uint8 [chunks, B, ceil(I / 8)], zeros there.
    """

    users: Array
    present: Array
    bits: Array


def rows(known: Interactions, chunk_size: int) -> Rows:
    """Lays the rows out on the device, in equal chunks of at most `chunk_size` users."""
    num_chunks = -(-known.num_users // chunk_size)
    size = -(-known.num_users // num_chunks)
    users = np.arange(num_chunks * size, dtype=np.int32).reshape(num_chunks, size)
    bits = np.zeros((num_chunks * size, -(-known.num_items // 8)), np.uint8)
    pairs = profiles.matrix(known)
    for start in range(0, known.num_users, size):
        block = pairs[start : start + size].toarray().astype(bool)
        bits[start : start + len(block)] = np.packbits(block, axis=1)
    present = users < known.num_users
    return Rows(*jax.device_put((users * present, present, bits.reshape(num_chunks, size, -1))))


def unpack(bits: Array, num_items: int) -> Array:
    """uint8 [..., ceil(I / 8)] -> bool [..., I]."""
    return jnp.unpackbits(bits, axis=-1, count=num_items).astype(bool)


def by_chunk(table: Array, like: Rows) -> Array:
    """A table [U, ...] in the chunks of `like`, [chunks, B, ...]; zeros in the places that are left over."""
    missing = like.users.size - len(table)
    padded = jnp.pad(table, ((0, missing), *((0, 0),) * (table.ndim - 1)))
    return padded.reshape(*like.users.shape, *table.shape[1:])
