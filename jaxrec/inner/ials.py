"""iALS as the surrogate of a poisoning attack: its fixed point on real and fake rows, and the exact derivative of it.

Hu, Koren and Volinsky, ICDM 2008, as in `jaxrec.models.ials`. At the fixed point z of the sweeps the gradient of the
objective J(z; F) is zero, so by the implicit function theorem the gradient of an outer loss L is

    dL/dF = -(d^2 J / dF dz)^T v,      (d^2 J / dz^2) v = dL/dz

The Hessian is singular where tables are rotated alike, which changes no score: L and d^2 J / dF dz do not feel it, the
system is consistent, and conjugate gradients solve it from products with vectors alone.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks
from jaxrec.injection import Surrogate
from jaxrec.inner import weighted
from jaxrec.inner.weighted import Tables
from jaxrec.models import ials
from jaxrec.types import Array, Interactions, PyTree


@functools.cache
def surrogate(
    *,
    dimension: int = 64,
    l2: float = 0.007,
    unobserved_weight: float = 0.3,
    l2_exponent: float = 1.0,
    max_sweeps: int = 200,
    tolerance: float = 1e-3,
    adjoint_steps: int = 200,
    adjoint_tolerance: float = 1e-3,
    init_scale: float = 0.1,
) -> Surrogate:
    """Builds the surrogate whose solution is that of `ials.model` after many epochs, differentiated implicitly.

    Memory is in the tables, their D x D normal matrices and a chunk of users' rows; nothing is kept of the sweeps. The
    next training starts where the last one ended, which changes the fixed point's neighbourhood, not its equations.

    Args:
        dimension, l2, unobserved_weight, l2_exponent, init_scale: As in `ials.model`.
        max_sweeps: Sweeps over all tables at most.
        tolerance: Sweeps end where the items' table changes by less than that, relative to its norm.
        adjoint_steps: Steps of conjugate gradients at most, preconditioned by the normal matrices.
        adjoint_tolerance: They end where the residual is below that, relative to dL/dz.

    Raises:
        ValueError: As in `ials.model`; if a number of steps is below 1 or a tolerance is negative.
    """
    weights = l2, unobserved_weight, l2_exponent
    weighted.check(dimension=dimension, weights=weights, init_scale=init_scale)
    checks.counts(max_sweeps=max_sweeps, adjoint_steps=adjoint_steps)
    checks.radius(tolerance=tolerance, adjoint_tolerance=adjoint_tolerance)

    def prepare(real: Interactions, num_fakes: int):
        return {"real": weighted.prepare(real), "plans": _plans(real, num_fakes), "weights": jnp.array(weights)}

    def init(data, key, num_fakes):
        return weighted.init(data["real"], key, num_fakes, dimension=dimension, init_scale=init_scale)

    solve = _solver(max_sweeps, tolerance, adjoint_steps, adjoint_tolerance)
    scores = lambda data, solution, users: weighted.scores(solution, users)
    return Surrogate(prepare, init, solve, scores, again=lambda start, solution: solution)


def _solver(
    max_sweeps: int, tolerance: float, adjoint_steps: int, adjoint_tolerance: float
) -> Callable[[PyTree, Tables, Array], Tables]:
    """Builds `(data, start, fakes) -> tables` at the fixed point, with the implicit derivative by the fakes."""

    def converged(data, start, fakes):
        def more(state):
            _, change, count = state
            return (change > tolerance) & (count < max_sweeps)

        def sweep(state):
            tables, _, count = state
            swept = _sweep(tables, fakes, data)
            change = jnp.linalg.norm(swept["item"] - tables["item"]) / jnp.linalg.norm(swept["item"])
            return swept, change, count + 1

        return jax.lax.while_loop(more, sweep, (start, jnp.asarray(jnp.inf), 0))[0]

    @jax.custom_vjp
    def solve(data, start, fakes):
        return converged(data, start, fakes)

    def forward(data, start, fakes):
        tables = converged(data, start, fakes)
        return tables, (data, tables, fakes)

    def backward(kept, cotangent):
        data, tables, fakes = kept
        gradient = lambda tables, fakes: jax.grad(weighted.objective)(tables, fakes, data["real"], data["weights"])
        product = lambda vector: jax.jvp(lambda tables: gradient(tables, fakes), (tables,), (vector,))[1]
        adjoint, _ = jax.scipy.sparse.linalg.cg(
            product,
            cotangent,
            tol=adjoint_tolerance,
            maxiter=adjoint_steps,
            M=_preconditioner(tables, fakes, data),
        )
        (by_fakes,) = jax.vjp(lambda fakes: gradient(tables, fakes), fakes)[1](adjoint)
        return None, None, -by_fakes

    solve.defvjp(forward, backward)
    return solve


def _plans(real: Interactions, num_fakes: int) -> dict[str, ials.Plan]:
    """The real pairs of each table's rows: fakes have none, but items are solved among U + M users."""
    nobody = np.zeros(0, np.int32)
    among_all = dataclasses.replace(real, num_users=real.num_users + num_fakes, user_ids=None)
    only_fakes = Interactions(nobody, nobody, num_users=num_fakes, num_items=real.num_items)
    return {"user": ials.plans(real)[0], "fake": ials.plans(only_fakes)[0], "item": ials.plans(among_all)[1]}


def _others(name: str, tables: Tables, fakes: Array) -> tuple[Array, ials.Soft | None]:
    """What a table's rows are solved against, and the pairs with fakes among it."""
    if name == "item":
        return jnp.concatenate([tables["user"], tables["fake"]]), ials.Soft(fakes.T, tables["fake"])
    return tables["item"], ials.Soft(fakes, tables["item"]) if name == "fake" else None


def _sweep(tables: Tables, fakes: Array, data: PyTree) -> Tables:
    """Users and fakes, then items, each solved exactly."""
    for name in ("user", "fake", "item"):
        other, soft = _others(name, tables, fakes)
        tables = {**tables, name: ials.half_sweep(tables[name], other, data["plans"][name], data["weights"], soft)}
    return tables


def _preconditioner(tables: Tables, fakes: Array, data: PyTree) -> Callable[[Tables], Tables]:
    """Builds `tables -> tables`, each row times the inverse of its normal matrix: the Hessian's block, but for a 2."""

    def factors(name):
        other, soft = _others(name, tables, fakes)
        of_chunk = lambda chunk: jnp.linalg.cholesky(ials.normal_equations(other, chunk, data["weights"], soft)[0])
        blocks = jax.lax.map(of_chunk, data["plans"][name])
        shape = (len(tables[name]), *blocks.shape[-2:])
        return jnp.zeros(shape, blocks.dtype).at[data["plans"][name].rows].set(blocks, mode="drop")

    by_table = {name: factors(name) for name in tables}
    solve = lambda factor, table: jax.scipy.linalg.cho_solve((factor, True), table[..., None])[..., 0]
    return lambda vector: {name: solve(by_table[name], vector[name]) for name in vector}
