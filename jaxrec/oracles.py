"""What an adversary may ask: the threat model, as a value.

An attack gets an `Oracle` and the array it perturbs, never a model, a batch or a parameter, so an adversary with the
wrong access cannot be written by accident.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec.types import Array, Key, Oracle, PyTree, Reduce, Scalar


def white_box(
    losses: Callable[[Key, PyTree], Array],
    *,
    reduce: Reduce = lambda tree: tree,
    scores: Callable[[Key, PyTree], Array] | None = None,
    labels: Array | None = None,
    where: PyTree | None = None,
    box: tuple[Scalar, Scalar] | None = None,
) -> Oracle:
    """The oracle of an adversary who knows everything: the losses and their exact gradient.

    Args:
        losses: (key, x) -> [N], this device's part of the losses to raise.
        reduce: Sums over the devices that share x. It is applied to the gradient here, and only here, *before* an
            attack normalises or signs it; afterwards each device would mount an attack of its own.
        scores, labels, where, box: As in `Oracle`.
    """
    grad = jax.grad(lambda x, key: jnp.sum(losses(key, x)))
    return Oracle(
        losses=lambda key, x: reduce(losses(key, x)),
        grad=lambda key, x: reduce(grad(x, key)),
        scores=scores,
        labels=labels,
        where=where,
        box=box,
    )
