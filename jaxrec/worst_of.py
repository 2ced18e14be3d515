"""The strongest of several attacks, in two forms that must not be confused.

`shared` keeps one perturbation, the one that raises the adversary's loss most: an attack like any other. `per_user`
keeps for each user the perturbation that ranks *that user's held-out item* worst: a private adversary for each user,
who knows the test item. That is a bound for reports, and no attack on one model. Both get stronger by luck alone the
more perturbations go in, so noise must be given as many candidates: `control` for the first, as many draws for the
second.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, evaluate, norms, perturbations
from jaxrec.attacks import random_noise
from jaxrec.norms import Norm
from jaxrec.types import Attack, Scalar


def shared(attacks: Sequence[Attack]) -> Attack:
    """Builds an attack that runs all of `attacks` and returns the perturbation that raises the loss most.

    Args:
        attacks: Built attacks, normally at the same epsilon; each gets a key of its own. They are compared under one
            further key, so that an oracle's randomness favours none.

    Returns:
        `(key, oracle, x) -> (delta, info)`. delta = 0 is a candidate, so no unit ends below its clean loss; with one
        loss for all rows (shared tables) one attack's delta is returned whole, with several each unit has its own
        strongest. The cost is that of all attacks and of comparing them.

    Raises:
        ValueError: If there is no attack.
    """
    if not attacks:
        raise ValueError("Expected at least one attack, got none.")

    def strongest(key, oracle, x):
        loss_key, *keys = jax.random.split(key, 1 + len(attacks))
        found = [attack(key, oracle, x) for attack, key in zip(attacks, keys, strict=True)]
        nothing = jax.tree.map(jnp.zeros_like, x)
        losses, delta = perturbations.candidate(loss_key, oracle, x, nothing)
        best = losses, (delta, jax.tree.map(jnp.zeros_like, found[0][1]["norms"]))
        for delta, info in found:
            losses, delta = perturbations.candidate(loss_key, oracle, x, delta)
            best = perturbations.better(best, (losses, (delta, info["norms"])))
        losses, (delta, sizes) = best
        return delta, {
            "losses": losses,
            "norms": sizes,
            "gradient_evaluations": sum(info["gradient_evaluations"] for _, info in found),
            "queries": sum(info["queries"] for _, info in found) + 1 + len(found),
        }

    return strongest


def control(num: int, *, epsilon: Scalar, norm: Norm = norms.L2) -> Attack:
    """Builds the control of an attack that chose among `num` candidates: the best of `num` draws of random noise.

    Args:
        num: Draws; delta = 0 is a candidate besides, as in `shared`.
        epsilon, norm: As in `random_noise.attack`.

    Raises:
        ValueError: If `num < 1`, or `epsilon` is negative or not finite.
    """
    checks.counts(num=num)
    noise = random_noise.attack(epsilon=epsilon, norm=norm)

    def best_noise(key, oracle, x):
        loss_key, *keys = jax.random.split(key, 1 + num)
        ask = lambda delta: perturbations.candidate(loss_key, oracle, x, delta)

        def draw(best, key):
            return perturbations.better(best, ask(noise(key, oracle, x)[0])), None

        nothing = ask(jax.tree.map(jnp.zeros_like, x))
        (_, delta), _ = jax.lax.scan(draw, nothing, jnp.stack(keys))
        return perturbations.outcome(loss_key, oracle, norm, x, delta, gradient_evaluations=0, queries=num + 2)

    return best_noise


def per_user(ranks: Sequence[evaluate.Ranks]) -> evaluate.Ranks:
    """Each user's worst rank under several perturbations of one model.

    Args:
        ranks: Of the same held-out items among as many candidates. Put the clean ranks among them where the adversary
            may also leave a user alone.

    Raises:
        ValueError: If there are none, or they differ in users or in numbers of candidates.
    """
    if not ranks:
        raise ValueError("Expected the ranks of at least one perturbation, got none.")
    first = ranks[0]
    for other in ranks[1:]:
        for name in ("users", "num_candidates"):
            if not np.array_equal(getattr(other, name), getattr(first, name)):
                raise ValueError(f"Expected ranks of one protocol, got different {name}.")
    return first._replace(ranks=np.max([each.ranks for each in ranks], axis=0))
