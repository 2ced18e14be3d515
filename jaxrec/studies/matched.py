"""Attacks at equal budgets: one attack with exactly the length, row by row, that another took.

Published attacks are compared under one epsilon that means different things to them (see `attacks.msap`). What is left
of a difference when every row moves equally far is due to the direction alone.
"""

import jax
import jax.numpy as jnp

from jaxrec import norms
from jaxrec.norms import Norm
from jaxrec.types import Array, Attack


def lengths(reference: Attack, attack: Attack, *, norm: Norm = norms.L2) -> Attack:
    """Builds the attack `attack`, with the radius of each row the length of that row in `reference`'s perturbation.

    Args:
        reference: Runs first; only the lengths of its rows are used.
        attack: Built with epsilon 1 for exactly these lengths (and with `norm`, if it has one): it works in units of
            each row's own radius, so its balls are those radii.
        norm: Of the lengths. Only norms of rows: a row's radius scales all its entries alike.

    Returns:
        `(key, oracle, x) -> (delta, info)`. A row that `reference` left alone stays. The cost in `info` is that of
        both; `info["norms"]` are lengths of rows of delta.

    Raises:
        ValueError: When it is called with an oracle that has a box, which is none in such units.
    """

    def matched(key, oracle, x):
        if oracle.box is not None:
            raise ValueError(f"Expected an oracle without a box, got box={oracle.box}.")
        # The reference has the caller's key, so that its rows are those of its own run under that key.
        other, other_info = reference(key, oracle, x)
        radii = jax.tree.map(lambda delta: _beside(norm.size(delta), delta), other)
        units = jax.tree.map(lambda radius: jnp.where(radius > 0, radius, 1), radii)
        there = lambda y: jax.tree.map(jnp.multiply, y, units)
        grad = None
        if oracle.grad is not None:
            grad = lambda key, y: jax.tree.map(jnp.multiply, units, oracle.grad(key, there(y)))
        where = jax.tree.map(lambda delta, radius: jnp.broadcast_to(radius > 0, delta.shape), other, radii)
        if oracle.where is not None:
            where = jax.tree.map(jnp.logical_and, where, oracle.where)
        inside = oracle._replace(
            losses=lambda key, y: oracle.losses(key, there(y)), grad=grad, where=where, scores=None
        )
        delta, info = attack(jax.random.fold_in(key, 1), inside, jax.tree.map(jnp.divide, x, units))
        delta = there(delta)
        both = {name: info[name] + other_info[name] for name in ("gradient_evaluations", "queries")}
        return delta, {**info, **both, "norms": jax.tree.map(norm.size, delta)}

    return matched


def _beside(values: Array, x: Array) -> Array:
    """values [N] with as many trailing axes of length 1 as x has."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))
