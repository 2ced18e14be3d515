"""Planted data that every model of users and items must learn in seconds: two groups, each with items of its own."""

import jax
import numpy as np
import optax

from jaxrec import loop
from jaxrec.types import Interactions, Model, Objective, Params

NUM_USERS, NUM_ITEMS = 24, 16


def groups(seed: int = 0) -> tuple[Interactions, np.ndarray]:
    """Users of either group have 5 of its 8 items; the other 3 are held out, [U, 3]. All items are equally popular."""
    rng = np.random.default_rng(seed)
    order = np.stack([(user % 2) * 8 + rng.permutation(8) for user in range(NUM_USERS)])
    users = np.repeat(np.arange(NUM_USERS, dtype=np.int32), 5)
    train = Interactions(users, order[:, :5].reshape(-1).astype(np.int32), NUM_USERS, NUM_ITEMS)
    return train, order[:, 5:]


def share_found(model: Model, params: Params, held_out: np.ndarray) -> float:
    """The mean share of items of the other group that a held-out item is scored above; .5 is chance."""
    scores = np.asarray(jax.jit(model.score_all)(params, np.arange(NUM_USERS)))
    others = np.stack([scores[user, 8 * (1 - user % 2) :][:8] for user in range(NUM_USERS)])
    own = np.take_along_axis(scores, held_out, axis=1)
    return float(np.mean(own[:, :, None] > others[:, None]))


def learned(model: Model, objective: Objective, *, num_epochs: int = 12, learning_rate: float = 0.02) -> float:
    """`share_found` after training with Adam on the planted groups."""
    train, held_out = groups()
    optimizer = optax.adam(learning_rate)
    params = loop.fit_in_memory(model, objective, train, num_epochs=num_epochs, batch_size=40, optimizer=optimizer)
    return share_found(model, params, held_out)
