"""Weighted matrix factorisation as the surrogate of a poisoning attack, differentiated through its steps of training.

Tang, Wen and Wang, "Revisiting Adversarially Learned Injection Attacks Against Recommender Systems", RecSys 2020,
arXiv:2008.04876. The objective is that of iALS, whose minimum `inner.ials` differentiates exactly: the two surrogates
differ in how far they are trained and in the derivative.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from jaxrec import checks
from jaxrec.injection import Surrogate
from jaxrec.inner import weighted
from jaxrec.types import Interactions


@functools.cache
def surrogate(
    *,
    dimension: int = 64,
    l2: float = 0.007,
    unobserved_weight: float = 0.3,
    l2_exponent: float = 1.0,
    optimizer: optax.GradientTransformation | None = None,
    train_steps: int = 60,
    unrolled_steps: int | None = None,
    first_order: bool = False,
    init_scale: float = 0.1,
) -> Surrogate:
    """Builds the surrogate that takes full-batch steps on real and fake rows, each training from the start anew.

    The derivative is that of the last `unrolled_steps` steps, at the tables that the steps before have reached. All of
    them are full unrolling; fewer, truncated. With `first_order` the gradient of the objective is taken not to depend
    on the tables, but on the fakes alone: no Hessian by tables. (With no unrolled step, which the paper's code calls
    first order, fakes have no influence on the scores of a factorisation.)

    Each step is a `jax.checkpoint`: what is kept is the tables and the optimiser's state of each unrolled step, and the
    inside of one.

    Args:
        dimension, l2, unobserved_weight, l2_exponent, init_scale: As in `ials.model`.
        optimizer: Adam at .05 by default, with a root of 1e-6 in its denominator, without which its derivative is not
            finite where a gradient is zero.
        train_steps: Of the training.
        unrolled_steps: The last of them, that are differentiated; None for all.
        first_order: See above.

    Raises:
        ValueError: As in `ials.model`; if `train_steps < 1` or `unrolled_steps` is not in [1, train_steps].
    """
    weights = l2, unobserved_weight, l2_exponent
    weighted.check(dimension=dimension, weights=weights, init_scale=init_scale)
    checks.counts(train_steps=train_steps)
    unrolled = train_steps if unrolled_steps is None else unrolled_steps
    if not 1 <= unrolled <= train_steps:
        raise ValueError(f"Expected unrolled_steps in [1, {train_steps}], got unrolled_steps={unrolled}.")
    update = optax.adam(0.05, eps_root=1e-6) if optimizer is None else optimizer

    def prepare(real: Interactions, num_fakes: int):
        del num_fakes
        return {"real": weighted.prepare(real), "weights": jnp.array(weights)}

    def init(data, key, num_fakes):
        return weighted.init(data["real"], key, num_fakes, dimension=dimension, init_scale=init_scale)

    def solve(data, start, fakes):
        def step(state, _):
            tables, opt_state = state
            at = jax.lax.stop_gradient(tables) if first_order else tables
            gradient = jax.grad(weighted.objective)(at, fakes, data["real"], data["weights"])
            updates, opt_state = update.update(gradient, opt_state, tables)
            return (optax.apply_updates(tables, updates), opt_state), None

        state = start, update.init(start)
        if unrolled < train_steps:  # a loop of no steps would be traced and compiled all the same
            state = jax.lax.scan(step, state, length=train_steps - unrolled)[0]
        return jax.lax.scan(jax.checkpoint(step), jax.lax.stop_gradient(state), length=unrolled)[0][0]

    scores = lambda data, solution, users: weighted.scores(solution, users)
    return Surrogate(prepare, init, solve, scores, again=lambda start, solution: start)
