"""What attacks that look at class scores share: the scores as functions of one matrix, with a row for each unit."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxrec import norms, perturbations
from jaxrec.types import Array, Key, Metrics, Oracle, PyTree, Scalar


class Units(NamedTuple):
    """An oracle of scores, and the x that is asked about, as a matrix.

    Attributes:
        x: [N, M]: what belongs to a unit, in all arrays of x, as one vector.
        labels: [N].
        where: bool [N, M], what may be touched.
        legal: delta [N, M] -> [N, M], cut to the mask and the box.
        scores: (key, delta [N, M]) -> [N, C], at x + delta.
        tree: delta [N, M] -> like x.
    """

    x: Array
    labels: Array
    where: Array
    legal: Callable[[Array], Array]
    scores: Callable[[Key, Array], Array]
    tree: Callable[[Array], PyTree]


def of(oracle: Oracle, x: PyTree) -> Units:
    """The oracle's units: the rows of x, one for each label; all of x where there is one label.

    Raises:
        ValueError: If the oracle has no gradient, no scores or no labels, or x has more or fewer rows than labels.
    """
    perturbations.check_gradient(oracle)
    ask, labels = oracle.scores, oracle.labels
    if ask is None or labels is None:
        raise ValueError("Expected an oracle with scores and labels, got one without: give it, or use another attack.")
    leaves, structure = jax.tree.flatten(jax.lax.stop_gradient(x))
    if any(len(labels) not in (1, len(leaf)) for leaf in leaves):
        raise ValueError(f"Expected an oracle with one label, or one for each row of x, got {len(labels)} labels.")

    def matrix(tree):
        return jnp.concatenate([leaf.reshape(len(labels), -1) for leaf in jax.tree.leaves(tree)], axis=1)

    def tree(delta):
        ends = np.cumsum([leaf.size // len(labels) for leaf in leaves])
        pieces = jnp.split(delta, ends[:-1], axis=1)
        return structure.unflatten([piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)])

    x = structure.unflatten(leaves)
    flat, where = matrix(x), matrix(perturbations.masked(oracle, jax.tree.map(jnp.ones_like, x))) > 0
    return Units(
        x=flat,
        labels=labels,
        where=where,
        legal=lambda delta: perturbations.legal(oracle, flat, jnp.where(where, delta, 0)),
        scores=lambda key, delta: ask(key, jax.tree.map(jnp.add, x, tree(delta))),
        tree=tree,
    )


def pull(units: Units, key: Key, delta: Array, directions: Array) -> tuple[Array, Array]:
    """The scores [N, C] at x + delta, and the gradients [K, N, M] of K sums of them, weighted by directions [K, N, C].

    One question, and K gradient evaluations. Gradients are zero where the mask is.
    """
    scores, pullback = jax.vjp(lambda delta: units.scores(key, delta), delta)
    gradients = jax.vmap(lambda direction: pullback(direction)[0])(directions)
    return scores, jnp.where(units.where, gradients, 0)


def ahead(scores: Array, labels: Array, target: ArrayLike | None) -> Array:
    """How far the adversary has got, [N], of scores [N, C]: it has what it wants above 0, and not yet at a tie.

    With a target, its score less the best other one; without, the best score but the label's less the label's.

    Raises:
        ValueError: If a static target is none of the C classes.
    """
    if target is not None and not isinstance(target, jax.core.Tracer) and np.asarray(target).max() >= scores.shape[1]:
        raise ValueError(f"Expected target in the {scores.shape[1]} classes, got target={target}.")
    classes = labels if target is None else jnp.broadcast_to(jnp.asarray(target), labels.shape)
    own = jax.nn.one_hot(classes, scores.shape[1], dtype=bool)
    best = lambda where: jnp.max(scores, axis=1, where=where, initial=-jnp.inf)
    return best(~own) - best(own) if target is None else best(own) - best(~own)


def smallest(
    key: Key, oracle: Oracle, x: PyTree, units: Units, delta: Array, found: Array, epsilon: Scalar, **cost: int | Array
) -> tuple[PyTree, Metrics]:
    """The outcome of a search for the smallest delta [N, M] in L2, scaled down where it is longer than epsilon.

    As `perturbations.outcome`, with `success` [N]: one was found, and it is no longer than epsilon.
    """
    limited = units.tree(norms.L2.project(delta, epsilon))
    delta_in_ball, info = perturbations.outcome(key, oracle, norms.L2, x, limited, **cost)
    return delta_in_ball, {**info, "success": found & (norms.L2.size(delta) <= epsilon)}


def check_targets(target: ArrayLike | None) -> None:
    """Raises a ValueError if static classes to be reached are no ids; None is no target."""
    if target is None or isinstance(target, jax.core.Tracer):
        return
    ids = np.asarray(target)
    if not (np.issubdtype(ids.dtype, np.integer) and (ids >= 0).all()):
        raise ValueError(f"Expected target to hold classes 0, 1, 2, ..., got target={target}.")
