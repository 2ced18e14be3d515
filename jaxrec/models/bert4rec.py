"""BERT4Rec: hidden items of a history from those on both sides.

Sun, Liu, Wu, Pei, Lin, Ou and Jiang, "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations
from Transformer", CIKM 2019, arXiv:1904.06690.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxrec import checks, layers, losses, sequences
from jaxrec.types import Array, Key, Model, Objective, Params, Scalar, Sequence

_INIT = nn.initializers.truncated_normal(0.02)
_EPSILON = 1e-6  # of layer norms


def model(
    *,
    num_users: int = 1,
    num_items: int,
    dimension: int = 64,
    max_length: int = 200,
    num_blocks: int = 2,
    num_heads: int = 2,
    dropout: float = 0.2,
    compute_dtype: DTypeLike = jnp.float32,
) -> Model:
    """Builds the model. A place that is to be predicted holds the row of the mask; in each block, x [L, D]:

        x <- norm(x + dropout(attention(x, x, x)))
        x <- norm(x + dropout(W2 gelu(W1 x)))                  (W1 to 4 D)

    and a score is the product of norm(gelu(W x)) at that place with an item's row, plus the item's bias. To score, the
    mask stands after the history. Different from the authors' code: the rows of mask and positions and the biases are
    weights, so that an attack on the table does not touch them; the last place, not the first, is that of the newest
    item (or the mask after it) in a history of any length; empty places are not attended to; dropout is that of
    `layers.dropout`. The first of the positions is read where a full history is scored, and never trained: training
    has no place for a mask after the history.

    Args:
        num_users, num_items, dimension: As in `sasrec.model`.
        max_length: Places: those of a history's newest items, and one for the mask.
        num_blocks, num_heads, dropout, compute_dtype: As in `sasrec.model`.

    Returns:
        A `Model` with the table "item" [I, D]. It has `sequence.masked` and no `states`, since what it makes of a
        place depends on later ones: `objective` trains it.

    Raises:
        ValueError: As in `sasrec.model`, or if `max_length < 2`.
    """
    if max_length < 2:
        raise ValueError(f"Expected max_length >= 2, got max_length={max_length}.")
    checks.rates(dropout=dropout)
    checks.counts(num_users=num_users, num_items=num_items, num_blocks=num_blocks)
    layers.check_heads(dimension=dimension, num_heads=num_heads)
    encoder = _Encoder(max_length, num_blocks, num_heads, dropout, compute_dtype)

    def init(key: Key) -> Params:
        table_key, layer_key = jax.random.split(key)
        table, yes = _INIT(table_key, (num_items, dimension)), jnp.ones(1, bool)
        weights = encoder.init(layer_key, table[:1], yes, yes)["params"]
        return {"tables": {"item": table}, "weights": {"layers": weights, "bias": jnp.zeros(num_items)}, "given": {}}

    def masked(params: Params, user: Array, rows: Array, present: Array, hidden: Array, key: Key | None) -> Array:
        del user
        rngs = None if key is None else {"dropout": key}
        x = jnp.asarray(encoder.apply({"params": params["weights"]["layers"]}, rows, present, hidden, rngs=rngs))
        return jnp.pad(x, ((0, 0), (0, 1)), constant_values=1)  # times the bias

    def state(params: Params, user: Array, rows: Array, present: Array) -> Array:
        rows, present = jnp.pad(rows, ((0, 1), (0, 0))), jnp.pad(present, (0, 1), constant_values=True)
        return masked(params, user, rows, present, jnp.arange(len(rows)) == len(rows) - 1, None)[-1]

    def vectors(params: Params, items: Array) -> Array:
        return jnp.concatenate([params["tables"]["item"][items], params["weights"]["bias"][items][..., None]], axis=-1)

    parts = Sequence(
        embed=layers.item_rows,
        state=state,
        vectors=vectors,
        masked=masked,
    )
    return sequences.model(init=init, sequence=parts, num_items=num_items, max_length=max_length - 1)


def objective(
    *,
    model: Model,
    num_items: int,
    mask_probability: float = 0.2,
    last_probability: float = 0.1,
    num_negatives: int | None = None,
    piece_size: int = 8,
) -> Objective:
    """Builds the objective of hidden items, by softmax over all items or over sampled ones.

    Of a user with n items in the history round(n * mask_probability) places, at least one, are hidden at random, or,
    in a share of the steps, the newest alone, as when the model is asked. A hidden place always holds the mask, as in
    the paper and, by its default and in its script for MovieLens-1M, in the authors' code.

    Different from that code: a history is its newest max_length - 1 items, where the authors train on overlapping
    windows of each longer one too. On MovieLens-1M, at 200 places, 26 % of users have more, and 34 % of the training
    events are never read or predicted.

    Args:
        model: With `sequence.masked`.
        num_items: I.
        mask_probability: Share of places that are hidden.
        last_probability: How often only the newest is; the authors' ten random samples and one such are .09.
        num_negatives: Uniformly random items of each user beside the hidden one; None for all items.
        piece_size: Users whose loss and gradient are taken at a time (`sequences.in_pieces`), so that scores of all
            items are held for the hidden places of so many users only.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches of users (`sequences.examples`): the sum over
        hidden places. The metrics are sums over them: `loss` and `examples`. What is random depends on the step and the
        user.

    Raises:
        ValueError: If a probability is not in [0, 1], a number is below 1, or the model has no masked places.
    """
    for name, share in (("mask_probability", mask_probability), ("last_probability", last_probability)):
        if not 0 <= share <= 1:
            raise ValueError(f"Expected {name} in [0, 1], got {name}={share}.")
    checks.counts(num_negatives=1 if num_negatives is None else num_negatives, piece_size=piece_size)
    if model.sequence is None or model.sequence.masked is None:
        raise ValueError("Expected a model of item sequences with masked places, sequence.masked.")
    embed, vectors, masked = model.sequence.embed, model.sequence.vectors, model.sequence.masked

    def of_user(params, rows, known):
        ids, hidden = known["before"], known["hidden"]
        state_key, negative_key = jax.random.split(known["key"])
        states = masked(params, known["user"], rows["before"], ids != sequences.EMPTY, hidden, state_key)
        most = max(1, round(len(ids) * mask_probability))
        _, places = jax.lax.top_k(hidden.astype(jnp.int32), most)  # the hidden ones first
        states, targets = states[places], ids[places]
        if num_negatives is None:
            scores = states @ vectors(params, jnp.arange(num_items)).T
            relevant = jnp.arange(num_items)[None] == targets[:, None]
            found = losses.softmax(scores, relevant)
        else:
            negatives = jax.random.randint(negative_key, (num_negatives,), 0, num_items)
            pos = jnp.sum(states * vectors(params, targets), axis=-1, keepdims=True)
            scores = jnp.concatenate([pos, states @ vectors(params, negatives).T], axis=-1)
            others = jnp.pad(negatives[None] != targets[:, None], ((0, 0), (1, 0)), constant_values=True)
            relevant = jnp.broadcast_to(jnp.arange(1 + num_negatives) == 0, scores.shape)
            found = losses.softmax(scores, relevant, others)
        return jnp.sum(jnp.where(hidden[places], found, 0))

    def of_batch(params, batch, key, reduce):
        del reduce  # a sum over users needs nothing from other devices
        users = batch["users"]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, users)
        hide_keys, state_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        ids = params["given"]["histories"][users]
        hide = lambda key, ids: _hidden(key, ids != sequences.EMPTY, mask_probability, last_probability)
        hidden = jax.vmap(hide)(hide_keys, ids) & batch["where"][:, None]
        known = {"user": users, "key": state_keys, "before": ids, "hidden": hidden}
        lengths = jnp.sum((ids != sequences.EMPTY) & batch["where"][:, None], axis=1)
        total = sequences.in_pieces(of_user, params, {"before": embed(params, ids)}, known, lengths, size=piece_size)
        return total, {"loss": total, "examples": jnp.sum(hidden)}

    return of_batch


def _hidden(key: Key, present: Array, share: Scalar, last: Scalar) -> Array:
    """Which of the filled places [L] are hidden: a share of them, at least one, or the last alone."""
    order_key, last_key = jax.random.split(key)
    num = jnp.sum(present)
    turn = jnp.where(present, jax.random.uniform(order_key, present.shape), 2)
    turns = jnp.sort(turn)
    chosen = jnp.maximum(1, jnp.round(share * num).astype(jnp.int32))
    some = present & (turn <= turns[chosen - 1])
    only_last = present & (jnp.arange(len(present)) == len(present) - 1)
    return jnp.where(jax.random.uniform(last_key) < last, only_last, some)


class _Encoder(nn.Module):
    """Rows [L, D], which places are filled [L] and which of them hidden [L] -> [L, D]; dropout under such a key."""

    max_length: int
    num_blocks: int
    num_heads: int
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, rows: Array, present: Array, hidden: Array) -> Array:
        length, dimension = rows.shape
        if length > self.max_length:
            raise ValueError(f"Expected at most max_length={self.max_length} places, got {length}.")
        mask = self.param("mask", _INIT, (dimension,))
        positions = self.param("positions", _INIT, (self.max_length, dimension))
        x = jnp.where(hidden[:, None], mask[None], rows) + positions[self.max_length - length :]
        x = self._drop(self._norm("first_norm")(x))
        # An empty place attends to itself too, so that no row of the softmax is empty.
        where = present[None] | jnp.eye(length, dtype=bool)
        for block in range(self.num_blocks):
            x = self._norm(f"attention_norm_{block}")(x + self._drop(self._attention(x, where, block)))
            out = self._dense(f"forward_{block}", dimension)(
                nn.gelu(self._dense(f"hidden_{block}", 4 * dimension)(x), approximate=False)
            )
            x = self._norm(f"forward_norm_{block}")(x + self._drop(out))
        x = self._norm("last_norm")(nn.gelu(self._dense("last", dimension)(x), approximate=False))
        return x.astype(jnp.float32)

    def _attention(self, x: Array, where: Array, block: int) -> Array:
        """[L, D] -> [L, D]."""
        length, dimension = x.shape
        size = dimension // self.num_heads
        query, key, value = (
            self._dense(f"{name}_{block}", dimension)(x).reshape(length, self.num_heads, size).swapaxes(0, 1)
            for name in ("query", "key", "value")
        )
        found = layers.attention(query, key, value, where, self._drop)
        return self._dense(f"out_{block}", dimension)(found.swapaxes(0, 1).reshape(length, dimension))

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(_EPSILON, use_fast_variance=False, dtype=self.dtype, name=name)

    def _dense(self, name: str, size: int) -> nn.Dense:
        return nn.Dense(size, kernel_init=_INIT, dtype=self.dtype, name=name)

    def _drop(self, x: Array) -> Array:
        return layers.dropout(self.make_rng("dropout") if self.has_rng("dropout") else None, x, self.dropout)
