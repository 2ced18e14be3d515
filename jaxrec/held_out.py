"""The strongest adversary of item rows, in closed form: a user's own, who knows the item held out for that user.

It moves the held-out item's row away from the user's row p and every other item towards it, each by epsilon (L2):

    score of the held-out item  - epsilon |p|,      score of every other item  + epsilon |p|

No perturbation of item rows does more to any pair, and this one does it to all pairs at once, so its ranks are the
certified ranks of `certificates.dot_product` with `Radii(item=1)`, but for candidates within float32's rounding of a
tie. It is a yardstick, not a threat: nobody who attacks knows the held-out items, or can perturb the tables for one
user only. On a curve it parts the gap between bound and attack into what the threat model takes and what the search
for a perturbation fails to find.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrec import evaluate, norms
from jaxrec.certificates import dot_product
from jaxrec.types import Array, Scalar


def perturbation(user: Float[Array, " D"], target: Array | int, num_items: int, epsilon: Scalar) -> Float[Array, "I D"]:
    """What is added to the item table against one user, whose row is `user` and whose held-out item is `target`.

    Nothing, for a user whose row is zero.
    """
    sign = jnp.where(jnp.arange(num_items) == target, -1.0, 1.0)
    return epsilon * sign[:, None] * norms.L2.direction(user[None])


@jax.jit
def ranks(factors: dot_product.Factors, plan: evaluate.RankPlan, epsilons: Float[Array, " E"]) -> Float[Array, "E n"]:
    """Ranks of the held-out items when each user meets its own perturbation, in the order of `plan.users`.

    Args:
        factors: The tables. For a relative epsilon bring them to the canonical gauge, and multiply epsilon by the mean
            norm of the item rows (`dot_product.relative`).
        plan: From `evaluate.prepare`, ties against the model.
        epsilons: Radii of the ball round each item row; negative ones help the model.

    Raises:
        ValueError: If the tables do not fit each other or the plan, or the plan averages ties.
    """
    dot_product.check(factors, plan)

    def of_chunk(chunk):
        users, targets, rows, items = chunk
        scores = jax.lax.optimization_barrier(dot_product.scores(factors, users))
        clean = jnp.take_along_axis(scores, targets[:, None], axis=1)
        user_norm = norms.L2.size(factors.user[users])[:, None]

        def at(epsilon):
            passes = scores + epsilon * user_norm >= clean - epsilon * user_norm
            return evaluate.count_candidates(plan, rows, items, passes)

        return jax.lax.map(at, epsilons)

    chunks = plan.chunks
    above = jax.lax.map(of_chunk, (chunks.users, plan.targets, chunks.rows, chunks.items))
    return 1 + jnp.moveaxis(above, 1, 0).reshape(len(epsilons), -1)[:, chunks.places].astype(jnp.float32)
