"""PGD: projected steepest ascent, with random starts and restarts.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
arXiv:1706.06083. Steps and projection use the same norm, so the budget is the one that epsilon names (an L2 step with a
projection coordinate by coordinate, as published recommender code has it, allows sqrt(D) times as much).
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
    random_start: bool = False,
    num_restarts: int = 1,
) -> Attack:
    """Builds an attack that takes `num_steps` projected steepest-ascent steps.

        delta <- project(delta + step_size * steepest(grad))

    Args:
        epsilon: Radius of the ball around each row. May be traced.
        norm: The norm of the ball, of the step and of the projection.
        num_steps: Gradient steps of each restart.
        step_size: Length of a step; 2.5 * epsilon / num_steps by default (Madry et al., appendix), at most epsilon.
        random_start: Start at a uniform point of the ball instead of its centre.
        num_restarts: Runs from different starts; each unit keeps the point with the highest loss that any run ended
            at, or delta = 0 if that is higher still. Restarts need random starts. With one run there is no search, and
            the last point is returned as it is.

    Returns:
        `(key, oracle, x) -> (delta, info)`. Each row of `delta` lies in the ball, entries outside the oracle's mask are
        zero and x + delta lies in its box; a row whose gradient is zero stays where it was.

    Raises:
        ValueError: If `epsilon` or `step_size` is negative or not finite, `num_steps` or `num_restarts` is no whole
            number of at least 1, or restarts are asked for without random starts.
    """
    checks.non_negative(epsilon=epsilon)
    checks.counts(num_steps=num_steps, num_restarts=num_restarts)
    if num_restarts > 1 and not random_start:
        raise ValueError(f"Expected random_start=True with num_restarts={num_restarts}: without it all runs are one.")
    if step_size is None:
        step_size = epsilon * min(2.5 / num_steps, 1.0)
    checks.non_negative(step_size=step_size)

    def run(key, oracle, x):
        start_key, steps_key = jax.random.split(key)
        delta = jax.tree.map(jnp.zeros_like, x)
        if random_start:
            start = perturbations.map_with_keys(lambda key, x: epsilon * norm.sample(key, x), start_key, x)
            delta = perturbations.legal(oracle, x, perturbations.masked(oracle, start))

        def step(delta, key):
            grad = perturbations.masked(oracle, oracle.grad(key, jax.tree.map(jnp.add, x, delta)))
            moved = jax.tree.map(lambda d, g: d + step_size * norm.steepest(g), delta, grad)
            return perturbations.projected(oracle, norm, x, moved, epsilon), None

        return jax.lax.scan(step, delta, jax.random.split(steps_key, num_steps))[0]

    def pgd(key, oracle, x):
        perturbations.check_gradient(oracle)
        run_key, loss_key = jax.random.split(key)
        cost = {
            "gradient_evaluations": num_steps * num_restarts,
            "queries": 1 if num_restarts == 1 else num_restarts + 2,
        }
        if num_restarts == 1:
            return perturbations.outcome(loss_key, oracle, norm, x, run(run_key, oracle, x), **cost)

        def restart(best, key):
            return perturbations.better(best, perturbations.candidate(loss_key, oracle, x, run(key, oracle, x))), None

        nothing = perturbations.candidate(loss_key, oracle, x, jax.tree.map(jnp.zeros_like, x))
        (_, delta), _ = jax.lax.scan(restart, nothing, jax.random.split(run_key, num_restarts))
        return perturbations.outcome(loss_key, oracle, norm, x, delta, **cost)

    return pgd
