"""The part of the parameters that an adversary perturbs, and the units in which it is measured."""

import jax
import jax.numpy as jnp

from jaxrec import checks, norms
from jaxrec.types import PyTree, Surface


def tables(*names: str) -> Surface:
    """The named embedding tables: `tables("user", "item")`, or one of them alone.

    `get(params)` is `{name: [rows, D]}`; `put(params, x)` puts such a dict in their place.

    Raises:
        ValueError: If no name is given. A name the parameters lack raises a KeyError when it is used.
    """
    if not names:
        raise ValueError('Expected the name of at least one table, such as tables("user", "item").')
    return Surface(
        get=lambda params: {name: params["tables"][name] for name in names},
        put=lambda params, x: {**params, "tables": {**params["tables"], **x}},
    )


def given(*names: str) -> Surface:
    """The named arrays of what is given to a model, real-valued ones: `given("item_values")` of a feature model.

    `get` and `put` as in `tables`.

    Raises:
        ValueError: If no name is given. A name that is not given raises a KeyError when it is used.
    """
    if not names:
        raise ValueError('Expected the name of at least one array, such as given("item_values").')
    return Surface(
        get=lambda params: {name: params["given"][name] for name in names},
        put=lambda params, x: {**params, "given": {**params["given"], **x}},
    )


def columns(surface: Surface, num: int) -> Surface:
    """The first `num` columns of each array of `surface`: the embeddings of rows that end with a bias.

    Raises:
        ValueError: If `num < 1`.
    """
    checks.counts(num=num)
    return Surface(
        get=lambda params: jax.tree.map(lambda x: x[:, :num], surface.get(params)),
        put=lambda params, x: surface.put(
            params,
            jax.tree.map(lambda full, part: jnp.concatenate([part, full[:, num:]], axis=1), surface.get(params), x),
        ),
    )


def displaced(surface: Surface, delta: PyTree) -> Surface:
    """The same part where it stands already perturbed: `get` gives x + delta, and `put` is that of `surface`."""
    return Surface(get=lambda params: jax.tree.map(jnp.add, surface.get(params), delta), put=surface.put)


def scaled(surface: Surface, scales: PyTree) -> Surface:
    """The same part in other units: each array of `surface` is divided by its entry of `scales`.

    With `row_scales` the units are relative: an attack with epsilon .1 moves each row by at most a tenth of its table's
    mean row norm. Dot products do not change when one table is multiplied by a number and the other divided by it, and
    neither does what a relative epsilon allows. For other changes of basis bring the parameters to the canonical gauge
    first (`Model.canonical`).
    """
    return Surface(
        get=lambda params: jax.tree.map(lambda x, scale: x / scale, surface.get(params), scales),
        put=lambda params, x: surface.put(params, jax.tree.map(lambda x, scale: x * scale, x, scales)),
    )


def row_scales(x: PyTree) -> PyTree:
    """The mean L2 norm of the rows of each array in x; 1 for an array of zeros."""

    def scale(array):
        mean = jnp.mean(norms.L2.size(array))
        return jnp.where(mean > 0, mean, 1)

    return jax.tree.map(scale, x)
