"""Fast adversarial training: one step from a random start, and no clean term.

Wong, Rice and Kolter, "Fast is better than free: Revisiting adversarial training", ICLR 2020, arXiv:2001.03994.
"""

import jax

from jaxrec import checks, min_max, norms, oracles
from jaxrec.attacks import pgd
from jaxrec.norms import Norm
from jaxrec.types import Objective, Scalar, Surface


def objective(
    *, clean: Objective, surface: Surface, epsilon: Scalar, norm: Norm = norms.L2, step_size: Scalar | None = None
) -> Objective:
    """Builds the objective of the loss at the end of one step from a random start:

        min over params:  L(params + delta),   delta = project(start + step_size * steepest(grad at start))

    Two gradients a step, as many as APR with FGSM, which takes the clean one for both its uses: here none is clean.

    Args:
        clean: The objective that the adversary raises and the model lowers.
        surface: What the adversary perturbs.
        epsilon: Radius of the ball around each row. May be traced.
        norm: Of the ball and of the step. Starts are those of `norms.cornered`, of one random bit an entry. Uniform
            ones, as in the paper, cost more than a plain step of MF does; they are had by `apr.objective` on
            `pgd.attack(random_start=True, num_steps=1)`, with a clean term.
        step_size: 1.25 * epsilon by default, as in the paper.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`. `loss` and `margin` are clean and cost an evaluation
        without gradient; `adv_loss`, which is minimised, and `adv_margin` are at delta. With epsilon 0 it is `clean`.
        Starts are drawn as noise in `noise`.

    Raises:
        ValueError: If `epsilon` or `step_size` is negative or not finite.
    """
    checks.non_negative(epsilon=epsilon)
    step_size = 1.25 * epsilon if step_size is None else step_size
    attack = pgd.attack(epsilon=epsilon, norm=norms.cornered(norm), num_steps=1, step_size=step_size, random_start=True)

    def fast(params, batch, key, reduce):
        attack_key, clean_key, adv_key = jax.random.split(key, 3)
        fixed = jax.lax.stop_gradient(params)
        ascended = lambda key, x: clean(surface.put(fixed, x), batch, key, reduce)[0][None]
        delta, _ = attack(attack_key, oracles.white_box(ascended, reduce=reduce), surface.get(fixed))
        adv_loss, adv_metrics = clean(min_max.moved(params, surface, delta), batch, adv_key, reduce)
        _, metrics = clean(fixed, batch, clean_key, reduce)
        return adv_loss, {**metrics, **min_max.adversarial(adv_loss, adv_metrics)}

    return fast
