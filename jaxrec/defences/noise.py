"""Training on random noise: the control of adversarial training, as large a perturbation that points nowhere.

What a defence gains over this it owes to its adversary, and not to a perturbation of that size.
"""

from jaxrec import norms
from jaxrec.attacks import random_noise
from jaxrec.defences import apr
from jaxrec.norms import Norm
from jaxrec.types import Objective, Scalar, Surface


def objective(
    *, clean: Objective, surface: Surface, epsilon: Scalar, norm: Norm = norms.L2, adv_weight: Scalar = 1.0
) -> Objective:
    """Builds the objective L(params) + adv_weight * L(params + noise): APR on `random_noise.attack`.

    Args:
        clean: The clean objective.
        surface: What is perturbed.
        epsilon: The norm of each row of the noise, as long as those of what it is held against. May be traced.
        norm: In which it is measured.
        adv_weight: Of the perturbed loss. 0 leaves the clean gradient.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`, metrics as in `apr`: `adv_loss` is the loss under noise,
        which may lie below the clean one. All devices draw the same noise, for every row of the tables in the step:
        on the touched rows, whose order depends on the number of devices, it is other noise of the same law.

    Raises:
        ValueError: If `epsilon` or `adv_weight` is negative or not finite.
    """
    attack = random_noise.attack(epsilon=epsilon, norm=norm)
    return apr.objective(clean=clean, attack=attack, surface=surface, adv_weight=adv_weight)
