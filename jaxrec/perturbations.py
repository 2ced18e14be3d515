"""What every attack does with a perturbation: keep it legal, compare it, report it."""

from collections.abc import Callable

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxrec.norms import Norm
from jaxrec.types import Array, Key, Metrics, Oracle, PyTree, Scalar


def check_epsilon(epsilon: Scalar, name: str = "epsilon") -> None:
    """Raises a ValueError if a static radius or length is negative or not finite; a traced one passes."""
    if not isinstance(epsilon, jax.core.Tracer) and not (np.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"Expected {name} >= 0 and finite, got {name}={epsilon}.")


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

    def pick(first_delta, second_delta):
        shape = () if len(wins) == 1 else (-1, *(1,) * (first_delta.ndim - 1))
        return jnp.where(wins.reshape(shape), second_delta, first_delta)

    return jnp.where(wins, second[0], first[0]), jax.tree.map(pick, first[1], second[1])


def outcome(
    key: Key, oracle: Oracle, norm: Norm, x: PyTree, delta: PyTree, *, gradient_evaluations: int, queries: int
) -> tuple[PyTree, Metrics]:
    """The perturbation under stop-gradient, and what the attack did.

    info: `losses` [N] reached, `norms` (like x: the size of each row of delta), `gradient_evaluations`, `queries`
    (evaluations of the losses). What nobody reads is not computed under jit.
    """
    losses, delta = candidate(key, oracle, x, jax.lax.stop_gradient(delta))
    return delta, {
        "losses": losses,
        "norms": jax.tree.map(norm.size, delta),
        "gradient_evaluations": gradient_evaluations,
        "queries": queries,
    }
