"""HSTU: pointwise attention without a softmax, each block gated by what it reads.

Zhai, Liao, Liu, Wang, Li, Cao, Gao, Gong, Gu, He, Lu and Shi, "Actions Speak Louder than Words: Trillion-Parameter
Sequential Transducers for Generative Recommendations", ICML 2024, arXiv:2402.17152.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxrec import checks, layers, sequences
from jaxrec.types import Array, Model

_INIT = nn.initializers.normal(0.02)
_EPSILON = 1e-6  # of layer norms


def model(
    *,
    num_users: int = 1,
    num_items: int,
    dimension: int = 50,
    max_length: int = 200,
    num_blocks: int = 2,
    num_heads: int = 1,
    dropout: float = 0.2,
    temperature: float = 0.05,
    compute_dtype: DTypeLike = jnp.float32,
) -> Model:
    """Builds the model. In each block, x [L, D], with one dense layer for U, V, Q and K:

        U, V, Q, K = silu(W1 norm(x))
        x <- x + W2 dropout(U * norm(A V)),   A = silu(Q K^T + bias of the distance) / max_length, causal

    and a score is the cosine of the last place's state and an item's row, over the temperature. Attention weights are
    not dropped.

    The settings for ML-1M are those of the authors' code (meta-recsys, generative-recommenders): sampled softmax with
    128 negatives, temperature .05, dropout .2, AdamW at 1e-3 with beta 2 .98 and no decay, 2 blocks of 1 head
    ("HSTU") or 8 of 2 ("HSTU-large"), d 50, batch 128. Different here: the relative bias is of distances alone, since
    our ML-1M sequences have no complete times (theirs adds one of time gaps); negatives are a user's, not a place's,
    in `sequences.next_item`; dropout is that of `layers.dropout`.

    Args:
        num_users, num_items, dimension, max_length, num_blocks, num_heads: As in `sasrec.model`.
        dropout: Rate of what is set to 0 in training: rows and gated values.
        temperature: What the cosines are divided by.
        compute_dtype: As in `sasrec.model`.

    Returns:
        A `Model` with the table "item" [I, D], and positions [max_length, D] and layers among the weights.

    Raises:
        ValueError: As in `sasrec.model`, or if `temperature <= 0`.
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
        where = jnp.tril(jnp.ones((length, length), bool)) & present[None]
        for block in range(self.num_blocks):
            mixed = nn.Dense(4 * dimension, kernel_init=_INIT, dtype=self.dtype, name=f"mix_{block}")(self._norm(x))
            gate, value, query, key = jnp.split(nn.silu(mixed), 4, axis=-1)
            found = self._norm(self._attention(query, key, value, where, block))
            out = nn.Dense(
                dimension, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name=f"out_{block}"
            )
            x = x + out(self._drop(gate * found))
        return x.astype(jnp.float32)

    def _attention(self, query: Array, key: Array, value: Array, where: Array, block: int) -> Array:
        """Three times [L, D] -> [L, D]."""
        length, dimension = query.shape
        query, key, value = (
            x.reshape(length, self.num_heads, dimension // self.num_heads).swapaxes(0, 1) for x in (query, key, value)
        )
        by_distance = self.param(f"bias_{block}", _INIT, (self.max_length,))[:length]
        scores = jnp.matmul(query, key.swapaxes(1, 2)) + _by_distance(by_distance.astype(self.dtype))[None]
        weights = jnp.where(where[None], nn.silu(scores) / self.max_length, 0)
        return jnp.matmul(weights, value).swapaxes(0, 1).reshape(length, dimension)

    def _norm(self, x: Array) -> Array:
        """Rows of mean 0 and variance 1: these norms have no parameters."""
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + _EPSILON)

    def _drop(self, x: Array) -> Array:
        return layers.dropout(self.make_rng("dropout") if self.has_rng("dropout") else None, x, self.dropout)


def _by_distance(bias: Array) -> Array:
    """Bias of each distance [L] -> [L, L]: bias[q - k] at (q, k), 0 where k > q.

    Repeated with a period that is one more than the length of a row, each row begins one place earlier; a gather of
    L x L numbers, and the scatter of its gradient, would cost more than the attention.
    """
    length = bias.shape[0]
    rows = jnp.tile(jnp.pad(bias[::-1], (0, length)), length)[: length * (2 * length - 1)]
    return rows.reshape(length, 2 * length - 1)[:, length - 1 :]
