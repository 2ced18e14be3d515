"""What the layers of more than one model share: dropout and attention that are cheap on a CPU, a check of settings."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec.types import Array, Key

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
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits ^= bits >> 15
    return jnp.where(bits >= jnp.uint32(rate * 2**32), x / (1 - rate), jnp.zeros((), x.dtype)).astype(x.dtype)


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


def check(*, rates: dict[str, float] | None = None, **sizes: int) -> None:
    """Raises a ValueError unless every size is at least 1 and every rate in [0, 1), by its name."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"Expected {name} >= 1, got {name}={size}.")
    for name, rate in (rates or {}).items():
        if not 0 <= rate < 1:
            raise ValueError(f"Expected {name} in [0, 1), got {name}={rate}.")
