"""What every attack does with a perturbation: keep it legal, compare it, report it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec.norms import Norm
from jaxrec.types import Array, Key, Metrics, Oracle, PyTree, Scalar


def check_gradient(oracle: Oracle) -> None:
    """Raises a ValueError if the oracle of a gradient attack gives none."""
    if oracle.grad is None:
        raise ValueError("Expected an oracle with a gradient, got one without: estimate it, or use another attack.")


def masked(oracle: Oracle, tree: PyTree) -> PyTree:
    """The tree with zeros where the oracle says hands off."""
    if oracle.where is None:
        return tree
    return jax.tree.map(lambda x, where: jnp.where(where, x, 0), tree, oracle.where)


def legal(oracle: Oracle, x: PyTree, delta: PyTree) -> PyTree:
    """delta, cut so that x + delta lies in the oracle's box; an x outside it is never moved by the cut alone."""
    if oracle.box is None:
        return delta
    low, high = oracle.box

    def cut(x, delta):
        return jnp.clip(delta, jnp.minimum(low - x, 0), jnp.maximum(high - x, 0))

    return jax.tree.map(cut, x, delta)


def projected(oracle: Oracle, norm: Norm, x: PyTree, delta: PyTree, epsilon: Scalar) -> PyTree:
    """delta, moved into the ball of radius epsilon and cut to the oracle's box."""
    return legal(oracle, x, jax.tree.map(lambda delta: norm.project(delta, epsilon), delta))


def over_units(values: Array, x: Array) -> Array:
    """values [N], one for each unit, in a shape that goes with x: one for all of x, or one for each of its rows."""
    return values.reshape(() if len(values) == 1 else (-1, *(1,) * (x.ndim - 1)))


def map_with_keys(fn: Callable[[Key, Array], Array], key: Key, x: PyTree) -> PyTree:
    """fn(key, leaf) for each leaf of x, each with a key of its own."""
    leaves, structure = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [fn(keys[i], leaf) for i, leaf in enumerate(leaves)])


def candidate(key: Key, oracle: Oracle, x: PyTree, delta: PyTree) -> tuple[Array, PyTree]:
    """A perturbation with the losses [N] it reaches."""
    return oracle.losses(key, jax.tree.map(jnp.add, x, delta)), delta


def better(first: tuple[Array, PyTree], second: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
    """For each unit the candidate with the higher loss; the first on a tie, and when the second's is not a number."""
    wins = second[0] > first[0]
    pick = lambda first, second: jnp.where(over_units(wins, first), second, first)
    return jax.tree.map(pick, first, second)


def outcome(
    key: Key,
    oracle: Oracle,
    norm: Norm,
    x: PyTree,
    delta: PyTree,
    *,
    gradient_evaluations: int | Array,
    queries: int | Array,
) -> tuple[PyTree, Metrics]:
    """The perturbation under stop-gradient, and what the attack did.

    info: `losses` [N] reached, `norms` (like x: the size of each row of delta), `gradient_evaluations` (calls of
    `oracle.grad`), `queries` (evaluations of the losses: the attack's own, as given, and those that the oracle needs to
    estimate its gradients). What nobody reads is not computed under jit.

    Raises:
        ValueError: If rows of x share a ball (`norms.whole`) and have losses of their own: the best delta of each row
            need not be in the ball together.
    """
    losses, delta = candidate(key, oracle, x, jax.lax.stop_gradient(delta))
    sizes = jax.tree.map(norm.size, delta)
    shared = any(len(size) < len(x) for size, x in zip(jax.tree.leaves(sizes), jax.tree.leaves(x), strict=True))
    if shared and len(losses) > 1:
        raise ValueError(f"Expected one loss with norm={norm.name}, got {len(losses)}: sum those that share a ball.")
    return delta, {
        "losses": losses,
        "norms": sizes,
        "gradient_evaluations": gradient_evaluations,
        "queries": queries + gradient_evaluations * oracle.grad_queries,
    }
