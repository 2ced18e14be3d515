"""What a trained model recommends to a user, and why: the items with the highest scores, and what they rest on.

Why is asked in three ways, each where the model has what it needs:

    without it    a model of profiles (EASE, kNN, autoencoders): what the score loses when the user never had the item
    similarity    a model of item vectors: the cosine of a known item's vector with the recommended one's
    features      a model of given real numbers: d score / d number * number (gradient x input; Shrikumar et al.,
                  "Not Just a Black Box", arXiv:1605.01713), of the user's row and of the item's
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import metrics
from jaxrec.profiles import Profiles
from jaxrec.types import Array, Model, Params, PyTree


class Best(NamedTuple):
    """Items int32 [B, K], best first, -1 where none is left, and their scores float32 [B, K], -inf there."""

    items: Array
    scores: Array


class Reasons(NamedTuple):
    """What items [K] rest on among those that a user has [H].

    Attributes:
        kind: What a weight is, in words.
        weights: float32 [K, H].
    """

    kind: str
    weights: np.ndarray


@functools.partial(jax.jit, static_argnums=(0, 4))
def best(model: Model, params: Params, users: Array, known: Array, k: int) -> Best:
    """The k items that a model scores highest for each user, as `evaluate.lists`, with their scores.

    Args:
        users: int [B].
        known: int [B, P], items left out of each user's list, -1 in an empty place. Few different P compile less.
        k: Length of a list.

    Raises:
        InputError: If `k < 1` or `k > num_items`.
    """
    scores = model.score_all(params, users)
    metrics.check_cutoff(k, scores.shape[1])
    places = jnp.where(known < 0, scores.shape[1], known)
    rows = jnp.broadcast_to(jnp.arange(len(users))[:, None], places.shape)
    scores = jnp.where(jnp.isfinite(scores), scores, -jnp.inf).at[rows, places].set(-jnp.inf, mode="drop")
    values, items = jax.lax.top_k(scores, k)
    return Best(jnp.where(values > -jnp.inf, items, -1), values)


def by_history(model: Model, params: Params, user: int, items: np.ndarray, history: np.ndarray) -> Reasons | None:
    """What items [K] rest on among those that a user has [H]; None of a model without profiles and item vectors.

    A model of users' neighbours has profiles, but its scores read those of others: nothing is lost, all weights are 0.
    """
    if any(isinstance(leaf, Profiles) for leaf in jax.tree.leaves(params["given"], is_leaf=_is_profiles)):
        return Reasons("loss of score without it", _losses(model, params, user, items, history))
    vectors = _vectors(model, params, np.concatenate([items, history]))
    if vectors is None:
        return None
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return Reasons("similarity", unit[: len(items)] @ unit[len(items) :].T)


def by_features(
    model: Model, params: Params, user: int, items: np.ndarray, *, num_users: int, num_items: int
) -> dict[str, np.ndarray]:
    """Gradient times input of the given real numbers, of the user's row and of those of the items [K].

    Returns:
        {"user features" or "item features": float32 [K, F]} for each array of floats [U, F] or [I, F] under given, by
        its name there; empty where there is none.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params["given"])
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    given = dict(zip(names, (leaf for _, leaf in leaves), strict=True))
    real = {name: x for name, x in given.items() if x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.floating)}

    def score(real, item):
        changed = structure.unflatten([{**given, **real}[name] for name in names])
        return model.score({**params, "given": changed}, jnp.full(1, user), item[None])[0]

    gradient = jax.jit(jax.grad(score))
    found = {}
    for item in items.tolist() if real else ():
        slopes = gradient(real, jnp.int32(item))
        for whose, row, num in (("user", user, num_users), ("item", item, num_items)):
            for name in (name for name, x in real.items() if len(x) == num):
                found.setdefault(f"{whose} {name}", []).append(np.asarray(slopes[name][row] * real[name][row]))
    return {name: np.stack(rows) for name, rows in found.items()}


def strongest(weights: np.ndarray, num: int) -> np.ndarray:
    """Places of the `num` largest of the weights [N] that are above 0, the largest first."""
    order = np.argsort(-weights, kind="stable")[:num]
    return order[weights[order] > 0]


def _is_profiles(leaf: PyTree) -> bool:
    return isinstance(leaf, Profiles)


def _losses(model: Model, params: Params, user: int, items: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Scores of items [K] less those without each of the history's items, [K, H]."""
    score = jax.jit(lambda params: model.score(params, jnp.full(len(items), user), jnp.asarray(items)))
    before = np.asarray(score(params))

    def without(item):
        change = lambda leaf: _without(leaf, user, item) if isinstance(leaf, Profiles) else leaf
        return np.asarray(score({**params, "given": jax.tree.map(change, params["given"], is_leaf=_is_profiles)}))

    lost = [before - without(item) for item in history.tolist()]
    return np.stack(lost, axis=1) if lost else np.zeros((len(items), 0), np.float32)


def _without(profiles: Profiles, user: int, item: int) -> Profiles:
    """The profiles with an item taken out of a user's, where it has to be; `longest` may be too large, and stays."""
    starts, items = np.array(profiles.starts), np.asarray(profiles.items)
    place = starts[user] + np.searchsorted(items[starts[user] : starts[user + 1]], item)
    starts[user + 1 :] -= 1
    return dataclasses.replace(profiles, starts=jnp.asarray(starts), items=jnp.asarray(np.delete(items, place)))


def _vectors(model: Model, params: Params, items: np.ndarray) -> np.ndarray | None:
    """Vectors of items [N, E]: of a sequence model, or rows of the table "item" where they are more than a number."""
    if model.sequence is not None:
        return np.asarray(model.sequence.vectors(params, jnp.asarray(items)))
    table = params["tables"].get("item")
    return None if table is None or table.shape[1] < 2 else np.asarray(table)[items]
