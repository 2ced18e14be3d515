"""Small victims for the laws of edits: models of histories of five places over seven items, and the edits in Python."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import sequence_edits
from jaxrec.sequence_edits import Kind
from jaxrec.types import EditOracle

NUM_ITEMS = 7
LENGTH = 5
HISTORIES = {
    "padded": [-1, -1, 3, 0, 5],
    "full": [2, 6, 0, 1, 4],
    "repeating": [3, 3, 3, 1, 3],
    "one item": [-1, -1, -1, -1, 3],
    "empty": [-1, -1, -1, -1, -1],
    "with a gap": [-1, 2, -1, 5, 0],
}


class Victim(NamedTuple):
    """What a white-box oracle is made of: `embed` and `loss`."""

    embed: Callable
    loss: Callable

    def oracle(self, **limits) -> EditOracle:
        return sequence_edits.white_box(self.embed, self.loss, num_items=NUM_ITEMS, **limits)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def embed_in(table):
    return lambda ids: jnp.where((ids >= 0)[..., None], table[ids], 0)


def bag(weights) -> Victim:
    """The sum of the items' weights [7]."""
    return Victim(embed_in(jnp.asarray(weights, jnp.float32)[:, None]), lambda rows, present: jnp.sum(rows))


def bpr(state):
    """The loss of ranking item 1 over item 2, from the state [3] a model ends in."""
    return jax.nn.softplus(state @ (normal(0, 7, 3)[2] - normal(0, 7, 3)[1]))


def ordered() -> Victim:
    """The quickest to compile in which both items and their places matter."""

    def loss(rows, present):
        return bpr(jnp.tanh(jnp.sum(rows * normal(1, LENGTH, 1), axis=0) + 0.1 * jnp.sum(present)))

    return Victim(embed_in(normal(0, 7, 3)), loss)


def recurrent() -> Victim:
    mix = normal(1, 3, 3)

    def loss(rows, present):
        step = lambda state, given: (jnp.where(given[1], jnp.tanh(mix @ state + given[0]), state), None)
        return bpr(jax.lax.scan(step, jnp.zeros(3), (rows, present))[0])

    return Victim(embed_in(normal(0, 7, 3)), loss)


def attention() -> Victim:
    """The newest item asks; places have embeddings; empty places are not seen."""
    query, key, places = normal(2, 3, 3), normal(3, 3, 3), normal(4, LENGTH, 3)

    def loss(rows, present):
        inputs = rows + places
        logits = jnp.where(present, (inputs @ key) @ (query @ inputs[-1]), -1e9)
        return bpr(jnp.tanh(jax.nn.softmax(logits) @ inputs + rows[-1]))

    return Victim(embed_in(normal(0, 7, 3)), loss)


def history(name):
    return jnp.array(HISTORIES[name], jnp.int32)


def padded(items):
    """The newest `LENGTH` of a list of items, with empty places in front."""
    newest = items[max(len(items) - LENGTH, 0) :]
    return [-1] * (LENGTH - len(newest)) + newest


def single_edits(ids, kinds, admitted=frozenset(range(NUM_ITEMS))):
    """Every history that one edit makes of one without gaps, in plain Python; twice what two edits make."""
    items = [item for item in ids if item >= 0]
    edited = []
    if Kind.REPLACE in kinds:
        edited += [
            padded([*items[:i], new, *items[i + 1 :]]) for i in range(len(items)) for new in admitted - {items[i]}
        ]
    if Kind.INSERT in kinds:
        # In front of a full history a new item would leave the window at once.
        first = 1 if len(items) == LENGTH else 0
        edited += [padded([*items[:i], new, *items[i:]]) for i in range(first, len(items) + 1) for new in admitted]
    if Kind.DELETE in kinds and len(items) > 1:
        edited += [padded(items[:i] + items[i + 1 :]) for i in range(len(items))]
    return edited


def distance(before, after, kinds):
    """The least number of edits of these kinds that turn one list of items into another; inf if there is no way."""

    @functools.cache
    def between(i, j):
        if i == j == 0:
            return 0
        ways = [float("inf")]
        if i and j:
            same = before[i - 1] == after[j - 1]
            ways += [between(i - 1, j - 1) + (not same)] if same or Kind.REPLACE in kinds else []
        ways += [between(i, j - 1) + 1] if j and Kind.INSERT in kinds else []
        ways += [between(i - 1, j) + 1] if i and Kind.DELETE in kinds else []
        return min(ways)

    return between(len(before), len(after))
