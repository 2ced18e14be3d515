"""Item-kNN: an item's score is how similar its nearest items among those the user has are to it, summed.

Sarwar, Karypis, Konstan and Riedl, "Item-Based Collaborative Filtering Recommendation Algorithms", WWW 2001,
https://doi.org/10.1145/371920.372071; with the settings of `neighbours`.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, neighbours, profiles
from jaxrec.types import Array, Interactions, Key, Model, Params


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

        score(u, i) = sum over the k nearest items j of i that u has:  similarity(i, j)

    Args:
        num_users, num_items: Of the data.
        num_neighbours: k, the nearest items of each *scored* item; fewer where there are fewer items.
        shrinkage: In units of the product of two norms (of users, where there is no weighting): lessens similarities
            of items that few users have.
        asymmetry: 0.5 is the cosine; above, popular items' scores are lessened, below, raised.
        weighting: Of the users who have an item, as terms of that item: "none", "tfidf" (users with few items tell
            more) or "bm25".

    Returns:
        A `Model` with table "similarity" [I, k], whose row i is what the score of item i is made of; whose
        similarities they are stands in given["neighbours"] [I, k], and histories in given["profiles"]. No [I, I] array,
        so large catalogues fit. A user without history scores 0 everywhere, and so does an item never seen. The code
        of Ferrari Dacrema et al. weighs the interactions that it scores with too; here weights count in the
        similarity alone.

    Raises:
        ValueError: If a size is below 1, or as `neighbours.check`.
    """
    checks.counts(num_users=num_users, num_items=num_items)
    neighbours.check(num_neighbours, shrinkage, asymmetry, weighting)
    k = max(min(num_neighbours, num_items - 1), 1)

    def init(key: Key) -> Params:
        del key
        given = {
            "neighbours": jnp.full((num_items, k), -1, jnp.int32),
            "profiles": profiles.empty(num_users, num_items),
        }
        return {"tables": {"similarity": jnp.zeros((num_items, k))}, "weights": {}, "given": given}

    def solve(train: Interactions, key: Key) -> Params:
        del key
        vectors = neighbours.weighted(profiles.matrix(train).T.tocsr(), weighting)
        found = neighbours.nearest(vectors, num_neighbours=num_neighbours, shrinkage=shrinkage, asymmetry=asymmetry)
        given = {"neighbours": jnp.asarray(found.ids), **_given(train)}
        return {"tables": {"similarity": jnp.asarray(found.similarities)}, "weights": {}, "given": given}

    return Model(init=init, score=_score, score_all=_score_all, solve=solve, given=_given)


def _given(known: Interactions) -> dict[str, profiles.Profiles]:
    return {"profiles": profiles.prepare(known)}


def _score(params: Params, users: Array, items: Array) -> Array:
    def of_pairs(users, items):
        near = params["given"]["neighbours"][items]
        has = profiles.contain(params["given"]["profiles"], jnp.broadcast_to(users[:, None], near.shape), near)
        return jnp.sum(jnp.where(has, params["tables"]["similarity"][items], 0), axis=-1)

    return profiles.pair_by_pair(of_pairs, users, items)


def _score_all(params: Params, users: Array) -> Array:
    """A neighbour at a time, so that what lies between is [I, B] and not [I, k, B]."""
    given, similarities = params["given"], params["tables"]["similarity"]
    has = profiles.multi_hot(given["profiles"], users).T
    has = jnp.concatenate([has, jnp.zeros_like(has[:1])])  # the last row is that of no neighbour, -1

    @jax.checkpoint
    def add(scores, neighbour):
        ids, similarity = neighbour
        return scores + similarity[:, None] * has[ids], None

    scores, _ = jax.lax.scan(add, jnp.zeros_like(has[:-1]), (given["neighbours"].T, similarities.T))
    return scores.T
