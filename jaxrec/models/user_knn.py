"""User-kNN: an item's score is how similar the nearest users who have it are to the user, summed.

Resnick, Iacovou, Suchak, Bergstrom and Riedl, "GroupLens: An Open Architecture for Collaborative Filtering of Netnews",
CSCW 1994, https://doi.org/10.1145/192844.192905, for implicit feedback; with the settings of `neighbours`.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, neighbours, profiles
from jaxrec.types import Array, Interactions, Key, Model, Params

_PIECE = 4096  # interactions whose [B] similarities are added at a time


def model(
    *,
    num_users: int,
    num_items: int,
    num_neighbours: int = 100,
    shrinkage: float = 0.0,
    asymmetry: float = 0.5,
    weighting: neighbours.Weighting = "none",
) -> Model:
    """Builds the model, which `solve` finds the neighbours of.

        score(u, i) = sum over the k nearest users v of u who have i:  similarity(u, v)

    Args:
        num_users, num_items: Of the data.
        num_neighbours: k, the nearest users of each user; fewer where there are fewer users.
        shrinkage: In units of the product of two norms (of items, where there is no weighting): lessens similarities
            to users who have few items.
        asymmetry: 0.5 is the cosine; above, users with many items count for less as neighbours, below, for more.
        weighting: Of the items that a user has, as terms of that user: "none", "tfidf" (rare items tell more) or
            "bm25".

    Returns:
        A `Model` with table "similarity" [U, k], row u for the scores of user u; whose similarities they are stands in
        given["neighbours"] [U, k], and what those users have in given["profiles"]. No [U, U] array. A user without
        history scores 0 everywhere, and so does an item never seen. Where the code of Ferrari Dacrema et al. adds up
        the users v that have u among their own nearest, these are u's nearest, as in the paper; and weights count in
        the similarity alone.

    Raises:
        ValueError: If a size is below 1, or as `neighbours.check`.
    """
    checks.counts(num_users=num_users, num_items=num_items)
    neighbours.check(num_neighbours, shrinkage, asymmetry, weighting)
    k = max(min(num_neighbours, num_users - 1), 1)

    def init(key: Key) -> Params:
        del key
        given = {
            "neighbours": jnp.full((num_users, k), -1, jnp.int32),
            "profiles": profiles.empty(num_users, num_items),
        }
        return {"tables": {"similarity": jnp.zeros((num_users, k))}, "weights": {}, "given": given}

    def solve(train: Interactions, key: Key) -> Params:
        del key
        vectors = neighbours.weighted(profiles.matrix(train), weighting)
        found = neighbours.nearest(vectors, num_neighbours=num_neighbours, shrinkage=shrinkage, asymmetry=asymmetry)
        given = {"neighbours": jnp.asarray(found.ids), **_given(train)}
        return {"tables": {"similarity": jnp.asarray(found.similarities)}, "weights": {}, "given": given}

    return Model(init=init, score=_score, score_all=_score_all, solve=solve, given=_given)


def _given(known: Interactions) -> dict[str, profiles.Profiles]:
    return {"profiles": profiles.prepare(known)}


def _score(params: Params, users: Array, items: Array) -> Array:
    def of_pairs(users, items):
        near = params["given"]["neighbours"][users]
        items = jnp.broadcast_to(items[:, None], near.shape)
        # The profile of user -1 is none: an item that is none is in no profile.
        has = profiles.contain(params["given"]["profiles"], jnp.maximum(near, 0), jnp.where(near < 0, -1, items))
        return jnp.sum(jnp.where(has, params["tables"]["similarity"][users], 0), axis=-1)

    return profiles.pair_by_pair(of_pairs, users, items)


def _score_all(params: Params, users: Array) -> Array:
    """Each interaction of the data adds its user's similarity to its item, for all of `users` at once."""
    given, table = params["given"], params["tables"]["similarity"]
    known = given["profiles"]
    near = given["neighbours"][users]
    num_users, num_pairs = len(given["neighbours"]), len(known.items)
    rows = jnp.where(near < 0, num_users, near)
    columns = jnp.broadcast_to(jnp.arange(len(users))[:, None], near.shape)
    similarity = jnp.zeros((num_users, len(users))).at[rows, columns].add(table[users], mode="drop")
    owner = jnp.repeat(jnp.arange(num_users), jnp.diff(known.starts), total_repeat_length=num_pairs)
    padding = -num_pairs % _PIECE
    pieces = [
        jnp.pad(column, (0, padding), constant_values=outside).reshape(-1, _PIECE)
        for column, outside in ((owner, 0), (known.items, known.num_items))
    ]

    def add(scores, piece):
        owners, items = piece
        return scores.at[items].add(similarity[owners], mode="drop"), None

    scores, _ = jax.lax.scan(add, jnp.zeros((known.num_items, len(users))), pieces)
    return scores.T
