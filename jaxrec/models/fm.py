"""Factorisation machine: a weight for each field, and the dot product of the embeddings of each pair of fields.

    score = w_0 + sum_f w_f x_f + sum_{f < g} <v_f, v_g> x_f x_g

Rendle, "Factorization Machines", ICDM 2010, doi:10.1109/ICDM.2010.127. Without side features it is biased matrix
factorisation. Where the paper squares errors of ratings, the loss here is the objective's.
"""

import jax
import jax.numpy as jnp

from jaxrec import fields
from jaxrec.types import Array, Key, Model, Params


def model(
    *,
    num_users: int,
    num_items: int,
    dimension: int = 16,
    init_scale: float = 0.01,
    side: fields.Side | None = None,
    num_buckets: int = 2**14,
) -> Model:
    """Builds the model.

    Args:
        num_users, num_items, dimension, init_scale: As in `mf.model`, for each field.
        side, num_buckets: As in `fields.embedded`.

    Returns:
        A `Model` with the tables of `fields.Fields`, D + 1 wide: the last column is the field's weight; and weights
        "bias".

    Raises:
        ValueError: As in `fields.embedded`.
    """
    embedded = fields.embedded(
        num_users=num_users,
        num_items=num_items,
        dimension=dimension + 1,
        init_scale=init_scale,
        side=side,
        num_buckets=num_buckets,
    )

    def init(key: Key) -> Params:
        return {**embedded.init(key), "weights": {"bias": jnp.zeros(())}}

    def score(params: Params, users: Array, items: Array) -> Array:
        users, items = jnp.asarray(users), jnp.asarray(items)
        of_users, of_items = embedded.of_users(params, users), embedded.of_items(params, items)
        return params["weights"]["bias"] + pairwise(of_users, of_items, embedded.of_both(params, users, items))

    def score_all(params: Params, users: Array) -> Array:
        everything = jnp.arange(num_items)
        of_items = embedded.of_items(params, everything)
        if embedded.num_both:
            of_user = lambda user: score(params, user[None], everything)
            return jax.lax.map(of_user, users)
        user_sums, user_own = _halved(embedded.of_users(params, users))
        item_sums, item_own = _halved(of_items)
        return params["weights"]["bias"] + user_own[:, None] + item_own[None] + user_sums @ item_sums.T

    return Model(init=init, score=score, score_all=score_all, reads=embedded.reads, given=lambda known: embedded.given)


def pairwise(of_users: Array, of_items: Array, of_both: Array) -> Array:
    """Weights of all fields and dot products of all pairs of them, [...], in time linear in their number (eq. 5).

    Args:
        of_users, of_items, of_both: [..., F, D + 1], the last column the weights.
    """
    (user_sums, user_own), (item_sums, item_own) = _halved(of_users), _halved(of_items)
    total = user_own + item_own + jnp.sum(user_sums * item_sums, axis=-1)
    if not of_both.shape[-2]:
        return total
    sums, own = _halved(of_both)
    return total + own + jnp.sum(sums * (user_sums + item_sums), axis=-1)


def _halved(own: Array) -> tuple[Array, Array]:
    """Of some fields: the sum of their embeddings, [..., D], and their weights and pairs among themselves, [...]."""
    vectors, weights = own[..., :-1], own[..., -1]
    sums = jnp.sum(vectors, axis=-2)
    pairs = (jnp.sum(jnp.square(sums), axis=-1) - jnp.sum(jnp.square(vectors), axis=(-2, -1))) / 2
    return sums, jnp.sum(weights, axis=-1) + pairs
