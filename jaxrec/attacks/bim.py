"""BIM: small steepest-ascent steps from the clean value, each projected back on the ball.

Kurakin, Goodfellow and Bengio, "Adversarial Examples in the Physical World", ICLR 2017 workshop, arXiv:1607.02533.
"""

from jaxrec import checks, norms
from jaxrec.attacks import pgd
from jaxrec.norms import Norm
from jaxrec.types import Attack, Scalar


def attack(*, epsilon: Scalar, norm: Norm = norms.L2, num_steps: int = 10, step_size: Scalar | None = None) -> Attack:
    """Builds PGD without a random start, whose steps together are as long as the radius.

    Args:
        epsilon: Radius of the ball around each row. May be traced.
        norm: The norm of the ball, of the step and of the projection. The paper's is `norms.LINF`.
        num_steps: Gradient steps.
        step_size: Length of a step; epsilon / num_steps by default. The paper steps by one grey level of 255 and takes
            min(epsilon + 4, 1.25 epsilon) steps, which has no counterpart outside images.

    Returns:
        `(key, oracle, x) -> (delta, info)`. Each row of `delta` lies in the ball, entries outside the oracle's mask are
        zero and x + delta lies in its box; a row whose gradient is zero stays where it was.

    Raises:
        ValueError: If `epsilon` or `step_size` is negative or not finite, or `num_steps` is no whole number of at
            least 1.
    """
    checks.non_negative(epsilon=epsilon)
    checks.counts(num_steps=num_steps)
    step_size = epsilon / num_steps if step_size is None else step_size
    return pgd.attack(epsilon=epsilon, norm=norm, num_steps=num_steps, step_size=step_size)
