"""Caser: convolutions over a user's last few items, across and down, and the user's own embedding.

Tang and Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding", WSDM 2018,
arXiv:1809.07426.

It is trained by `sequences.next_item`, with `losses.bce` and three negatives in the paper's code.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, layers, sequences
from jaxrec.types import Array, Key, Model, Params, Sequence


def model(
    *,
    num_users: int,
    num_items: int,
    dimension: int = 50,
    window: int = 5,
    num_horizontal: int = 16,
    num_vertical: int = 4,
    max_length: int = 200,
    dropout: float = 0.5,
    init_scale: float = 0.02,
) -> Model:
    """Builds the model: with E [W, D] the rows of the last W items, an empty place a row of 0,

        across  relu of each filter [h, D] at each place of E, and its largest value, h = 1 ... W    (eqs. 4, 5)
        down    sums of the rows of E, each filter with its weights [W]                                (eq. 7)
        z       relu(dense(across, down))                                                              (eq. 10)
        state   [z, row of the user, 1], against [row of "output", bias] of an item                    (eq. 11)

    Args:
        num_users, num_items: U and I.
        dimension: D, of rows and of z.
        window: W, the items that a state depends on.
        num_horizontal: Filters across, of each height.
        num_vertical: Filters down.
        max_length: Items of a history that are trained on; a score reads the newest `window`.
        dropout: Share of the filters' values that a training step does not see.
        init_scale: Standard deviation of the normal that tables start from, biases at 0.

    Returns:
        A `Model` of item sequences with tables "user" [U, D], "item" [I, D] and "output" [I, 2 D + 1], whose last
        column is the biases. The paper predicts T items after each window (T = 3 on ML-1M), here it is the next one.
        Windows overlap, so each filter is evaluated once a place and not once a window. A user who was not trained on
        has the row that the table started with.

    Raises:
        ValueError: If a size is below 1, `dropout` is not in [0, 1) or `init_scale` is negative or not finite.
    """
    checks.counts(num_users=num_users, num_items=num_items, dimension=dimension, max_length=max_length)
    checks.counts(window=window, num_horizontal=num_horizontal, num_vertical=num_vertical)
    checks.rates(dropout=dropout)
    checks.non_negative(init_scale=init_scale)

    def init(key: Key) -> Params:
        user_key, item_key, output_key, across_key, down_key, dense_key = jax.random.split(key, 6)
        draw = lambda key, num, width: init_scale * jax.random.normal(key, (num, width))
        across = [
            layers.dense_layer(key, height * dimension, num_horizontal)
            for height, key in enumerate(jax.random.split(across_key, window), start=1)
        ]
        width = window * num_horizontal + num_vertical * dimension
        weights = {
            "across": across,
            "down": layers.glorot(down_key, window, num_vertical),
            "dense": layers.dense_layer(dense_key, width, dimension),
        }
        tables = {
            "user": draw(user_key, num_users, dimension),
            "item": draw(item_key, num_items, dimension),
            "output": layers.with_biases(draw(output_key, num_items, 2 * dimension)),
        }
        return {"tables": tables, "weights": weights, "given": {}}

    def states(params: Params, user: Array, rows: Array, present: Array, key: Key | None) -> Array:
        length, weights = len(rows), params["weights"]
        before = jnp.pad(jnp.where(present[:, None], rows, 0), ((window - 1, 0), (0, 0)))
        found = jnp.concatenate(
            [_across(weights["across"], before, length), _down(weights["down"], before, length)], axis=1
        )
        z = jax.nn.relu(layers.dense(weights["dense"], found if key is None else layers.dropout(key, found, dropout)))
        own = jnp.broadcast_to(params["tables"]["user"][user], (length, dimension))
        return jnp.concatenate([z, own, jnp.ones((length, 1))], axis=1)

    def state(params: Params, user: Array, rows: Array, present: Array) -> Array:
        return states(params, user, rows[-window:], present[-window:], None)[-1]

    parts = Sequence(embed=layers.item_rows, state=state, vectors=_vectors, states=states)
    return sequences.model(init=init, sequence=parts, num_items=num_items, max_length=max_length)


def _vectors(params: Params, items: Array) -> Array:
    return params["tables"]["output"][items]


def _across(filters: list[Params], rows: Array, length: int) -> Array:
    """The largest value of each filter in each window: rows [L + W - 1, D] -> [L, W * filters of a height]."""
    found = []
    for height, layer in enumerate(filters, start=1):
        num_places = len(rows) - height + 1
        patches = jnp.concatenate([rows[i : i + num_places] for i in range(height)], axis=1)
        values = jax.nn.relu(layers.dense(layer, patches))
        in_window = [values[i : i + length] for i in range(num_places - length + 1)]
        found.append(jnp.max(jnp.stack(in_window), axis=0))
    return jnp.concatenate(found, axis=1)


def _down(filters: Array, rows: Array, length: int) -> Array:
    """Weighted sums of the rows of each window: rows [L + W - 1, D] and filters [W, N] -> [L, N * D]."""
    sums = sum(rows[i : i + length, None, :] * filters[i][None, :, None] for i in range(len(filters)))
    return jnp.reshape(sums, (length, -1))
