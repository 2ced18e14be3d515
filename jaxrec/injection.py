"""What learned poisoning minimises: a surrogate is trained with fake rows, and should then promote the targets.

The bilevel problem of Tang, Wen and Wang, "Revisiting Adversarially Learned Injection Attacks Against Recommender
Systems", RecSys 2020, arXiv:2008.04876: the outer loss of the surrogate's scores, the inner one of its training. A fake
row holds a value in [0, 1] for each item, 1 where the fake user has it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import fake_profiles, packed
from jaxrec.types import Array, Interactions, Key, PyTree, Scalar

CHUNK = 512  # users who are scored at a time
Scores = Callable[[Array], Array]  # users [B] -> [B, I]; asked for a chunk of users at a time, and again for a gradient
Outer = Callable[[Scores], Array]  # scores -> loss []; a pytree, so that jit takes it: jax.tree_util.Partial


class Surrogate(NamedTuple):
    """The training of a model on real interactions and fake rows, as pure functions. Those of equal settings are equal,
    so that jitted functions that take one as a static argument compile once.

    Attributes:
        prepare: (real interactions, number of fakes M) -> data, on the device.
        init: (data, key, number of fakes M) -> start, what the training starts from.
        solve: (data, start, fakes [M, I]) -> solution. Its derivative by the fakes may be approximate.
        scores: (data, solution, real users [B]) -> [B, I].
        again: (start, solution) -> the start of the next training, on fakes that have moved a little.
    """

    prepare: Callable[[Interactions, int], PyTree]
    init: Callable[[PyTree, Key, int], PyTree]
    solve: Callable[[PyTree, PyTree, Array], PyTree]
    scores: Callable[[PyTree, PyTree, Array], Array]
    again: Callable[[PyTree, PyTree], PyTree]


class Audience(NamedTuple):
    """Whom targets are promoted to: the real users, each among the items that they do not know.

    Attributes:
        rows: Who knows what.
        targets: int32 [T].
    """

    rows: packed.Rows
    targets: Array


def audience(known: Interactions, targets: np.ndarray) -> Audience:
    """Lays out who may be reached, on the device.

    Raises:
        ValueError: If there is no target, or one is no item.
        InputError: If everyone knows one.
    """
    fake_profiles.check_reachable(known, targets)
    return Audience(packed.rows(known, CHUNK), jnp.asarray(targets, jnp.int32))


def promotion(audience: Audience, scores: Scores, temperature: Scalar) -> Array:
    """The smooth loss that is low where the targets are ranked high for those who do not know them, in nats.

        mean over users u and targets t unknown to u of  log sum_i exp(s_ui / temperature) - s_ut / temperature

    The sum is over the items i that u does not know: those t is ranked against. (Tang et al. have it over all items, at
    temperature 1, which closed-form models, whose scores lie near [0, 1], hardly feel.) To demote, ascend it.

    Args:
        temperature: In the unit of a score.
    """

    @jax.checkpoint
    def of_chunk(rows):
        scaled = scores(rows.users) / temperature
        seen = packed.unpack(rows.bits, scaled.shape[1])
        everything = jax.nn.logsumexp(scaled, axis=1, where=~seen)
        counted = ~seen[:, audience.targets] & rows.present[:, None]
        losses = jnp.where(counted, everything[:, None] - scaled[:, audience.targets], 0)
        return losses.sum(), counted.sum()

    losses, counts = jax.lax.map(of_chunk, audience.rows)
    return losses.sum() / counts.sum()


def promoting(audience: Audience, temperature: Scalar) -> Outer:
    """`promotion` as an outer loss."""
    return jax.tree_util.Partial(promotion, audience, temperature=temperature)


def empirical_risk(rows: packed.Rows, scores: Scores) -> Array:
    """The mean over users of the squared error of their scores, summed over items: 1 for what they have, else 0.

    With scores of EASE, which never scores an item by itself, it says how well users' items follow from their others.
    """

    @jax.checkpoint
    def of_chunk(rows):
        found = scores(rows.users)
        has = packed.unpack(rows.bits, found.shape[1])
        return jnp.where(rows.present[:, None], (found - has) ** 2, 0).sum()

    return jax.lax.map(of_chunk, rows).sum() / rows.present.sum()


def inner(surrogate: Surrogate, data: PyTree, outer: Outer, start: PyTree, fakes: Array):
    """((outer loss [], solution), gradient [M, I]) at fakes [M, I], whatever the surrogate."""

    def loss(fakes):
        solution = surrogate.solve(data, start, fakes)
        return outer(lambda users: surrogate.scores(data, solution, users)), solution

    return jax.value_and_grad(loss, has_aux=True)(fakes)
