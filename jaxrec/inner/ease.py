"""EASE as the surrogate of a poisoning attack: its exact solution on real and fake rows, and the exact derivative.

Steck, WWW 2019, arXiv:1905.03375, as in `jaxrec.models.ease`. Fake rows F [M, I] add F^T F to the Gram matrix, of rank
M, so that the inverse of the real rows is made once and corrected (Woodbury):

    P = P0 - P0 F^T (identity + F P0 F^T)^-1 F P0,      P0 = (X^T X + l2 * identity)^-1
"""

import jax
import jax.numpy as jnp

from jaxrec import injection, packed
from jaxrec.injection import Problem, Surrogate
from jaxrec.models import ease
from jaxrec.types import Array, Interactions


def problem(*, l2: float = 500.0) -> Problem:
    """Builds the surrogate whose solution is that of `ease.model`, differentiated through the corrected inverse.

    A solution and its gradient take time in (U + I) I M, where a solution anew takes I^3; P0 [I, I] and X P0 [U, I] are
    kept. Everything is in the type of the platform: float32, or float64 where it is enabled.

    Args:
        l2: As in `ease.model`.

    Raises:
        ValueError: If `l2` is not above 0 and finite.
    """
    if not 0 < l2 < float("inf"):
        raise ValueError(f"Expected l2 > 0 and finite, got l2={l2}.")

    def build(real: Interactions, num_fakes: int) -> Surrogate:
        del num_fakes
        dtype = jnp.zeros(()).dtype
        inverse = jnp.asarray(ease.inverse(real, l2, dtype.type))
        rows = packed.rows(real, injection.CHUNK)
        dense = lambda bits: packed.unpack(bits, real.num_items).astype(dtype)
        product = jax.jit(lambda bits: jax.lax.map(lambda chunk: dense(chunk) @ inverse, bits))(rows.bits)
        bits, known = (part.reshape(rows.users.size, -1) for part in (rows.bits, product))  # known: X P0 [U, I]

        def solve(start, fakes):
            del start
            right = fakes @ inverse  # F P0 [M, I]
            core = jnp.linalg.solve(jnp.eye(len(fakes)) + right @ fakes.T, right)
            diagonal = jnp.diagonal(inverse) - (right * core).sum(axis=0)
            return {"right": right, "core": core, "diagonal": diagonal}

        def scores(solution, users: Array) -> Array:
            own = dense(bits[users])
            product = known[users] - (own @ solution["right"].T) @ solution["core"]  # X P
            return own - product / solution["diagonal"][None]

        return Surrogate(init=lambda key: (), solve=solve, scores=scores, again=lambda start, solution: start)

    return build
