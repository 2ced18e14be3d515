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
    known: tuple[PyTree, PyTree] | None = None,
) -> Oracle:
    """The oracle of an adversary who knows everything: the losses and their exact gradient.

    Args:
        losses: (key, x) -> [N], this device's part of the losses to raise.
        reduce: Sums over the devices that share x. It is applied to the gradient here, and only here, *before* an
            attack normalises or signs it; afterwards each device would mount an attack of its own.
        scores, labels, where, box: As in `Oracle`.
        known: (x, this device's part of the gradient there), where the caller has it anyway: an attack that asks at
            that very array, as FGSM does, is answered without computing it again.
    """
    grad = jax.grad(lambda x, key: jnp.sum(losses(key, x)))

    def gradient(key, x):
        return reduce(known[1] if known is not None and _same(x, known[0]) else grad(x, key))

    return Oracle(
        losses=lambda key, x: reduce(losses(key, x)),
        grad=gradient,
        scores=scores,
        labels=labels,
        where=where,
        box=box,
    )


def _same(first: PyTree, second: PyTree) -> bool:
    """Whether two trees are the same arrays, not only equal ones; known while tracing."""
    return list(map(id, jax.tree.leaves(first))) == list(map(id, jax.tree.leaves(second)))
