"""The objective of iALS on real and fake rows: what its exact surrogate solves and the unrolled one takes steps on.

Hu, Koren and Volinsky, ICDM 2008, with the regularisation of Rendle et al., RecSys 2022, as in `jaxrec.models.ials`.
A fake row's value f counts as that much of a pair everywhere: in the loss, in its user's and in its item's count. So
rows of zeros and ones are what the model makes of such users, and the objective is smooth in between.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import packed, profiles
from jaxrec.models import ials
from jaxrec.types import Array, Interactions, Key

Tables = dict[str, Array]  # "user" [U, D], "fake" [M, D], "item" [I, D]
CHUNK = 512  # users whose pairs with all items are held at a time


class Data(NamedTuple):
    """The real pairs on the device.

    Attributes:
        rows: All of them, in chunks of users.
        user_counts, item_counts: Distinct pairs of each, [U] and [I].
    """

    rows: packed.Rows
    user_counts: Array
    item_counts: Array


def check(*, dimension: int, weights: tuple[float, float, float], init_scale: float) -> None:
    """Raises the ValueError of `ials.model`, where it does not take these settings."""
    ials.model(
        num_users=1,
        num_items=1,
        dimension=dimension,
        l2=weights[0],
        unobserved_weight=weights[1],
        l2_exponent=weights[2],
        init_scale=init_scale,
    )


def prepare(real: Interactions) -> Data:
    """Lays the real pairs out."""
    pairs = profiles.matrix(real)
    counts = (np.asarray(pairs.sum(axis=axis), jnp.zeros(()).dtype) for axis in (1, 0))
    return Data(packed.rows(real, CHUNK), *jax.device_put(tuple(counts)))


def objective(tables: Tables, fakes: Array, data: Data, weights: Array) -> Array:
    """The objective of `ials.model`, a sum over all pairs of U + M users and I items.

    Args:
        fakes: [M, I].
        weights: [l2, unobserved_weight, l2_exponent].
    """
    l2, unobserved_weight, exponent = weights
    user, fake, item = tables["user"], tables["fake"], tables["item"]
    num_users, num_items = len(user) + len(fake), len(item)

    @jax.checkpoint
    def of_chunk(chunk):
        user, bits = chunk
        return jnp.where(packed.unpack(bits, num_items), (1 - user @ item.T) ** 2, 0).sum()

    def decay(table, counts, num_others):
        return l2 * jnp.sum((counts + unobserved_weight * num_others) ** exponent * (table**2).sum(axis=1))

    seen = jax.lax.map(of_chunk, (packed.by_chunk(user, data.rows), data.rows.bits)).sum()
    added = (fakes * (1 - fake @ item.T) ** 2).sum()
    everything = unobserved_weight * ((user.T @ user + fake.T @ fake) * (item.T @ item)).sum()
    of_users = decay(user, data.user_counts, num_items) + decay(fake, fakes.sum(axis=1), num_items)
    return seen + added + everything + of_users + decay(item, data.item_counts + fakes.sum(axis=0), num_users)


def init(data: Data, key: Key, num_fakes: int, *, dimension: int, init_scale: float) -> Tables:
    """Tables of U, M and I rows to start from, a normal as in `ials.model`."""
    scale = init_scale / dimension**0.5
    sizes = len(data.user_counts), num_fakes, len(data.item_counts)
    names = ("user", "fake", "item")
    return {
        name: scale * jax.random.normal(own, (size, dimension))
        for name, own, size in zip(names, jax.random.split(key, 3), sizes, strict=True)
    }


def scores(tables: Tables, users: Array) -> Array:
    """Of real users [B], [B, I]."""
    return tables["user"][users] @ tables["item"].T
