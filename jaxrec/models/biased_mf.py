"""Biased matrix factorisation: dot products of embeddings, a bias for each user and each item, and the mean rating.

    score = mean + b_u + b_i + p . q

Koren, Bell and Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer 2009, eq. 4.
"""

import jax
import jax.numpy as jnp

from jaxrec import rows
from jaxrec.models import mf
from jaxrec.types import Array, Key, Model, Params


def model(*, num_users: int, num_items: int, dimension: int = 64, init_scale: float = 0.01, mean: float = 0.0) -> Model:
    """Builds the model.

    Args:
        num_users, num_items, dimension, init_scale: As in `mf.model`; biases start at 0.
        mean: Of the ratings, a constant.

    Returns:
        A `Model` with tables "user" [U, D + 1] and "item" [I, D + 1], whose last columns are the biases: a row is all
        that a score needs of a user or an item. Its gauge is that of the embeddings alone.
        `surfaces.columns(surfaces.tables("user", "item"), dimension)` is the embeddings without the biases.

    Raises:
        ValueError: As in `mf.model`, and if `mean` is not finite.
    """
    if not -float("inf") < mean < float("inf"):
        raise ValueError(f"Expected a finite mean, got mean={mean}.")
    embeddings = mf.model(num_users=num_users, num_items=num_items, dimension=dimension, init_scale=init_scale)

    def init(key: Key) -> Params:
        params = embeddings.init(key)
        unbiased = lambda table: jnp.pad(table, ((0, 0), (0, 1)))
        return {**params, "tables": jax.tree.map(unbiased, params["tables"])}

    def score_rows(params: Params, users: Array, items: Array) -> Array:
        del params
        biases = users[..., -1] + items[..., -1]
        return mean + biases + rows.products(users[..., :-1], items[..., :-1])

    def score(params: Params, users: Array, items: Array) -> Array:
        tables = params["tables"]
        return score_rows(params, tables["user"][users], tables["item"][items])

    def score_all(params: Params, users: Array) -> Array:
        user, item = params["tables"]["user"][users], params["tables"]["item"]
        return mean + user[:, -1:] + item[None, :, -1] + user[:, :-1] @ item[:, :-1].T

    return Model(
        init=init,
        score=score,
        score_all=score_all,
        score_rows=score_rows,
        reads={"user": ("users",), "item": ("pos", "neg")},
        canonical=_canonical,
    )


def _canonical(params: Params) -> Params:
    user, item = params["tables"]["user"], params["tables"]["item"]
    embeddings = mf.balanced(user[:, :-1], item[:, :-1])
    with_biases = [
        jnp.concatenate([table, old[:, -1:]], axis=1) for table, old in zip(embeddings, (user, item), strict=True)
    ]
    return {**params, "tables": {**params["tables"], "user": with_biases[0], "item": with_biases[1]}}
