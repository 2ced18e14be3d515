"""EASE as the surrogate of a poisoning attack: its exact solution on real and fake rows, and the exact derivative.

Steck, WWW 2019, arXiv:1905.03375, as in `jaxrec.models.ease`. Fake rows F [M, I] add F^T F to the Gram matrix, of rank
M, so that the inverse of the real rows is made once and corrected (Woodbury):

    P = P0 - P0 F^T (identity + F P0 F^T)^-1 F P0,      P0 = (X^T X + l2 * identity)^-1
"""

import functools

import jax
import jax.numpy as jnp

from jaxrec import injection, packed
from jaxrec.injection import Surrogate
from jaxrec.models import ease
from jaxrec.types import Array, Interactions


@functools.cache
def surrogate(*, l2: float = 500.0) -> Surrogate:
    """Builds the surrogate whose solution is that of `ease.model`, differentiated through the corrected inverse.

    A solution and its gradient take time in (U + I) I M, where a solution anew takes I^3; P0 [I, I] and X P0 [U, I] are
    kept. Everything is in the type of the platform: float32, or float64 where it is enabled.

    Args:
        l2: As in `ease.model`.

    Raises:
        ValueError: If `l2` is not above 0 and finite.
    """
    ease.model(num_users=1, num_items=1, l2=l2)  # checks it

    def prepare(real: Interactions, num_fakes: int):
        del num_fakes
        inverse = jnp.asarray(ease.inverse(real, l2, jnp.zeros(()).dtype.type))
        rows = packed.rows(real, injection.CHUNK)
        known = _times(rows.bits, inverse)
        flat = lambda part: part.reshape(rows.users.size, -1)
        return {"inverse": inverse, "bits": flat(rows.bits), "known": flat(known)}

    def solve(data, start, fakes):
        del start
        right = fakes @ data["inverse"]  # F P0 [M, I]
        core = jnp.linalg.solve(jnp.eye(len(fakes)) + right @ fakes.T, right)
        return {"right": right, "core": core, "diagonal": jnp.diagonal(data["inverse"]) - (right * core).sum(axis=0)}

    def scores(data, solution, users: Array) -> Array:
        own = packed.unpack(data["bits"][users], len(data["inverse"])).astype(data["inverse"].dtype)
        product = data["known"][users] - (own @ solution["right"].T) @ solution["core"]  # X P
        return own - product / solution["diagonal"][None]

    return Surrogate(prepare, lambda data, key, num_fakes: (), solve, scores, again=lambda start, solution: start)


@jax.jit
def _times(bits: Array, inverse: Array) -> Array:
    """X P0 in chunks of users, [chunks, B, I]."""
    return jax.lax.map(lambda chunk: packed.unpack(chunk, len(inverse)).astype(inverse.dtype) @ inverse, bits)
