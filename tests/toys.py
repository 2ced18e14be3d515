"""Small victims for the laws of attacks: rows that a linear model or an MLP classifies, and the tables of an MF."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import losses, objectives
from jaxrec.models import mf
from jaxrec.types import Array, Key, PyTree


class Victim(NamedTuple):
    """What an oracle is made of.

    Attributes:
        x: What is perturbed.
        losses: (key, x) -> [N], smooth.
        still: Tree like x, bool [rows]: where the gradient is zero.
        scores: (key, x) -> [N, C], or None.
        labels: [N], or None.
    """

    x: PyTree
    losses: Callable[[Key, PyTree], Array]
    still: PyTree
    scores: Callable[[Key, PyTree], Array] | None = None
    labels: Array | None = None


def normal(seed: int, *shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def classifier() -> Victim:
    """Five images of 2 x 3 pixels, three classes, one loss each (convex in x); nothing depends on the last image."""
    weights = normal(0, 6, 3)
    return _images(lambda pixels: pixels @ weights)


def mlp() -> Victim:
    """The same images under a network with one hidden layer; its losses are not convex."""
    hidden, out = normal(5, 6, 4), normal(6, 4, 3)
    return _images(lambda pixels: jnp.tanh(pixels @ hidden) @ out)


def _images(logits: Callable[[Array], Array]) -> Victim:
    seen = jnp.array([1.0, 1, 1, 1, 0])
    scores = lambda key, x: logits(x.reshape(5, 6)) * seen[:, None]
    x = normal(1, 5, 2, 3)
    labels = jnp.argmax(scores(None, x), axis=1)  # each is classified right, so that there is something to attack
    cross_entropy = lambda key, x: losses.softmax(scores(key, x), jax.nn.one_hot(labels, 3))
    return Victim(x, cross_entropy, seen == 0, scores, labels)


# Users 1 and 2 and item 3 come more than once; user 3 and items 4 and 5 do not come.
BATCH = {
    "users": jnp.array([1, 0, 1, 2, 2, 0]),
    "pos": jnp.array([0, 3, 3, 1, 3, 5]),
    "neg": jnp.array([3, 1, 2, 0, 2, 4]),
    "where": jnp.array([True, True, True, True, True, False]),
}
ABSENT = {"user": jnp.array([0, 0, 0, 1], bool), "item": jnp.array([0, 0, 0, 0, 1, 1], bool)}
MODEL = mf.model(num_users=4, num_items=6, dimension=3)


def params() -> dict:
    return {"tables": {"user": normal(2, 4, 3), "item": normal(3, 6, 3)}, "weights": {}, "given": {}}


def tables() -> Victim:
    """A user and an item table with one loss, BPR on `BATCH`."""
    clean = objectives.pairwise(model=MODEL)

    def bpr(key, x):
        return clean({**params(), "tables": x}, BATCH, key, lambda tree: tree)[0][None]

    return Victim(params()["tables"], bpr, ABSENT)
