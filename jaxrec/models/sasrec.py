"""SASRec: the next item from a stack of causal self-attention over the history.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, arXiv:1808.09781. With
`losses.gbce` and many negatives it is gSASRec of Petrov and Macdonald, RecSys 2023, arXiv:2308.07192; with
`losses.softmax` the strong baseline of Klenitskiy and Vasilev, RecSys 2023, arXiv:2309.07602.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxrec import checks, layers, sequences
from jaxrec.types import Array, Model

_INIT = nn.initializers.xavier_normal()
_EPSILON = 1e-8  # of layer norms


def model(
    *,
    num_users: int = 1,
    num_items: int,
    dimension: int = 50,
    max_length: int = 200,
    num_blocks: int = 2,
    num_heads: int = 1,
    dropout: float = 0.2,
    temperature: float | None = None,
    compute_dtype: DTypeLike = jnp.float32,
) -> Model:
    """Builds the model.

    An item is its row of the table, both in the history and where it is scored. In each block, x [L, D]:

        x <- q + attention(q, x, x),  q = norm(x)
        x <- x + W2 dropout(relu(W1 x)),  x = norm(x)      (and dropout after each)

    The blocks, their norms and biases, and Xavier's normal start are those of the common PyTorch port (pmixer,
    SASRec.pytorch). Different here: empty places are not attended to, where the port attends to their biases; the last
    place, not the first, is that of the newest item in a history of any length; a table has no row for the empty
    place; biases of the feed-forward layers start at 0; dropout is that of `layers.dropout`.

    Args:
        num_users: Not read: no user has parameters.
        num_items: Rows of the item table, I.
        dimension: Length of an embedding, D.
        max_length: Items of a history that are read, the newest ones.
        num_blocks, num_heads: Of attention; `num_heads` divides `dimension`.
        dropout: Rate of what is set to 0 in training: rows, attention weights, hidden units.
        temperature: A score is the cosine of the last place's state and an item's row over the temperature, as in the
            sampled-softmax baseline of the HSTU paper's code (meta-recsys, generative-recommenders: .05); None for
            their product, as in the paper.
        compute_dtype: Type of activations and products, such as bfloat16; parameters, norms, softmax and scores are
            float32.

    Returns:
        A `Model` with the table "item" [I, D], and positions [max_length, D] and layers among the weights.

    Raises:
        ValueError: If a size is below 1, the heads do not divide the dimension, `dropout` is not in [0, 1), or
            `temperature` is not positive.
    """
    sizes = {"num_users": num_users, "num_items": num_items, "max_length": max_length, "num_blocks": num_blocks}
    checks.rates(dropout=dropout)
    checks.counts(**sizes)
    layers.check_heads(dimension=dimension, num_heads=num_heads)
    encoder = _Encoder(max_length, num_blocks, num_heads, dropout, compute_dtype)
    return sequences.of_encoder(
        encoder, _INIT, num_items=num_items, dimension=dimension, max_length=max_length, temperature=temperature
    )


class _Encoder(nn.Module):
    """Rows [L, D] and which places are filled [L] -> states [L, D]; under dropout where it is given such a key."""

    max_length: int
    num_blocks: int
    num_heads: int
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, rows: Array, present: Array) -> Array:
        length, dimension = rows.shape
        if length > self.max_length:
            raise ValueError(f"Expected a history of at most max_length={self.max_length} places, got {length}.")
        positions = self.param("positions", _INIT, (self.max_length, dimension))
        x = rows * dimension**0.5 + positions[self.max_length - length :]
        x = jnp.where(present[:, None], self._drop(x), 0).astype(self.dtype)
        causal = jnp.tril(jnp.ones((length, length), bool))
        # An empty place attends to itself alone, so that no row of the softmax is empty.
        where = (causal & present[None]) | jnp.eye(length, dtype=bool)
        for block in range(self.num_blocks):
            queries = self._norm(f"attention_norm_{block}")(x)
            x = queries + self._attention(queries, x, where, block)
            x = self._norm(f"forward_norm_{block}")(x)
            hidden = self._drop(nn.relu(self._dense(f"hidden_{block}", dimension)(x)))
            x = x + self._drop(self._dense(f"forward_{block}", dimension)(hidden))
        return self._norm("last_norm")(x).astype(jnp.float32)

    def _attention(self, queries: Array, x: Array, where: Array, block: int) -> Array:
        """Queries [L, D] and what they look at [L, D] -> [L, D]."""
        length, dimension = x.shape
        size = dimension // self.num_heads
        query, key, value = (
            self._dense(f"{name}_{block}", dimension)(source).reshape(length, self.num_heads, size).swapaxes(0, 1)
            for name, source in (("query", queries), ("key", x), ("value", x))
        )
        found = layers.attention(query, key, value, where, self._drop)
        return self._dense(f"out_{block}", dimension)(found.swapaxes(0, 1).reshape(length, dimension))

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(_EPSILON, use_fast_variance=False, dtype=self.dtype, name=name)

    def _dense(self, name: str, size: int) -> nn.Dense:
        return nn.Dense(size, kernel_init=_INIT, dtype=self.dtype, name=name)

    def _drop(self, x: Array) -> Array:
        return layers.dropout(self.make_rng("dropout") if self.has_rng("dropout") else None, x, self.dropout)
