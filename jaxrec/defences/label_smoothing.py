"""Label smoothing: a model is not told that the item somebody took was the only right one.

Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
arXiv:1512.00567, section 7. With probability `smoothing` a label goes to an entry of its list that is drawn uniformly,
the right one included; what is minimised is the expectation over that:

    listwise:  loss(scores, y'),   y' = (1 - smoothing) * y + smoothing * mean of y over the list
    pairwise:  (1 - smoothing / 2) * loss(pos, neg) + smoothing / 2 * loss(neg, pos)      (a list of two)

It changes a loss, not an objective, and so goes where losses go:

    objectives.pairwise(model=model, loss=label_smoothing.pairwise(losses.bpr))
    objectives.listwise(model=model, loss=label_smoothing.listwise(losses.softmax))
    sequences.next_item(model=model, num_items=num_items, loss=label_smoothing.listwise(losses.bce))
"""

from collections.abc import Callable

import jax.core
import jax.numpy as jnp

from jaxrec.types import Array, Scalar


def pairwise(loss: Callable[[Array, Array], Array], *, smoothing: Scalar = 0.1) -> Callable[[Array, Array], Array]:
    """The smoothed loss of a positive against a negative score.

    Args:
        loss: (pos [...], neg [...]) -> [...], such as `losses.bpr`.
        smoothing: In [0, 1]: 0 is `loss`, and at 1 the two items are alike. May be traced.

    Returns:
        (pos [...], neg [...]) -> [...]. Of `losses.bpr` it is smallest at the finite margin log(2 / smoothing - 1).

    Raises:
        ValueError: If `smoothing` is not in [0, 1].
    """
    _check(smoothing)
    return lambda pos, neg: (1 - smoothing / 2) * loss(pos, neg) + smoothing / 2 * loss(neg, pos)


def listwise(loss: Callable[..., Array], *, smoothing: Scalar = 0.1) -> Callable[..., Array]:
    """The smoothed loss of a list with its relevance.

    Args:
        loss: (scores [..., N], relevant [..., N], where) -> [...], linear in the relevance: `losses.bce`, `gbce`,
            `softmax`. (`hardest` takes every entry with some relevance for a positive, and is none.)
        smoothing: As in `pairwise`.

    Returns:
        (scores [..., N], relevant [..., N], where=None) -> [...]; entries whose `where` is false have no part in it.
        The sum of a list's relevance stays what it was.

    Raises:
        ValueError: If `smoothing` is not in [0, 1].
    """
    _check(smoothing)

    def smoothed(scores, relevant, where=None):
        kept = jnp.ones(scores.shape, bool) if where is None else jnp.broadcast_to(where.astype(bool), scores.shape)
        relevant = jnp.where(kept, relevant, 0)
        num = jnp.maximum(jnp.sum(kept, axis=-1, keepdims=True), 1)
        mean = jnp.sum(relevant, axis=-1, keepdims=True) / num
        return loss(scores, (1 - smoothing) * relevant + smoothing * mean, where)

    return smoothed


def _check(smoothing: Scalar) -> None:
    if not isinstance(smoothing, jax.core.Tracer) and not 0 <= smoothing <= 1:
        raise ValueError(f"Expected smoothing in [0, 1], got smoothing={smoothing}.")
