"""Popularity: every user is recommended what most users have touched.

The baseline of Cremonesi, Koren and Turrin, "Performance of Recommender Algorithms on Top-N Recommendation Tasks",
RecSys 2010 ("TopPop"), https://doi.org/10.1145/1864708.1864721.
"""

import jax.numpy as jnp
import numpy as np

from jaxrec import checks, profiles
from jaxrec.types import Array, Interactions, Key, Model, Params


def model(*, num_users: int, num_items: int) -> Model:
    """Builds the model, which `solve` counts.

    Returns:
        A `Model` with table "item" [I, 1], the number of users who have touched each item: it is the score. An item
        never seen has 0. A user without history gets the same scores as everyone.

    Raises:
        ValueError: If a size is below 1.
    """
    checks.counts(num_users=num_users, num_items=num_items)

    def init(key: Key) -> Params:
        del key
        return {"tables": {"item": jnp.zeros((num_items, 1))}, "weights": {}, "given": {}}

    def solve(train: Interactions, key: Key) -> Params:
        del key
        counts = np.asarray(profiles.matrix(train).sum(axis=0), np.float32)
        return {"tables": {"item": jnp.asarray(counts[:, None])}, "weights": {}, "given": {}}

    return Model(init=init, score=_score, score_all=_score_all, reads={"item": ("pos", "neg")}, solve=solve)


def _score(params: Params, users: Array, items: Array) -> Array:
    scores = params["tables"]["item"][items, 0]
    return jnp.broadcast_to(scores, jnp.broadcast_shapes(jnp.shape(users), jnp.shape(items)))


def _score_all(params: Params, users: Array) -> Array:
    table = params["tables"]["item"]
    return jnp.broadcast_to(table[:, 0], (len(users), len(table)))
