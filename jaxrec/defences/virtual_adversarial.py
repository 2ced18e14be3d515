"""Virtual adversarial training: no perturbation of a given size should change a user's list, whatever the labels.

Miyato, Maeda, Koyama and Ishii, "Virtual Adversarial Training: A Regularization Method for Supervised and
Semi-Supervised Learning", TPAMI 2019, arXiv:1704.03976.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, consistency, norms, perturbations
from jaxrec.types import Attack, Model, Objective, Scalar, Surface


def objective(
    *,
    clean: Objective,
    model: Model,
    attack: Attack,
    surface: Surface,
    list_scores: consistency.ListScores,
    adv_weight: Scalar = 1.0,
) -> Objective:
    """Builds the objective of the clean loss and the local distributional smoothness of the lists:

        min over params:  L(params) + adv_weight * KL(p(constant params) || p(params + delta))

    The clean distribution is a constant: only the perturbed branch has a gradient. The paper's unlabelled examples are
    here those of the batch, whose positives the term does not look at (with `consistency.all_items`).

    Args:
        clean: The clean objective.
        model: Whose scores make the lists.
        attack: `power_iteration(epsilon=...)`, the paper's.
        surface: What the adversary perturbs.
        list_scores: `consistency.all_items(num_items=I)`, which needs dense steps, `consistency.batch_items` or
            `consistency.own_items`.
        adv_weight: The paper's alpha (1 there). 0 leaves the clean loss and gradient.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: those of `clean` and the sum `divergence`, which is never
        below zero but for rounding, and zero with epsilon 0. Random directions are drawn as in `trades`.

    Raises:
        ValueError: If `adv_weight` is negative or not finite.
    """
    return consistency.objective(
        clean=clean,
        model=model,
        attack=attack,
        surface=surface,
        list_scores=list_scores,
        target=jax.lax.stop_gradient,
        adv_weight=adv_weight,
    )


def power_iteration(*, epsilon: Scalar, num_steps: int = 1, distance: Scalar = 0.1) -> Attack:
    """Builds the attack on a loss that is smallest at x: the direction in which it is most curved, by power iteration.

        d <- unit(grad at x + distance * epsilon * d),   delta = epsilon * d      (algorithm 1)

    The gradient near x is the Hessian times the way from x, so each step multiplies d by the Hessian. Each row has a
    direction of length 1 of its own, where in the paper each example has: rows that share a loss move together.

    Args:
        epsilon: L2 norm of each row of delta. May be traced.
        num_steps: Gradients, the paper's K (1 there).
        distance: From x to where they are taken, in units of epsilon. The paper takes a constant of 1e-6, at which the
            difference of two softmaxes is rounding in float32.

    Returns:
        `(key, oracle, x) -> (delta, info)`. It starts from a random direction; a row whose gradient is zero there has
        delta 0. The oracle's mask is kept; its box is too, and can make rows shorter.

    Raises:
        ValueError: If `epsilon` is negative or `distance` not positive, or one of them not finite, or `num_steps` no
            whole number of at least 1.
    """
    checks.non_negative(epsilon=epsilon)
    checks.positive(distance=distance)
    checks.counts(num_steps=num_steps)

    def attack(key, oracle, x):
        perturbations.check_gradient(oracle)
        start_key, steps_key, loss_key = jax.random.split(key, 3)
        unit = lambda tree: jax.tree.map(norms.L2.steepest, perturbations.masked(oracle, tree))
        normal = lambda key, x: jax.random.normal(key, x.shape, x.dtype)
        direction = unit(perturbations.map_with_keys(normal, start_key, x))

        def step(direction, key):
            way = perturbations.legal(oracle, x, jax.tree.map(lambda d: distance * epsilon * d, direction))
            return unit(oracle.grad(key, jax.tree.map(jnp.add, x, way))), None

        direction, _ = jax.lax.scan(step, direction, jax.random.split(steps_key, num_steps))
        delta = perturbations.legal(oracle, x, jax.tree.map(lambda d: epsilon * d, direction))
        return perturbations.outcome(loss_key, oracle, norms.L2, x, delta, gradient_evaluations=num_steps, queries=1)

    return attack
