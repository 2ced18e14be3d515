"""iALS as the surrogate of a poisoning attack: its fixed point on real and fake rows, and the exact derivative of it.

Hu, Koren and Volinsky, ICDM 2008, as in `jaxrec.models.ials`. At the fixed point z of the sweeps the gradient of the
objective J(z; F) is zero, so by the implicit function theorem the gradient of an outer loss L is

    dL/dF = -(d^2 J / dF dz)^T v,      (d^2 J / dz^2) v = dL/dz

The Hessian is singular where tables are rotated alike, which changes no score: L and d^2 J / dF dz do not feel it, the
system is consistent, and conjugate gradients solve it from products with vectors alone.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.injection import Problem, Surrogate
from jaxrec.inner import weighted
from jaxrec.inner.weighted import Tables
from jaxrec.models import ials
from jaxrec.types import Array, Interactions


def problem(
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
) -> Problem:
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
    settings = {"l2": l2, "unobserved_weight": unobserved_weight, "l2_exponent": l2_exponent}
    ials.model(num_users=1, num_items=1, dimension=dimension, init_scale=init_scale, **settings)  # checks them
    for name, value in (("max_sweeps", max_sweeps), ("adjoint_steps", adjoint_steps)):
        if value < 1:
            raise ValueError(f"Expected {name} >= 1, got {name}={value}.")
    for name, value in (("tolerance", tolerance), ("adjoint_tolerance", adjoint_tolerance)):
        if not value >= 0:
            raise ValueError(f"Expected {name} >= 0, got {name}={value}.")

    def build(real: Interactions, num_fakes: int) -> Surrogate:
        sizes = real.num_users, num_fakes, real.num_items
        objective = weighted.objective(real, **settings)
        plans, weights = _plans(real, num_fakes), jnp.array([l2, unobserved_weight, l2_exponent])

        def converged(start, fakes):
            def more(state):
                _, change, count = state
                return (change > tolerance) & (count < max_sweeps)

            def sweep(state):
                tables, _, count = state
                swept = _sweep(tables, fakes, plans, weights)
                change = jnp.linalg.norm(swept["item"] - tables["item"]) / jnp.linalg.norm(swept["item"])
                return swept, change, count + 1

            return jax.lax.while_loop(more, sweep, (start, jnp.asarray(jnp.inf), 0))[0]

        @jax.custom_vjp
        def solve(start, fakes):
            return converged(start, fakes)

        def forward(start, fakes):
            tables = converged(start, fakes)
            return tables, (start, tables, fakes)

        def backward(kept, cotangent):
            start, tables, fakes = kept
            gradient = jax.grad(objective)
            product = lambda vector: jax.jvp(lambda tables: gradient(tables, fakes), (tables,), (vector,))[1]
            adjoint, _ = jax.scipy.sparse.linalg.cg(
                product,
                cotangent,
                tol=adjoint_tolerance,
                maxiter=adjoint_steps,
                M=_preconditioner(tables, fakes, plans, weights),
            )
            (by_fakes,) = jax.vjp(lambda fakes: gradient(tables, fakes), fakes)[1](adjoint)
            return jax.tree.map(jnp.zeros_like, start), -by_fakes

        solve.defvjp(forward, backward)
        return Surrogate(
            init=lambda key: weighted.init(key, sizes=sizes, dimension=dimension, init_scale=init_scale),
            solve=solve,
            scores=weighted.scores,
            again=lambda start, solution: solution,
        )

    return build


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


def _sweep(tables: Tables, fakes: Array, plans: dict[str, ials.Plan], weights: Array) -> Tables:
    """Users and fakes, then items, each solved exactly."""
    for name in ("user", "fake", "item"):
        other, soft = _others(name, tables, fakes)
        tables = {**tables, name: ials.half_sweep(tables[name], other, plans[name], weights, soft)}
    return tables


def _preconditioner(tables: Tables, fakes: Array, plans: dict[str, ials.Plan], weights: Array):
    """Builds `tables -> tables`, each row times the inverse of its normal matrix: the Hessian's block, but for a 2."""

    def factors(name):
        other, soft = _others(name, tables, fakes)
        of_chunk = lambda chunk: jnp.linalg.cholesky(ials.normal_equations(other, chunk, weights, soft)[0])
        blocks = jax.lax.map(of_chunk, plans[name])
        shape = (len(tables[name]), *blocks.shape[-2:])
        return jnp.zeros(shape, blocks.dtype).at[plans[name].rows].set(blocks, mode="drop")

    by_table = {name: factors(name) for name in tables}
    solve = lambda factor, table: jax.scipy.linalg.cho_solve((factor, True), table[..., None])[..., 0]
    return lambda vector: {name: solve(by_table[name], vector[name]) for name in vector}
