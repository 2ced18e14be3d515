"""An adversary who has another model with the same tables, and not the victim's gradients: transfer of table attacks.

Dot products do not show the basis in which a model's factors lie, and two trainings end in different ones. So the
surrogate is first rotated onto the victim (orthogonal Procrustes: Schönemann, Psychometrika 1966), for which the
victim's tables are used. That is more than such an adversary has: what a transfer attack does here is an upper bound,
in the gauge that the victim's tables are in. Relative epsilons bring them to the canonical one (`robustness.in_unit`),
which no rotation turns the surrogate's into; those are then the less well aligned.
"""

import jax
import jax.numpy as jnp

from jaxrec import oracles, perturbations
from jaxrec.adversaries import Adversary
from jaxrec.types import PyTree

GIVEN = "surrogate"  # the surrogate's tables lie under params["given"] by this name


def transferred(adversary: Adversary) -> Adversary:
    """Builds the adversary with the gradient of a surrogate and the losses of the victim.

    A perturbation delta of the victim's tables is tried on the surrogate's, rotated, at the same delta.

    Args:
        adversary: Whose loss is ascended, on the surrogate, and reported, on the victim.

    Returns:
        An adversary of models whose `params["given"]["surrogate"]` are tables like `params["tables"]`; the columns that
        are rotated are all of them, so the tables must hold factors and nothing else.

    Raises:
        ValueError: When it is called, if `adversary` has no gradient.
    """

    def with_surrogate(model, params, surface, known):
        other = {**params, "tables": aligned(params["given"][GIVEN], params["tables"])}
        victim, surrogate = (adversary(model, each, surface, known) for each in (params, other))
        perturbations.check_gradient(surrogate)
        start, there = surface.get(params), surface.get(other)

        def grad(key, x):
            assert surrogate.grad is not None
            return surrogate.grad(key, jax.tree.map(lambda there, x, start: there + (x - start), there, x, start))

        return oracles.transfer(surrogate._replace(grad=grad), victim)

    return with_surrogate


def aligned(tables: PyTree, onto: PyTree) -> PyTree:
    """Tables {name: [rows, D]} times the rotation (or reflection) that brings them nearest to `onto`, all together."""
    cross = sum(tables[name].T @ onto[name] for name in sorted(tables))
    left, _, right = jnp.linalg.svd(jnp.asarray(cross), full_matrices=False)
    return jax.tree.map(lambda table: table @ (left @ right), tables)
