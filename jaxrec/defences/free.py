"""Free adversarial training: one backward pass gives the gradient of the parameters and that of the perturbation.

Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor and Goldstein, "Adversarial Training for Free!", NeurIPS
2019, arXiv:1904.12843.
"""

import jax

from jaxrec import checks, min_max, norms, surfaces
from jaxrec.norms import Norm
from jaxrec.types import Objective, Scalar, Surface


def objective(
    *, clean: Objective, surface: Surface, epsilon: Scalar, norm: Norm = norms.L2, step_size: Scalar | None = None
) -> Objective:
    """Builds the objective of the loss at the perturbation that the state carries, which each step moves on:

        min over params:  L(params + delta),   delta <- project(delta + step_size * steepest(grad at delta))

    Each batch is replayed, and delta goes from replay to replay and to the next batch (algorithm 1):

        objective = free.objective(clean=clean, surface=surface, epsilon=0.5)
        make = lambda devices: train.replayed(train.make_step(objective, optimizer, devices=devices), 4)
        state = train.init_state(params, optimizer, key, carried=min_max.nothing(surface)(params))

    m replays take m steps, so a training has m times fewer epochs. `model_table.by_steps` takes both.

    delta is carried for the whole surface, a row of it for each row of its tables. The paper carries one for each place
    in the batch, whatever image comes there next; here a user finds the perturbation that its own row had when it last
    came. On the touched rows the step takes their rows of delta and writes them back, as it does with the optimiser's.

    Args:
        clean: The objective that the adversary raises and the model lowers.
        surface: What the adversary perturbs.
        epsilon: Radius of the ball around each row. May be traced; a row of delta is in the ball of the step that last
            moved it.
        norm: Of the ball and of the step.
        step_size: epsilon by default, as in the paper.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: the loss at delta, without a clean term, as in the paper.
        `loss` and `margin` are clean and cost an evaluation without gradient; `adv_loss` and `adv_margin` are at delta;
        `carried` is the next delta. A row starts at delta 0, so a first look at a row is clean training; rows with
        gradient zero keep their delta. The gradient is reduced over devices before the step.

    Raises:
        ValueError: If `epsilon` or `step_size` is negative or not finite; when it is used, if the state carries no
            perturbation of the surface's shapes.
    """
    checks.non_negative(epsilon=epsilon)
    step_size = epsilon if step_size is None else step_size
    checks.non_negative(step_size=step_size)

    def free(params, batch, key, reduce):
        adv_key, clean_key = jax.random.split(key)
        delta = min_max.carried(params, surface)
        there = min_max.start(clean, surfaces.displaced(surface, delta), params, batch, adv_key, reduce)
        move = lambda delta, grad: norm.project(delta + step_size * norm.steepest(grad), epsilon)
        _, metrics = clean(jax.lax.stop_gradient(params), batch, clean_key, reduce)
        adversarial = min_max.adversarial(there.loss, there.metrics)
        return there.loss, {**metrics, **adversarial, "carried": jax.tree.map(move, delta, reduce(there.grad))}

    return free
