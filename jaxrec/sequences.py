"""Item sequences: histories out of interactions, models made of sequence parts, and what training on them minimises.

A history is int32 [L], the oldest item first, with -1 in empty places, in front. A training example is a *user*: an
epoch goes over `examples`, and the history of each is read from what is given to the model, so that nothing but ids
travels. Score and loss are written for one history and vmapped.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import losses
from jaxrec.types import Array, Interactions, Key, Model, Objective, Params, Sequence

EMPTY = -1


def histories(known: Interactions, *, max_length: int) -> np.ndarray:
    """Each user's last `max_length` items, int32 [U, max_length], by time, or by rows where there are no times.

    A user without interactions has an empty history.

    Raises:
        ValueError: If `max_length < 1`.
    """
    if max_length < 1:
        raise ValueError(f"Expected max_length >= 1, got max_length={max_length}.")
    order = _in_order(known)
    users = known.users[order]
    ends = np.cumsum(np.bincount(users, minlength=known.num_users))
    places = max_length - (ends[users] - np.arange(len(users)))
    table = np.full((known.num_users, max_length), EMPTY, np.int32)
    table[users[places >= 0], places[places >= 0]] = known.items[order][places >= 0]
    return table


def examples(known: Interactions, *, at_least: int = 2) -> Interactions:
    """The newest interaction of each user who has `at_least` so many: an epoch of training on users.

    With fewer than two there is nothing to predict the next item from; autoencoders take users with one.
    """
    order = _in_order(known)
    users = known.users[order]
    newest = np.append(users[1:] != users[:-1], True) if len(users) else np.ones(0, bool)
    counts = np.bincount(users, minlength=known.num_users)
    return known.take(order[newest & (counts[users] >= at_least)])


def _in_order(known: Interactions) -> np.ndarray:
    """Rows user by user, each user's in order of time; equal times, and all without times, in the order of rows."""
    times = np.zeros(len(known)) if known.timestamps is None else known.timestamps
    return np.lexsort((times, known.users))


def model(*, init: Callable[[Key], Params], sequence: Sequence, num_items: int, max_length: int) -> Model:
    """Builds the recommender of a sequence's parts: the score of an item is that of coming next after the history.

    Args:
        init: key -> params; what is given comes from `Model.given`.
        sequence: Its parts.
        num_items: I.
        max_length: Items of a user's history that are read, the newest ones.
    """

    def states(params: Params, users: Array) -> Array:
        def of_user(user, history):
            return sequence.state(params, user, sequence.embed(params, history), history != EMPTY)

        flat = users.reshape(-1)
        found = jax.vmap(of_user)(flat, params["given"]["histories"][flat])
        return found.reshape(*users.shape, found.shape[-1])

    def score(params: Params, users: Array, items: Array) -> Array:
        return jnp.sum(states(params, jnp.asarray(users)) * sequence.vectors(params, jnp.asarray(items)), axis=-1)

    def score_all(params: Params, users: Array) -> Array:
        return states(params, users) @ sequence.vectors(params, jnp.arange(num_items)).T

    def given(known: Interactions) -> dict[str, Array]:
        return {"histories": jnp.asarray(histories(known, max_length=max_length))}

    return Model(init=init, score=score, score_all=score_all, given=given, sequence=sequence)


Loss = Callable[[Array, Array, Array], Array]  # (scores [..., N], relevant, where) -> [...]


def next_item(*, model: Model, num_items: int, num_negatives: int = 1, loss: Loss = losses.bce) -> Objective:
    """Builds the objective of every item of a history after those before it, against sampled items.

    Args:
        model: With `sequence.states`.
        num_items: I.
        num_negatives: Uniformly random items of each *user*, shared by all places of the history, where published code
            draws them for each place: with 128 of them a table [B, L, N, D] would have to be gathered. One that is the
            item to be predicted does not count; one that the user has elsewhere does, as in gSASRec.
        loss: (scores [..., 1 + N], relevant, where) -> [...], such as `losses.bce` or `losses.softmax`; the relevant
            item stands first.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches of users (`examples`): the sum over all places
        that have an item before them. The metrics are sums over the same places: `loss` and `examples`. What is random
        (negatives, dropout) depends on the step and the user, so not on the number of devices.

    Raises:
        ValueError: If `num_negatives < 1` or the model has no states of places.
    """
    if num_negatives < 1:
        raise ValueError(f"Expected num_negatives >= 1, got num_negatives={num_negatives}.")
    if model.sequence is None or model.sequence.states is None:
        raise ValueError("Expected a model of item sequences that looks at no later item, with sequence.states.")
    embed, vectors, states_of = model.sequence.embed, model.sequence.vectors, model.sequence.states

    def of_user(params, user, targets, key):
        negative_key, dropout_key = jax.random.split(key)
        before = jnp.concatenate([jnp.full(1, EMPTY), targets[:-1]])
        states = states_of(params, user, embed(params, before), before != EMPTY, dropout_key)
        negatives = jax.random.randint(negative_key, (num_negatives,), 0, num_items)
        pos = jnp.sum(states * vectors(params, jnp.maximum(targets, 0)), axis=-1, keepdims=True)
        scores = jnp.concatenate([pos, states @ vectors(params, negatives).T], axis=-1)
        relevant = jnp.broadcast_to(jnp.arange(1 + num_negatives) == 0, scores.shape)
        others = negatives[None] != targets[:, None]
        where = jnp.concatenate([jnp.ones_like(others[:, :1]), others], axis=-1)
        counts = (before != EMPTY) & (targets != EMPTY)
        return jnp.where(counts, loss(scores, relevant, where), 0).sum(), counts.sum()

    def objective(params, batch, key, reduce):
        del reduce  # a sum over users needs nothing from other devices
        users = batch["users"]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, users)
        targets = params["given"]["histories"][users]
        totals, counts = jax.vmap(of_user, (None, 0, 0, 0))(params, users, targets, keys)
        total = jnp.sum(jnp.where(batch["where"], totals, 0))
        return total, {"loss": total, "examples": jnp.sum(jnp.where(batch["where"], counts, 0))}

    return objective


def editable(
    model: Model, params: Params, user: int, loss: Callable[[Array], Array], *, num_items: int
) -> tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]:
    """What `sequence_edits.white_box` needs of a model to edit a user's history: `(embed, loss)`.

    Args:
        loss: Scores of all items after the history [I] -> [], to be raised.
        num_items: I.

    Raises:
        ValueError: If the model is not one of item sequences.
    """
    parts = model.sequence
    if parts is None:
        raise ValueError("Expected a model of item sequences.")

    def of_rows(rows, present):
        state = parts.state(params, jnp.int32(user), rows, present)
        return loss(parts.vectors(params, jnp.arange(num_items)) @ state)

    return lambda ids: parts.embed(params, ids), of_rows
