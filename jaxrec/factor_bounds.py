"""How far the factors that rank can move when a model's tables do: what certificates of dot products are asked for.

Both builders return params -> (factors, radii): scores are dot products of the factors' rows, and where each row of the
tables "user" and "item" moves by at most epsilon mean row norms of its table, no factor moves further than epsilon
times the radius of its side.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec import surfaces
from jaxrec.certificates.dot_product import Factors, Radii, relative
from jaxrec.models import lightgcn
from jaxrec.types import Model, Params

Bounds = Callable[[Params], tuple[Factors, Radii]]


def of_tables(model: Model) -> Bounds:
    """Builds those of a model whose scores are dot products of its tables' rows, in its canonical gauge if any."""

    @jax.jit
    def bounds(params):
        tables = (params if model.canonical is None else model.canonical(params))["tables"]
        factors = Factors(user=tables["user"], item=tables["item"])
        return factors, relative(factors)

    return bounds


def of_propagation(*, num_layers: int = 3) -> Bounds:
    """Builds those of `lightgcn.model`, whose factors are sums of tables' rows with weights >= 0.

    A factor moves by at most the same sum of the radii of the rows; the radius of a side is the largest of these, which
    is that of nodes with neighbours of small degree and loose for the others.
    """

    @jax.jit
    def bounds(params):
        tables = params["tables"]
        scales = surfaces.row_scales(tables)
        factors, moved = (
            lightgcn.propagated({**params, "tables": each}, num_layers=num_layers)["tables"]
            for each in (tables, {name: jnp.full((len(tables[name]), 1), scales[name]) for name in tables})
        )
        radii = {name: jnp.max(moved[name]) for name in moved}
        return Factors(user=factors["user"], item=factors["item"]), Radii(user=radii["user"], item=radii["item"])

    return bounds
