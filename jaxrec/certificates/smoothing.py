"""Randomised smoothing: a certificate for models of any form, which holds with a stated confidence.

Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019, arXiv:1902.02918,
for the question whether the held-out item is among a user's first K. The *smoothed recommender* lists the item when it
is among the first K for more than half of the draws of Gaussian noise N(0, sigma^2) on every entry of a surface. If
that probability is at least p > 1/2, then it stays above 1/2 under every perturbation of the surface with

    |delta|_2 < sigma * Phi^-1(p)                                            (theorem 1, with p_B = 1 - p)

where |delta|_2 is the norm of the *whole* surface: all rows that are perturbed, together. p is the one-sided
Clopper-Pearson bound from draws, at level alpha / (number of users) for each user, so that all radii hold at once with
confidence 1 - alpha: a union bound, which needs no independence, so all users share the draws. The paper first guesses
the class from other draws; here it is given, and its selection step is not needed.

What is certified is the smoothed recommender. Of the model itself without noise it says nothing.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Float, Int, Int32

from jaxrec import checks, evaluate, metrics, perturbations
from jaxrec.types import Array, Key, Model, Params, Scalar, Surface

OWN_KEY = 0x5E00  # folded into the key of the noise, or that of seed s draws what a training of seed s begins with


class Certificate(NamedTuple):
    """Radii within which the smoothed recommender keeps the held-out items, on the host.

    Attributes:
        users: Those who have a held-out item, ascending.
        radii: L2, of the whole surface, in its units; 0 where it abstains. The item is kept under every perturbation
            that is *smaller*, so certified hit rate at epsilon is the share of radii > epsilon.
        probabilities: Lower bounds of the probability that the item is among the first k under noise.
        num_hits: In how many draws it was.
        num_samples: Number of draws.
        confidence: Probability, over the draws, that all radii are right.
        sigma: Standard deviation of the noise.
        k: Length of the list.
    """

    users: Int[np.ndarray, " n"]
    radii: Float[np.ndarray, " n"]
    probabilities: Float[np.ndarray, " n"]
    num_hits: Int[np.ndarray, " n"]
    num_samples: int
    confidence: float
    sigma: float
    k: int


def certify(
    model: Model,
    params: Params,
    plan: evaluate.RankPlan,
    *,
    surface: Surface,
    sigma: float,
    key: Key,
    k: int = 10,
    num_samples: int = 1000,
    alpha: float = 0.001,
) -> Certificate:
    """Certifies that held-out items stay in the smoothed recommender's first k.

    Args:
        surface: What carries the noise, and what the adversary may change. In the units of `surfaces.scaled`, sigma
            and the radii are in those units.
        sigma: Standard deviation of the noise; larger ones certify larger radii of a less accurate recommender.
        key: Of the noise.
        k: Length of the list.
        num_samples: Draws. With all of them hits a radius is sigma * Phi^-1((alpha / users)^(1 / num_samples)): 2.2
            sigma for 1,000 draws and 6,040 users.
        alpha: Probability, over the draws, that any radius is wrong; the paper's is .001.

    Raises:
        InputError: If `k < 1` or `k > num_items`.
        ValueError: If `sigma` is not positive and finite, `num_samples < 1`, or `alpha` is not between 0 and 1.
    """
    metrics.check_cutoff(k, plan.num_items)
    checks.positive(sigma=sigma)
    checks.counts(num_samples=num_samples)
    if not 0 < alpha < 1:
        raise ValueError(f"Expected alpha between 0 and 1, got alpha={alpha}.")
    num_hits = np.asarray(_count_hits(model, surface, params, plan, key, sigma, k, num_samples))
    probabilities = lower_bounds(num_hits, num_samples, alpha / len(num_hits))
    return Certificate(
        users=np.asarray(plan.users),
        radii=np.where(probabilities > 0.5, sigma * scipy.stats.norm.ppf(probabilities), 0),
        probabilities=probabilities,
        num_hits=num_hits,
        num_samples=num_samples,
        confidence=1 - alpha,
        sigma=sigma,
        k=k,
    )


def noisy(params: Params, surface: Surface, sigma: Scalar, key: Key, index: Scalar) -> Params:
    """The parameters under draw number `index` of the noise: N(0, sigma^2) added to every entry of the surface."""
    add = lambda key, x: x + sigma * jax.random.normal(key, x.shape, x.dtype)
    key = jax.random.fold_in(jax.random.fold_in(key, OWN_KEY), index)
    return surface.put(params, perturbations.map_with_keys(add, key, surface.get(params)))


def lower_bounds(num_hits: Int[np.ndarray, " n"], num_samples: int, alpha: float) -> Float[np.ndarray, " n"]:
    """One-sided Clopper-Pearson bounds: each lies above its true probability with probability at most alpha."""
    bounds = scipy.stats.beta.ppf(alpha, np.maximum(num_hits, 1), num_samples - num_hits + 1)
    return np.where(num_hits > 0, bounds, 0)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _count_hits(
    model: Model,
    surface: Surface,
    params: Params,
    plan: evaluate.RankPlan,
    key: Key,
    sigma: Scalar,
    k: Scalar,
    num_samples: Scalar,
) -> Int32[Array, " n"]:
    """In how many draws of the noise each held-out item is among the first k; one draw is held at a time."""

    def draw(index, num_hits):
        return num_hits + (evaluate.ranks(model, noisy(params, surface, sigma, key, index), plan) <= k)

    return jax.lax.fori_loop(0, num_samples, draw, jnp.zeros(len(plan.users), jnp.int32))
