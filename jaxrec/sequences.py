"""Item sequences: histories out of interactions, models made of sequence parts, and what training on them minimises.

A history is int32 [L], the oldest item first, with -1 in empty places, in front. A training example is a *user*: an
epoch goes over `examples`, and the history of each is read from what is given to the model, so that nothing but ids
travels. Score and loss are written for one history and vmapped.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, layers, losses
from jaxrec.types import Array, Interactions, Key, Model, Objective, Params, Sequence

EMPTY = -1


def histories(known: Interactions, *, max_length: int) -> np.ndarray:
    """Each user's last `max_length` items, int32 [U, max_length], by time, or by rows where there are no times.

    A user without interactions has an empty history.

    Raises:
        ValueError: If `max_length < 1`.
    """
    checks.counts(max_length=max_length)
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


def model(
    *,
    init: Callable[[Key], Params],
    sequence: Sequence,
    num_items: int,
    max_length: int,
    temperature: float | None = None,
) -> Model:
    """Builds the recommender of a sequence's parts: the score of an item is that of coming next after the history.

    Args:
        init: key -> params; what is given comes from `Model.given`.
        sequence: Its parts.
        num_items: I.
        max_length: Items of a user's history that are read, the newest ones.
        temperature: None for scores that are products of states and items' vectors; else their cosines over it.

    Raises:
        ValueError: If `temperature` is not positive and finite.
    """
    if temperature is not None:
        sequence = _cosine(sequence, temperature)

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


def of_encoder(
    encoder: nn.Module,
    draw_table: Callable[[Key, tuple[int, int]], Array],
    *,
    num_items: int,
    dimension: int,
    max_length: int,
    temperature: float | None,
) -> Model:
    """Builds the recommender of an encoder that looks at no later place; items are rows of one table, read and scored.

    Args:
        encoder: (rows [L, D], present bool [L]) -> states [L, D]; drops where it has a key "dropout".
        draw_table: (key, (I, D)) -> the table that training starts from.
        num_items, dimension: I and D.
        max_length, temperature: As in `model`.

    Returns:
        A `Model` with the table "item" [I, D]; the encoder's parameters are its weights.
    """

    def init(key: Key) -> Params:
        table_key, layer_key = jax.random.split(key)
        table = draw_table(table_key, (num_items, dimension))
        weights = encoder.init(layer_key, table[:1], jnp.ones(1, bool))["params"]
        return {"tables": {"item": table}, "weights": weights, "given": {}}

    def states(params: Params, user: Array, rows: Array, present: Array, key: Key | None) -> Array:
        del user
        rngs = None if key is None else {"dropout": key}
        return jnp.asarray(encoder.apply({"params": params["weights"]}, rows, present, rngs=rngs))

    parts = Sequence(
        embed=layers.item_rows,
        state=lambda params, user, rows, present: states(params, user, rows, present, None)[-1],
        vectors=lambda params, items: params["tables"]["item"][items],
        states=states,
    )
    return model(init=init, sequence=parts, num_items=num_items, max_length=max_length, temperature=temperature)


def _cosine(sequence: Sequence, temperature: float) -> Sequence:
    """The same parts, states of length 1 / temperature and vectors of length 1."""
    checks.positive(temperature=temperature)

    def scaled(part):
        return None if part is None else lambda *args: layers.unit(part(*args)) / temperature

    return sequence._replace(
        state=scaled(sequence.state),
        states=scaled(sequence.states),
        masked=scaled(sequence.masked),
        vectors=lambda params, items: layers.unit(sequence.vectors(params, items)),
    )


Loss = Callable[[Array, Array, Array], Array]  # (scores [..., N], relevant, where) -> [...]


def next_item(
    *,
    model: Model,
    num_items: int,
    num_negatives: int = 1,
    negatives: str = "user",
    loss: Loss = losses.bce,
    piece_size: int | None = None,
) -> Objective:
    """Builds the objective of every item of a history after those before it, against sampled items.

    Of a full history max_length - 1 items are predicted, where published code (SASRec, HSTU) takes one item more and
    predicts max_length. So the oldest place is empty in training: where there are positions its row is as it was
    drawn, but is read where a full history is scored.

    Args:
        model: With `sequence.states`.
        num_items: I.
        num_negatives: Uniformly random items beside each item to be predicted. One that is the item to be predicted
            does not count; one that the user has elsewhere does, as in gSASRec.
        negatives: Drawn for each "place" of a history, as published code does it, for which rows [B, L, N, D] are
            gathered: for few of them. Or for each "user", shared by all places: for a hundred.
        loss: (scores [..., 1 + N], relevant, where) -> [...], such as `losses.bce` or `losses.softmax`; the relevant
            item stands first.
        piece_size: Users whose loss and gradient are taken at a time, cut to the length of the longest history among
            them (`in_pieces`): the form for a CPU. None for the whole batch at once, the form for a GPU.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches of users (`examples`): the sum over all places
        that have an item before them. The metrics are sums over the same places: `loss` and `examples`. What is random
        (negatives, dropout) depends on the step and the user, so not on the number of devices.

    Raises:
        ValueError: If `num_negatives < 1`, `piece_size < 1`, `negatives` is neither of the two, or the model has no
            states of places.
    """
    checks.counts(num_negatives=num_negatives)
    if negatives not in ("user", "place"):
        raise ValueError(f'Expected negatives to be "user" or "place", got negatives={negatives!r}.')
    if piece_size is not None:
        checks.counts(piece_size=piece_size)
    if model.sequence is None or model.sequence.states is None:
        raise ValueError("Expected a model of item sequences that looks at no later item, with sequence.states.")
    drawn = "neg" if negatives == "user" else "neg_of_places"
    embed, vectors, states_of = model.sequence.embed, model.sequence.vectors, model.sequence.states

    def of_user(params, rows, known):
        pos, neg = rows["pos"], rows[drawn]
        states = states_of(params, known["user"], rows["before"], known["before"] != EMPTY, known["key"])
        of_neg = states @ neg.T if neg.ndim == 2 else jnp.sum(states[:, None] * neg, axis=-1)
        scores = jnp.concatenate([jnp.sum(states * pos, axis=-1, keepdims=True), of_neg], axis=-1)
        relevant = jnp.broadcast_to(jnp.arange(1 + num_negatives) == 0, scores.shape)
        others = known[drawn] != known["targets"][:, None]
        where = jnp.concatenate([jnp.ones_like(others[:, :1]), others], axis=-1)
        return jnp.where(known["counts"], loss(scores, relevant, where), 0).sum()

    def objective(params, batch, key, reduce):
        del reduce  # a sum over users needs nothing from other devices
        users = batch["users"]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, users)
        negative_keys, state_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        targets = params["given"]["histories"][users]
        shape = (1 if negatives == "user" else targets.shape[1], num_negatives)
        neg = jax.vmap(lambda key: jax.random.randint(key, shape, 0, num_items))(negative_keys)
        before = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=EMPTY)
        counts = (before != EMPTY) & (targets != EMPTY) & batch["where"][:, None]
        rows = {"before": embed(params, before), "pos": vectors(params, jnp.maximum(targets, 0))}
        rows[drawn] = vectors(params, neg[:, 0] if negatives == "user" else neg)
        known = {"user": users, "key": state_keys, "before": before, "targets": targets, drawn: neg, "counts": counts}
        if piece_size is None:
            total = jnp.sum(jax.vmap(of_user, (None, 0, 0))(params, rows, known))
        else:
            places_read = jnp.max(jnp.where(counts, counts.shape[1] - jnp.arange(counts.shape[1]), 0), axis=1)
            total = in_pieces(of_user, params, rows, known, places_read, size=piece_size)
        return total, {"loss": total, "examples": jnp.sum(counts)}

    return objective


# What has an entry for each place of a history.
_PLACES = ("before", "pos", "targets", "neg_of_places", "counts", "hidden")
_LENGTHS = 3  # lengths that a piece may be cut to: each takes compiling, and a fourth saves a twentieth


def in_pieces(
    of_user: Callable, params: Params, rows: dict[str, Array], known: dict[str, Array], lengths: Array, *, size: int
) -> Array:
    """The sum of `of_user(params, rows, known) -> []` over users [B, ...], and its gradient, over pieces of the batch.

    A piece's gradient is taken as soon as its value, so that what lies between stays in the processor's cache; users
    are taken in the order of their lengths, and a piece's histories cut in front to one of three lengths. Result and
    gradient are those of the batch at once up to rounding, in reverse mode and once: it has no second derivative.

    Args:
        of_user: Whose value does not change when empty places in front are cut off.
        params: Differentiated: tables and weights.
        rows: Differentiated; known: not. Arrays [B, ...], those named in `_PLACES` [B, L, ...]; both have "before".
        lengths: [B], how many of the last places `of_user` must be given.
        size: Users a piece.
    """
    num, length = known["before"].shape
    num_pieces = -(-num // size)
    cuts = [-(-length * part // _LENGTHS) for part in range(1, _LENGTHS + 1)]
    order = jnp.argsort(lengths) if size > 1 else jnp.arange(num)
    order = jnp.concatenate([order, jnp.zeros(num_pieces * size - num, order.dtype)])
    pieces = order.reshape(num_pieces, size)
    filled = (jnp.arange(num_pieces * size) < num).reshape(num_pieces, size)
    branch = jnp.searchsorted(jnp.array(cuts), jnp.max(jnp.where(filled, lengths[pieces], 0), axis=1))
    trained, given = {name: params[name] for name in ("tables", "weights")}, params["given"]

    def cut_to(length, tree):
        return {name: x[:, -length:] if name in _PLACES else x for name, x in tree.items()}

    def of_piece(length, trained, rows, known, filled):
        values = jax.vmap(of_user, (None, 0, 0))(
            {**trained, "given": given}, cut_to(length, rows), cut_to(length, known)
        )
        return jnp.sum(jnp.where(filled, values, 0))

    def over_pieces(of_piece, start, trained, rows):
        branches = [functools.partial(of_piece, length) for length in cuts]

        def body(total, inputs):
            ids, filled, branch = inputs
            here = [jax.tree.map(lambda x: x[ids], tree) for tree in (rows, known)]
            value, by_row = jax.lax.switch(branch, branches, trained, *here, filled)
            return jax.tree.map(jnp.add, total, value), by_row

        return jax.lax.scan(body, start, (pieces, filled, branch))

    @jax.custom_vjp
    def total(trained, rows):
        return over_pieces(lambda *args: (of_piece(*args), ()), jnp.zeros(()), trained, rows)[0]

    def forward(trained, rows):
        def differentiate(*args):
            value, (by_trained, by_row) = jax.value_and_grad(of_piece, argnums=(1, 2))(*args)
            return (value, by_trained), by_row

        start = jnp.zeros(()), jax.tree.map(jnp.zeros_like, trained)
        (value, by_trained), by_row = over_pieces(differentiate, start, trained, rows)
        places = jnp.argsort(order[:num]) if size > 1 else jnp.arange(num)
        return value, (by_trained, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[places], by_row))

    total.defvjp(forward, lambda grads, cotangent: jax.tree.map(lambda x: cotangent * x, grads))
    return total(trained, rows)


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
