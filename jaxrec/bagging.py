"""A recommender that is bagged over users: many base models, each of a few users, vote for what a user is recommended.

Breiman, "Bagging Predictors", Machine Learning 1996, over users without replacement, as in PORE (Jia et al., USENIX
Security 2023, arXiv:2303.14601), which certifies such an ensemble (`certificates.pore`).

The base model is EASE (Steck, WWW 2019, arXiv:1905.03375; `models.ease`) of the s sampled users, in the form whose cost
is that of s, not of the items. With X their rows of zeros and ones and x a user's,

    H = X^T (X X^T + l2)^-1 X,   P = (X^T X + l2)^-1 = (identity - H) / l2               (Woodbury)
    score of an item i that the user does not have = -(x P)_i / P_ii = (x H)_i / (1 - H_ii)

so that all users' scores are two products with an [s, I] array, and x X^T are rows of one Gram matrix of all users. A
base model serves users it was not trained on: it reads their histories. In the paper's code it serves the s alone, and
thousands of models give a user fewer votes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int, Int32

from jaxrec import checks, profiles
from jaxrec.types import Array, InputError, Interactions, Key, Scalar


class Bag(NamedTuple):
    """What base models are trained on.

    Attributes:
        pairs: Ones where a user has an item.
        gram: How many items two users share.
    """

    pairs: Float32[Array, "n I"]
    gram: Float32[Array, "n n"]


class Ensemble(NamedTuple):
    """How base models are made.

    Attributes:
        num_sampled: s, users of each.
        num_recommended: N', items that each recommends to a user.
        l2: Of EASE, above 0; added to an item's count of the *sampled* users.
        batch_size: Base models that are solved at once; 1 for one after another, which on a CPU is as fast.
    """

    num_sampled: int
    num_recommended: int = 1
    l2: float = 100.0
    batch_size: int = 1


def check(known: Interactions, ensemble: Ensemble) -> None:
    """Refuses base models that these users cannot give or be served by.

    Raises:
        InputError: If s is not in [1, users], or N' not in [1, items that a user does not know].
        ValueError: If `l2` is not above 0 and finite, or `batch_size < 1`.
    """
    if not 1 <= ensemble.num_sampled <= known.num_users:
        raise InputError(
            f"Expected num_sampled in [1, {known.num_users}], the users, got num_sampled={ensemble.num_sampled}."
        )
    longest = int(np.diff(profiles.matrix(known).indptr).max(initial=0))
    if not 1 <= ensemble.num_recommended <= known.num_items - longest:
        raise InputError(
            f"Expected num_recommended in [1, {known.num_items - longest}], the catalogue of {known.num_items} items "
            f"less the longest history, got num_recommended={ensemble.num_recommended}."
        )
    checks.positive(l2=ensemble.l2)
    checks.counts(batch_size=ensemble.batch_size)


def prepare(known: Interactions) -> Bag:
    """Lays out the users, fakes among them if there are some; a dense [n, I] and an [n, n] array."""
    pairs = jnp.asarray(profiles.matrix(known).toarray())
    return Bag(pairs, pairs @ pairs.T)


def sample(key: Key, number: Scalar, *, num_users: int, num_sampled: int) -> Int32[Array, " s"]:
    """The users of base model `number`: drawn uniformly, without replacement."""
    return jax.random.choice(jax.random.fold_in(key, number), num_users, (num_sampled,), replace=False)


def base_scores(bag: Bag, sampled: Int32[Array, " s"], l2: Scalar, *, num_served: int) -> Float32[Array, "U I"]:
    """Scores of EASE of the sampled users for the first `num_served` users; minus infinity for what a user has."""
    rows = bag.pairs[sampled]
    inverse = jnp.linalg.inv(bag.gram[sampled][:, sampled] + l2 * jnp.eye(len(sampled)))
    weights = inverse @ rows
    scores = bag.gram[:num_served, sampled] @ (weights / (1 - jnp.sum(rows * weights, axis=0))[None])
    return jnp.where(bag.pairs[:num_served] > 0, -jnp.inf, scores)


@functools.partial(jax.jit, static_argnames=("ensemble", "num_models", "num_served"))
def votes(
    bag: Bag, key: Key, first: Scalar, *, ensemble: Ensemble, num_models: int, num_served: int
) -> Int32[Array, "T U K"]:
    """What base models number `first`, `first` + 1, ... recommend to the first users, best first.

    Args:
        bag: From `prepare`, of what `check` has let pass.
        key: Of all base models: one's sample depends on it, on its number and on how many users there are.
        first: May be traced, so that one program makes all pieces of one length.
        num_models: T, of this piece.
        num_served: U; the real users, who come before the fakes.

    Returns:
        [T, U, N'] items, each of which its user does not have.
    """

    def recommend(number):
        sampled = sample(key, number, num_users=len(bag.pairs), num_sampled=ensemble.num_sampled)
        scores = base_scores(bag, sampled, ensemble.l2, num_served=num_served)
        if ensemble.num_recommended == 1:  # on a CPU a third of the whole faster than top_k
            return jnp.argmax(scores, axis=1).astype(jnp.int32)[:, None]
        return jax.lax.top_k(scores, ensemble.num_recommended)[1]

    batch_size = ensemble.batch_size if ensemble.batch_size > 1 else None
    return jax.lax.map(recommend, first + jnp.arange(num_models), batch_size=batch_size)


def count(votes: Int[np.ndarray, "T U K"], num_items: int) -> Int[np.ndarray, "U I"]:
    """How many of the base models recommend each item to each user."""
    num_users = votes.shape[1]
    cells = np.arange(num_users)[None, :, None] * num_items + votes
    return np.bincount(cells.ravel(), minlength=num_users * num_items).reshape(num_users, num_items)
