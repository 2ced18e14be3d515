"""GRU4Rec: a gated recurrent unit reads the history, item by item; its state scores the next one.

Hidasi, Karatzoglou, Baltrunas and Tikk, "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016,
arXiv:1511.06939; the unit is that of Cho et al., EMNLP 2014, arXiv:1406.1078.

It is trained by `sequences.next_item`, with `losses.softmax` or `losses.bce` over sampled items.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, layers, sequences
from jaxrec.types import Array, Key, Model, Params, Sequence


def model(
    *,
    num_items: int,
    dimension: int = 64,
    hidden_dimension: int = 128,
    max_length: int = 200,
    dropout: float = 0.2,
    init_scale: float = 0.02,
    temperature: float | None = None,
) -> Model:
    """Builds the model: with x the row of an item and h the hidden state, 0 before the first,

        reset, update = sigmoid(W x + R h + b)
        new = tanh(W' x + reset * (R' h + c) + b')
        h <- (1 - update) * new + update * h,    state = O h + o

    Args:
        num_items: I.
        dimension: D, of a row.
        hidden_dimension: H, of the unit.
        max_length: Items of a history that are read, the newest ones.
        dropout: Share of the numbers in the items' rows that a training step does not see.
        init_scale: Standard deviation of the normal that the table starts from; each gate's layer starts as
            Glorot, and its recurrent one orthogonal.
        temperature: As in `sasrec.model`.

    Returns:
        A `Model` of item sequences with one table "item" [I, D], read at the input and scored at the output, where the
        paper has one-hot inputs and another matrix for scores. The paper resets the state between sessions and cuts
        them to go through in parallel; here a user is one session, and an example a whole history. One layer, the best
        number in the paper. A user without a history has the state o.

    Raises:
        ValueError: If a size is below 1, `dropout` is not in [0, 1), `init_scale` is negative or not
            finite, or `temperature` is not positive.
    """
    checks.counts(num_items=num_items, dimension=dimension, hidden_dimension=hidden_dimension, max_length=max_length)
    checks.rates(dropout=dropout)
    checks.non_negative(init_scale=init_scale)

    def init(key: Key) -> Params:
        table_key, input_key, recurrent_key, output_key = jax.random.split(key, 4)
        orthogonal = lambda key: jax.nn.initializers.orthogonal()(key, (hidden_dimension, hidden_dimension))
        of_gates = lambda draw, key: jnp.concatenate([draw(key) for key in jax.random.split(key, 3)], axis=1)
        weights = {
            "input": {
                "kernel": of_gates(lambda key: layers.glorot(key, dimension, hidden_dimension), input_key),
                "bias": jnp.zeros(3 * hidden_dimension),
            },
            "recurrent": {"kernel": of_gates(orthogonal, recurrent_key), "bias": jnp.zeros(hidden_dimension)},
            "output": layers.dense_layer(output_key, hidden_dimension, dimension),
        }
        tables = {"item": init_scale * jax.random.normal(table_key, (num_items, dimension))}
        return {"tables": tables, "weights": weights, "given": {}}

    def states(params: Params, user: Array, rows: Array, present: Array, key: Key | None) -> Array:
        del user
        rows = rows if key is None else layers.dropout(key, rows, dropout)
        _, hidden = _read(params["weights"], rows, present)
        return layers.dense(params["weights"]["output"], hidden)

    def state(params: Params, user: Array, rows: Array, present: Array) -> Array:
        del user
        last, _ = _read(params["weights"], rows, present)
        return layers.dense(params["weights"]["output"], last)

    parts = Sequence(embed=layers.item_rows, state=state, vectors=_vectors, states=states)
    return sequences.model(
        init=init, sequence=parts, num_items=num_items, max_length=max_length, temperature=temperature
    )


def _vectors(params: Params, items: Array) -> Array:
    return params["tables"]["item"][items]


def _read(weights: Params, rows: Array, present: Array) -> tuple[Array, Array]:
    """The hidden state after rows [L, D], [H], and after each of them, [L, H]. Empty places leave it as it is.

    What the rows add to the gates does not wait for the state: one product for all places, before the scan.
    """
    size = weights["recurrent"]["kernel"].shape[0]

    def step(hidden, inputs):
        of_row, here = inputs
        of_hidden = hidden @ weights["recurrent"]["kernel"]
        gates = jax.nn.sigmoid(of_row[: 2 * size] + of_hidden[: 2 * size])
        reset, update = gates[:size], gates[size:]
        new = jnp.tanh(of_row[2 * size :] + reset * (of_hidden[2 * size :] + weights["recurrent"]["bias"]))
        hidden = jnp.where(here, (1 - update) * new + update * hidden, hidden)
        return hidden, hidden

    return jax.lax.scan(step, jnp.zeros(size), (layers.dense(weights["input"], rows), present))
