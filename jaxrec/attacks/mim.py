"""MIM: BIM whose steps follow a momentum of normalised gradients.

Dong, Liao, Pang, Su, Zhu, Hu and Li, "Boosting Adversarial Attacks with Momentum", CVPR 2018, arXiv:1710.06081.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, norms, perturbations
from jaxrec.norms import Norm
from jaxrec.types import Attack, Scalar


def attack(
    *,
    epsilon: Scalar,
    norm: Norm = norms.L2,
    num_steps: int = 10,
    step_size: Scalar | None = None,
    momentum: Scalar = 1.0,
) -> Attack:
    """Builds an attack that takes `num_steps` projected steps along a momentum.

        velocity <- momentum * velocity + grad / |grad|_1                   (eq. 6)
        delta <- project(delta + step_size * steepest(velocity))            (eq. 7 for LINF, eq. 9 for L2)

    Args:
        epsilon: Radius of the ball around each row. May be traced.
        norm: The norm of the ball, of the step and of the projection. The gradient is divided by its L1 norm whatever
            this is, row by row, or as a whole where the ball is for whole arrays.
        num_steps: Gradient steps.
        step_size: Length of a step; epsilon / num_steps by default, with which the projection never acts.
        momentum: The paper's mu; 0 is BIM.

    Returns:
        `(key, oracle, x) -> (delta, info)`. Each row of `delta` lies in the ball, entries outside the oracle's mask are
        zero and x + delta lies in its box; a row whose gradient is zero adds nothing to its velocity.

    Raises:
        ValueError: If `epsilon`, `step_size` or `momentum` is negative or not finite, or `num_steps` is no whole number
            of at least 1.
    """
    checks.non_negative(epsilon=epsilon, momentum=momentum)
    checks.counts(num_steps=num_steps)
    step_size = epsilon / num_steps if step_size is None else step_size
    checks.non_negative(step_size=step_size)

    def normalised(grad):
        return norms.L1.direction(norm.vectors(grad)).reshape(grad.shape)

    def mim(key, oracle, x):
        perturbations.check_gradient(oracle)
        steps_key, loss_key = jax.random.split(key)

        def step(carry, key):
            delta, velocity = carry
            grad = perturbations.masked(oracle, oracle.grad(key, jax.tree.map(jnp.add, x, delta)))
            velocity = jax.tree.map(lambda v, g: momentum * v + normalised(g), velocity, grad)
            moved = jax.tree.map(lambda d, v: d + step_size * norm.steepest(v), delta, velocity)
            return (perturbations.projected(oracle, norm, x, moved, epsilon), velocity), None

        nothing = jax.tree.map(jnp.zeros_like, x)
        (delta, _), _ = jax.lax.scan(step, (nothing, nothing), jax.random.split(steps_key, num_steps))
        return perturbations.outcome(loss_key, oracle, norm, x, delta, gradient_evaluations=num_steps, queries=1)

    return mim
