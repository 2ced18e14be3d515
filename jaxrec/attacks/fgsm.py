"""FGSM: one steepest-ascent step onto the ball around the clean value.

Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015, arXiv:1412.6572; with L2
rows it is the fast gradient method that APR uses (He et al., SIGIR 2018, arXiv:1808.03908, eq. 6).
"""

import jax

from jaxrec import checks, norms, perturbations
from jaxrec.norms import Norm
from jaxrec.types import Attack, Scalar


def attack(*, epsilon: Scalar, norm: Norm = norms.L2) -> Attack:
    """Builds the attack delta = epsilon * steepest(grad).

    Args:
        epsilon: Radius of the ball around each row. May be traced.
        norm: The ball's norm. `norms.LINF` gives the sign method, `norms.L2` the fast gradient method.

    Returns:
        `(key, oracle, x) -> (delta, info)`. Each row of `delta` has norm epsilon, less where the oracle's mask or box
        cuts it; a row whose gradient is zero stays. It takes the gradient once, at x.

    Raises:
        ValueError: If `epsilon` is negative or not finite.
    """
    checks.non_negative(epsilon=epsilon)

    def fgsm(key, oracle, x):
        perturbations.check_gradient(oracle)
        grad_key, loss_key = jax.random.split(key)
        grad = perturbations.masked(oracle, oracle.grad(grad_key, x))
        delta = perturbations.legal(oracle, x, jax.tree.map(lambda g: epsilon * norm.steepest(g), grad))
        return perturbations.outcome(loss_key, oracle, norm, x, delta, gradient_evaluations=1, queries=1)

    return fgsm
