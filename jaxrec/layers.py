"""What the layers of more than one model share: rows, dense layers, dropout and attention that are cheap on a CPU."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec import checks
from jaxrec.types import Array, Key, Params

_STRIDES = (0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F)  # odd: one an axis


def dropout(key: Key | None, x: Array, rate: float) -> Array:
    """Sets entries to 0 at random and scales the others, so that the expectation of each stays what it was.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014. JAX's generator
    makes one seed, and each entry's 32 bits are a hash of seed and place (Wellons, "lowbias32", public domain): on a
    CPU a tenth of the time of drawing them all, which is what dropout of attention weights costs.

    Args:
        key: Consumed; None for no dropout.
        x: [...], at most four axes. Places are counted from the end of each: an array cut in front keeps the decisions
            of the entries that stay.
        rate: In [0, 1).

    Returns:
        [...], of the type of `x`.
    """
    if key is None or rate == 0:
        return x
    bits = jnp.broadcast_to(jax.random.bits(key, (), jnp.uint32), x.shape)
    for axis, stride in zip(range(x.ndim), _STRIDES, strict=False):
        place = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        bits += (x.shape[axis] - 1 - place) * jnp.uint32(stride)
    return jnp.where(hashed(bits) >= jnp.uint32(rate * 2**32), x / (1 - rate), jnp.zeros((), x.dtype)).astype(x.dtype)


def hashed(bits: Array) -> Array:
    """uint32 [...] -> uint32 [...], one to one, with every bit of it depending on every bit (Wellons, "lowbias32")."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits ^ (bits >> 15)


def attention(query: Array, key: Array, value: Array, where: Array, drop: Callable[[Array], Array]) -> Array:
    """Softmax attention of one sequence: drop(softmax(query key^T / sqrt(E))) value.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, eq. 1. In products, not the einsums of Flax's and JAX's
    own, for which XLA transposes the weights, the largest array, on a CPU; and those draw 32 bits a weight for dropout.

    Args:
        query, key, value: [H, L, E], H heads.
        where: bool [L, L], which place (row) looks at which (column); each at one at least.
        drop: Applied to the weights [H, L, L].

    Returns:
        [H, L, E], of the type of `value`; scores and softmax are float32.
    """
    scores = jnp.matmul(query / query.shape[-1] ** 0.5, key.swapaxes(1, 2)).astype(jnp.float32)
    weights = jax.nn.softmax(jnp.where(where[None], scores, -jnp.inf))
    return jnp.matmul(drop(weights).astype(value.dtype), value)


def unit(rows: Array) -> Array:
    """Rows [..., D] at length one; one shorter than 1e-6 stays short, and is differentiable at 0."""
    return rows * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(rows), axis=-1, keepdims=True), 1e-12))


def item_rows(params: Params, ids: Array) -> Array:
    """The rows of the table "item" [..., D], and 0 in an empty place, -1."""
    return jnp.where((ids >= 0)[..., None], params["tables"]["item"][ids], 0)


def dense(layer: Params, x: Array) -> Array:
    """x [..., num_in] -> [..., num_out], by the layer's `kernel` [num_in, num_out] and `bias` [num_out]."""
    return x @ layer["kernel"] + jnp.broadcast_to(layer["bias"], (*x.shape[:-1], *layer["bias"].shape))


def dense_layer(key: Key, num_in: int, num_out: int) -> Params:
    """The `kernel` and `bias` of `dense` to start from: Glorot and 0."""
    return {"kernel": glorot(key, num_in, num_out), "bias": jnp.zeros(num_out)}


def glorot(key: Key, num_in: int, num_out: int) -> Array:
    """[num_in, num_out], uniform in +- sqrt(6 / (num_in + num_out)).

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    return jax.nn.initializers.glorot_uniform()(key, (num_in, num_out))


def with_biases(table: Array) -> Array:
    """A table of vectors [I, H] with a last column for biases, 0, [I, H + 1]."""
    return jnp.pad(table, ((0, 0), (0, 1)))


def check_heads(*, dimension: int, num_heads: int) -> None:
    """Raises a ValueError unless the heads of attention share the dimension evenly."""
    checks.counts(dimension=dimension, num_heads=num_heads)
    if dimension % num_heads:
        raise ValueError(f"Expected num_heads to divide dimension, got {num_heads} and {dimension}.")
