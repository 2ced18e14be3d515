"""Matrix factorisation: the score is the dot product of a user's and an item's embedding.

Koren, Bell and Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer 2009. With the BPR
loss it is the MF-BPR of Rendle et al., UAI 2009, arXiv:1205.2618.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, rows
from jaxrec.types import Array, Key, Model, Params


def model(*, num_users: int, num_items: int, dimension: int = 64, init_scale: float = 0.01) -> Model:
    """Builds the model.

    Args:
        num_users, num_items: Rows of the two tables.
        dimension: Length D of an embedding.
        init_scale: Standard deviation of the truncated normal (cut at two of them) that the tables start from, as in
            He et al., SIGIR 2018.

    Returns:
        A `Model` with tables "user" [U, D] and "item" [I, D], and nothing else.

    Raises:
        ValueError: If a size is below 1 or `init_scale` is negative.
    """
    checks.counts(num_users=num_users, num_items=num_items, dimension=dimension)
    checks.non_negative(init_scale=init_scale)

    def init(key: Key) -> Params:
        user_key, item_key = jax.random.split(key)

        def table(key, num_rows):
            # The cut lowers the spread to .88 of the parent's, as it does in the initialiser He et al. use.
            return init_scale * jax.random.truncated_normal(key, -2, 2, (num_rows, dimension))

        tables = {"user": table(user_key, num_users), "item": table(item_key, num_items)}
        return {"tables": tables, "weights": {}, "given": {}}

    return Model(
        init=init,
        score=_score,
        score_all=_score_all,
        score_pairs=_score_pairs,
        score_rows=_score_rows,
        reads={"user": ("users",), "item": ("pos", "neg")},
        canonical=_canonical,
    )


def _score(params: Params, users: Array, items: Array) -> Array:
    """users [...] and items [...], broadcast against each other -> [...]."""
    tables = params["tables"]
    return _score_rows(params, tables["user"][users], tables["item"][items])


def _score_rows(params: Params, users: Array, items: Array) -> Array:
    del params
    return rows.products(users, items)


def _score_pairs(params: Params, users: Array, pos: Array, neg: Array) -> tuple[Array, Array]:
    """Scores of two items a user. Only the gradient is not what two calls of `_score` would do: it visits each table
    once, where theirs would twice, and adding rows to tables is most of the work of a small step.
    """
    return _pair_scores(params["tables"]["user"], params["tables"]["item"], users, jnp.concatenate([pos, neg]))


@jax.custom_vjp
def _pair_scores(user_table: Array, item_table: Array, users: Array, items: Array) -> tuple[Array, Array]:
    return _pair_scores_forward(user_table, item_table, users, items)[0]


def _pair_scores_forward(user_table, item_table, users, items):
    user, item = user_table[users], item_table[items]
    pos, neg = jnp.split(item, 2)
    scores = rows.sums(user * pos), rows.sums(user * neg)
    return scores, (user, pos, neg, users, items, user_table, item_table)


def _pair_scores_backward(residuals, cotangents):
    user, pos, neg, users, items, user_table, item_table = residuals
    by_pos, by_neg = (cotangent[:, None] for cotangent in cotangents)
    by_user = jnp.zeros_like(user_table).at[users].add(by_pos * pos + by_neg * neg)
    by_item = jnp.zeros_like(item_table).at[items].add(jnp.concatenate([by_pos * user, by_neg * user]))
    return by_user, by_item, None, None


_pair_scores.defvjp(_pair_scores_forward, _pair_scores_backward)


def _score_all(params: Params, users: Array) -> Array:
    return params["tables"]["user"][users] @ params["tables"]["item"].T


def _canonical(params: Params) -> Params:
    tables = params["tables"]
    user, item = balanced(tables["user"], tables["item"])
    return {**params, "tables": {**tables, "user": user, "item": item}}


def balanced(user: Array, item: Array) -> tuple[Array, Array]:
    """Tables [U, D] and [I, D] with the same dot products P Q^T and equal singular values: the balanced SVD, by way of
    two thin QRs.

    It is unique up to signs and to rotations among equal singular values, which change no norm, so a relative epsilon
    means the same for every pair of tables with these dot products. The signs are fixed too.
    """
    user_basis, user_mix = jnp.linalg.qr(user)
    item_basis, item_mix = jnp.linalg.qr(item)
    left, singular, right = jnp.linalg.svd(user_mix @ item_mix.T, full_matrices=False)
    user_vectors, item_vectors = user_basis @ left, item_basis @ right.T
    largest = jnp.argmax(jnp.abs(item_vectors), axis=0, keepdims=True)
    root = jnp.sqrt(singular)
    signs = jnp.sign(jnp.take_along_axis(item_vectors, largest, axis=0))
    unused = ((0, 0), (0, user.shape[1] - len(singular)))
    scale = signs * root[None]
    return jnp.pad(user_vectors * scale, unused), jnp.pad(item_vectors * scale, unused)
