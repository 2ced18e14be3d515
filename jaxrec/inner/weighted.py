"""The objective of iALS on real and fake rows: what its exact surrogate solves and the unrolled one takes steps on.

Hu, Koren and Volinsky, ICDM 2008, with the regularisation of Rendle et al., RecSys 2022, as in `jaxrec.models.ials`.
A fake row's value f counts as that much of a pair everywhere: in the loss, in its user's and in its item's count. So
rows of zeros and ones are what the model makes of such users, and the objective is smooth in between.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import packed
from jaxrec.types import Array, Interactions, Key

Tables = dict[str, Array]  # "user" [U, D], "fake" [M, D], "item" [I, D]
Objective = Callable[[Tables, Array], Array]  # (tables, fakes [M, I]) -> []
CHUNK = 512  # users whose pairs with all items are held at a time


def objective(real: Interactions, *, l2: float, unobserved_weight: float, l2_exponent: float) -> Objective:
    """Builds `(tables, fakes [M, I]) -> []`, the sum of `ials.model` over all pairs of U + M users and I items."""
    rows = packed.rows(real, CHUNK)
    pairs = np.unique(np.stack([real.users, real.items]), axis=1)
    user_counts, item_counts = (
        jnp.asarray(np.bincount(ids, minlength=num), jnp.zeros(()).dtype)
        for ids, num in zip(pairs, (real.num_users, real.num_items), strict=True)
    )

    def decay(table, counts, num_others):
        return l2 * jnp.sum((counts + unobserved_weight * num_others) ** l2_exponent * (table**2).sum(axis=1))

    def value(tables: Tables, fakes: Array) -> Array:
        user, fake, item = tables["user"], tables["fake"], tables["item"]

        @jax.checkpoint
        def of_chunk(chunk):
            user, bits = chunk
            return jnp.where(packed.unpack(bits, real.num_items), (1 - user @ item.T) ** 2, 0).sum()

        seen = jax.lax.map(of_chunk, (packed.by_chunk(user, rows), rows.bits)).sum()
        added = (fakes * (1 - fake @ item.T) ** 2).sum()
        everything = unobserved_weight * ((user.T @ user + fake.T @ fake) * (item.T @ item)).sum()
        decays = (
            decay(user, user_counts, real.num_items)
            + decay(fake, fakes.sum(axis=1), real.num_items)
            + decay(item, item_counts + fakes.sum(axis=0), real.num_users + len(fakes))
        )
        return seen + added + everything + decays

    return value


def init(key: Key, *, sizes: tuple[int, int, int], dimension: int, init_scale: float) -> Tables:
    """Tables of U, M and I rows to start from, a normal as in `ials.model`."""
    scale = init_scale / dimension**0.5
    keys = dict(zip(("user", "fake", "item"), jax.random.split(key, 3), strict=True))
    return {
        name: scale * jax.random.normal(key, (size, dimension))
        for (name, key), size in zip(keys.items(), sizes, strict=True)
    }


def scores(tables: Tables, users: Array) -> Array:
    """Of real users [B], [B, I]."""
    return tables["user"][users] @ tables["item"].T
