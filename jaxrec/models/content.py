"""Content-based: an item's score is the cosine of its features and the mean features of what the user has.

Lops, de Gemmis and Semeraro, "Content-based Recommender Systems: State of the Art and Trends", Recommender Systems
Handbook 2011, https://doi.org/10.1007/978-0-387-85820-3_3, section 3.3.1.1: the vector space model with TF-IDF.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrec import checks, norms, profiles
from jaxrec.types import Array, Interactions, Key, Model, Params


def model(*, num_users: int, num_items: int, features: np.ndarray | None = None) -> Model:
    """Builds the model, which has nothing to learn: `solve` looks the users' items up.

    Args:
        num_users, num_items: Of the data.
        features: [I, F], finite, such as `describe` makes of texts and genres; an item's row is taken to length 1. By
            default an item's only feature is which it is: then what a user has goes before what they have not.

    Returns:
        A `Model` without tables: the features lie in given["features"] [I, F], where an adversary may change them
        (they are normalised when they are read), beside given["profiles"]. Scores are in [-1, 1], 0 for a user without
        history and for an item without features. An item never seen is scored like any other.

    Raises:
        ValueError: If a size is below 1, or the features are not finite or not those of `num_items` items.
    """
    checks.counts(num_users=num_users, num_items=num_items)
    described = np.eye(num_items, dtype=np.float32) if features is None else np.asarray(features, np.float32)
    if described.ndim != 2 or len(described) != num_items:
        raise ValueError(f"Expected features of shape ({num_items}, F), got {described.shape}.")
    if not np.isfinite(described).all():
        raise ValueError(f"Expected finite features, got {int((~np.isfinite(described)).sum())} that are not.")

    def init(key: Key) -> Params:
        del key
        given = {"features": jnp.asarray(described), "profiles": profiles.empty(num_users, num_items)}
        return {"tables": {}, "weights": {}, "given": given}

    def solve(train: Interactions, key: Key) -> Params:
        params = init(key)
        return {**params, "given": {**params["given"], **_given(train)}}

    return Model(init=init, score=_score, score_all=_score_all, solve=solve, given=_given)


def describe(texts: Sequence[str], labels: np.ndarray | None = None, *, min_count: int = 2) -> np.ndarray:
    """Features [I, F] of items: TF-IDF of the words of each text, and labels such as genres beside them.

    Args:
        texts: A text for each item, such as its title.
        labels: Zeros and ones [I, G]; they count as much as the text, since both parts of a row have length 1.
        min_count: A word that fewer texts have is left out.

    Raises:
        ValueError: If there are not as many rows of labels as texts, or no word is left.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer: Any = TfidfVectorizer(min_df=min_count, sublinear_tf=True, stop_words="english")
    words = vectorizer.fit_transform(texts).toarray()
    if labels is None:
        return words.astype(np.float32)
    if len(labels) != len(texts):
        raise ValueError(f"Expected labels of {len(texts)} items, got {len(labels)}.")
    lengths = np.maximum(np.linalg.norm(labels, axis=1, keepdims=True), 1e-9)
    return np.concatenate([words, labels / lengths], axis=1).astype(np.float32)


def _given(known: Interactions) -> dict[str, profiles.Profiles]:
    return {"profiles": profiles.prepare(known)}


def _vectors(params: Params, users: Array) -> tuple[Array, Array]:
    """users [B] -> their unit vectors [B, F], and those of all items [I, F]; a vector of zeros stays."""
    items = norms.L2.direction(params["given"]["features"])
    return norms.L2.direction(profiles.multi_hot(params["given"]["profiles"], users) @ items), items


def _score(params: Params, users: Array, items: Array) -> Array:
    def of_pairs(users, items):
        profile, vectors = _vectors(params, users)
        return jnp.sum(profile * vectors[items], axis=-1)

    return profiles.pair_by_pair(of_pairs, users, items)


def _score_all(params: Params, users: Array) -> Array:
    profile, vectors = _vectors(params, users)
    return profile @ vectors.T
