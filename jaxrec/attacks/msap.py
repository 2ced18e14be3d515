"""MSAP as its code does it: L2 steps, cut coordinate by coordinate, so that a row may end sqrt(D) epsilon long.

Anelli, Bellogin, Deldjoo, Di Noia and Merra, "MSAP: Multi-Step Adversarial Perturbations on Recommender Systems
Embeddings", FLAIRS 2021, arXiv:2010.01329. With projection on the ball in which the step is measured it is `pgd`.
"""

from jaxrec import checks, norms
from jaxrec.attacks import pgd
from jaxrec.types import Attack, Scalar


def attack(
    *, epsilon: Scalar, num_steps: int = 25, step_size: Scalar | None = None, start_share: float = 0.1
) -> Attack:
    """Builds the attack whose budget is not the one it is compared at.

        delta <- clip(delta + step_size * grad / |grad|_2, -epsilon, epsilon)        entry by entry

    Args:
        epsilon: Largest absolute value of an entry. May be traced. The published comparison sets it beside an FGSM of
            that L2 norm.
        num_steps: Gradient steps.
        step_size: L2 length of a step; epsilon / 4 by default.
        start_share: The start is uniform in [-start_share * epsilon, start_share * epsilon], entry by entry: in the
            code +-0.05 at epsilon 0.5.

    Returns:
        `(key, oracle, x) -> (delta, info)`. No entry of `delta` is larger than epsilon, entries outside the oracle's
        mask are zero and x + delta lies in its box; a row whose gradient is zero stays where it started.
        `info["norms"]` are Linf norms.

    Raises:
        ValueError: If `epsilon` or `step_size` is negative or not finite, `num_steps` is no whole number of at least 1,
            or `start_share` is not in [0, 1].
    """
    checks.non_negative(epsilon=epsilon)
    if not 0 <= start_share <= 1:
        raise ValueError(f"Expected start_share in [0, 1], got start_share={start_share}.")
    mixed = norms.LINF._replace(
        steepest=norms.L2.steepest, sample=lambda key, x: start_share * norms.LINF.sample(key, x)
    )
    step_size = epsilon / 4 if step_size is None else step_size
    return pgd.attack(
        epsilon=epsilon, norm=mixed, num_steps=num_steps, step_size=step_size, random_start=start_share > 0
    )
