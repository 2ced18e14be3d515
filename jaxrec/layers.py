"""What the layers of more than one model share: dropout that is cheap on a CPU, and a check of sizes."""

import jax
import jax.numpy as jnp

from jaxrec.types import Array, Key

_LEVELS = 256  # a byte decides about one entry


def dropout(key: Key | None, x: Array, rate: float) -> Array:
    """Sets entries to 0 at random and scales the others, so that the expectation of each stays what it was.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014. One byte decides
    about an entry where Flax's takes a number of 32 bits: on a CPU the generator is what dropout of attention costs.

    Args:
        key: Consumed; None for no dropout.
        x: [...].
        rate: In [0, 1). Rounded to a multiple of 1/256, 0.2 to 51/256 = 0.1992; the scale is that of the rounded rate.

    Returns:
        [...], of the type of `x`.
    """
    dropped = round(rate * _LEVELS)
    if key is None or dropped == 0:
        return x
    words = jax.random.bits(key, (-(-x.size // 4),), jnp.uint32)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(bits >= dropped, x * (_LEVELS / (_LEVELS - dropped)), jnp.zeros((), x.dtype))


def check(*, rates: dict[str, float] | None = None, **sizes: int) -> None:
    """Raises a ValueError unless every size is at least 1 and every rate in [0, 1), by its name."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"Expected {name} >= 1, got {name}={size}.")
    for name, rate in (rates or {}).items():
        if not 0 <= rate < 1:
            raise ValueError(f"Expected {name} in [0, 1), got {name}={rate}.")
