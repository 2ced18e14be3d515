"""What an adversary may ask: the threat model, as a value.

An attack gets an `Oracle` and the array it perturbs, never a model, a batch or a parameter, so an adversary with the
wrong access cannot be written by accident. `white_box` knows everything. The others take away from it:

    transfer     the gradient of another model, the losses of the victim
    spsa, nes    a gradient estimated from losses: any gradient attack becomes a black-box attack
    black_box    losses alone, for attacks that search
    lists_only   what the recommended lists show, and nothing else

Differentiating through what these four let the adversary ask raises a ValueError.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec import checks, perturbations
from jaxrec.types import Array, Key, Oracle, PyTree, Reduce, Scalar

Ask = Callable[[Key, PyTree], Array]


def white_box(
    losses: Ask,
    *,
    reduce: Reduce = lambda tree: tree,
    scores: Ask | None = None,
    labels: Array | None = None,
    where: PyTree | None = None,
    box: tuple[Scalar, Scalar] | None = None,
    known: tuple[PyTree, PyTree] | None = None,
) -> Oracle:
    """The oracle of an adversary who knows everything: the losses and their exact gradient.

    Args:
        losses: (key, x) -> [N], this device's part of the losses to raise.
        reduce: Sums over the devices that share x. It is applied to the gradient here, and only here, *before* an
            attack normalises or signs it; afterwards each device would mount an attack of its own.
        scores, labels, where, box: As in `Oracle`.
        known: (x, this device's part of the gradient there), where the caller has it anyway: an attack that asks at
            that very array, as FGSM does, is answered without computing it again.
    """
    grad = jax.grad(lambda x, key: jnp.sum(losses(key, x)))

    def gradient(key, x):
        return reduce(known[1] if known is not None and _same(x, known[0]) else grad(x, key))

    return Oracle(
        losses=lambda key, x: reduce(losses(key, x)),
        grad=gradient,
        scores=scores,
        labels=labels,
        where=where,
        box=box,
    )


def transfer(surrogate: Oracle, victim: Oracle) -> Oracle:
    """The gradient of a surrogate model, and everything else of the victim: its losses and scores (values only).

    Args:
        surrogate: The adversary's own model, over an x of the same structure as the victim's. What it costs to ask is
            not counted.
        victim: Who is attacked.

    Raises:
        ValueError: If the surrogate has no gradient.
    """
    perturbations.check_gradient(surrogate)
    return black_box(victim)._replace(grad=surrogate.grad)


def black_box(victim: Oracle) -> Oracle:
    """The victim without its gradient; its losses and scores are told, but cannot be differentiated."""
    return victim._replace(
        losses=_values_only(victim.losses),
        scores=None if victim.scores is None else _values_only(victim.scores),
        grad=None,
        grad_queries=0,
    )


def spsa(victim: Oracle, *, num_samples: int = 64, size: Scalar = 0.01) -> Oracle:
    """The victim's losses, and a gradient estimated from them by simultaneous perturbation.

        g = mean over samples of (losses(x + size * s) - losses(x - size * s)) / (2 * size * s), s in {-1, 1} at random

    Spall, "Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation", IEEE
    Transactions on Automatic Control 1992; as an attack in Uesato et al., ICML 2018, arXiv:1802.05666.

    Args:
        victim: Of which only the losses are asked (with `where`, `box` and `labels`; scores are hidden).
        num_samples: Pairs of questions for each gradient.
        size: Length of the step along each coordinate, in units of x. In float32 the difference of two losses is
            noise below about 1e-7 of their size.

    Returns:
        An oracle whose `grad` costs 2 * num_samples queries. Where there are several units each row's estimate is made
        from its own loss, all rows moving at once. Entries that may not be touched are not moved, and no question lies
        outside the box: a step is cut there and the difference divided by what is left. A row on which its loss does
        not depend has estimate 0; of tables with one loss the rows it ignores get noise.

    Raises:
        ValueError: If `num_samples < 1`, or `size` is not positive and finite.
    """
    checks.positive(size=size)
    draw = lambda key, x: size * jax.random.rademacher(key, x.shape, x.dtype)
    weigh = lambda step: jnp.where(step == 0, 0, 1 / jnp.where(step == 0, 1, step))
    return _estimated(victim, draw, weigh, num_samples)


def nes(victim: Oracle, *, num_samples: int = 25, sigma: Scalar = 0.001) -> Oracle:
    """The victim's losses, and a gradient estimated from them by natural evolution strategies.

        g = mean over samples of (losses(x + sigma * z) - losses(x - sigma * z)) * z / (2 * sigma), z standard normal

    It estimates the gradient of the losses smoothed by that normal distribution, which also exists where the losses are
    steps, as those of `lists_only`. Wierstra et al., "Natural Evolution Strategies", JMLR 2014; with antithetic
    samples, as here, Ilyas, Engstrom, Athalye and Lin, ICML 2018, arXiv:1804.08598, whose 50 queries are the default.

    Args:
        sigma: Standard deviation, in units of x.
        victim, num_samples: As in `spsa`.

    Returns:
        As `spsa` does. At the box a step is cut.

    Raises:
        ValueError: If `num_samples < 1`, or `sigma` is not positive and finite.
    """
    checks.positive(sigma=sigma)
    draw = lambda key, x: sigma * jax.random.normal(key, x.shape, x.dtype)
    return _estimated(victim, draw, lambda step: step / sigma**2, num_samples)


def lists_only(
    lists: Ask, items: Array, *, where: PyTree | None = None, box: tuple[Scalar, Scalar] | None = None
) -> Oracle:
    """The oracle of an adversary who sees top-K lists and no score: how many items have left them.

    Args:
        lists: (key, x) -> int [n, K], the items that are recommended to each of n users, -1 in an empty place.
        items: int [n, M], items of each user that the adversary wants gone, -1 in an empty place: those of the clean
            lists (all that such an adversary can know), or held-out ones (an adversary who knows the test).
        where, box: As in `Oracle`.

    Returns:
        An oracle with one loss, 1 - the mean over users of the share of their items that their list holds (users
        without items left out). It is piecewise constant: there is no gradient, and `nes` with a large sigma estimates
        one.
    """

    def losses(key, x):
        present = items >= 0
        listed = jnp.any(items[:, :, None] == lists(key, x)[:, None, :], axis=2) & present
        counts = jnp.sum(present, axis=1)
        shares = jnp.sum(listed, axis=1) / jnp.maximum(counts, 1)
        return 1 - jnp.sum(shares, keepdims=True) / jnp.maximum(jnp.sum(counts > 0), 1)

    return Oracle(losses=_values_only(losses), where=where, box=box)


def _estimated(
    victim: Oracle, draw: Callable[[Key, Array], Array], weigh: Callable[[Array], Array], num_samples: int
) -> Oracle:
    """The victim with a gradient of antithetic samples: mean of half the losses' difference times weigh(step)."""
    checks.counts(num_samples=num_samples)
    victim = black_box(victim)

    def grad(key, x):
        draw_key, loss_key = jax.random.split(key)

        def add(total, key):
            move = perturbations.masked(victim, perturbations.map_with_keys(draw, key, x))
            there = perturbations.legal(victim, x, move)
            back = perturbations.legal(victim, x, jax.tree.map(jnp.negative, move))
            # The same key twice, so that a random oracle's noise is in neither difference.
            losses, _ = perturbations.candidate(loss_key, victim, x, there)
            losses_back, _ = perturbations.candidate(loss_key, victim, x, back)
            half = (losses - losses_back) / 2

            def of_array(total, there, back):
                return total + perturbations.over_units(half, there) * weigh((there - back) / 2)

            return jax.tree.map(of_array, total, there, back), None

        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, x), jax.random.split(draw_key, num_samples))
        return jax.tree.map(lambda total: total / num_samples, total)

    return victim._replace(scores=None, grad=grad, grad_queries=2 * num_samples)


def _values_only(ask: Ask) -> Ask:
    """The same answers, but differentiating through them raises a ValueError."""

    def answer(key, x):
        value = jax.custom_jvp(lambda x: ask(key, x))

        @value.defjvp
        def refuse(primals, tangents):
            raise ValueError("Expected a black-box oracle to be asked for values only, got a request to differentiate.")

        return value(x)

    return answer


def _same(first: PyTree, second: PyTree) -> bool:
    """Whether two trees are the same arrays, not only equal ones; known while tracing."""
    return list(map(id, jax.tree.leaves(first))) == list(map(id, jax.tree.leaves(second)))
