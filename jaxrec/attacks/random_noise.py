"""Random noise: the control that every attack is held against, as long as the attack and pointing nowhere."""

import jax

from jaxrec import checks, norms, perturbations
from jaxrec.norms import Norm
from jaxrec.types import Attack, Scalar


def attack(*, epsilon: Scalar, norm: Norm = norms.L2) -> Attack:
    """Builds the control: each row of delta points in a uniformly random direction and has norm epsilon.

    Args:
        epsilon: The norm of each row. May be traced.
        norm: In which it is measured. The direction is that of a uniform point of the ball.

    Returns:
        `(key, oracle, x) -> (delta, info)`. The oracle's mask is kept, at full norm; its box is kept too, and can make
        rows shorter. It asks the oracle for nothing but what the final loss is.

    Raises:
        ValueError: If `epsilon` is negative or not finite.
    """
    checks.non_negative(epsilon=epsilon)

    def random_noise(key, oracle, x):
        noise_key, loss_key = jax.random.split(key)
        noise = perturbations.masked(oracle, perturbations.map_with_keys(norm.sample, noise_key, x))
        delta = perturbations.legal(oracle, x, jax.tree.map(lambda row: epsilon * norm.direction(row), noise))
        return perturbations.outcome(loss_key, oracle, norm, x, delta, gradient_evaluations=0, queries=1)

    return random_noise
