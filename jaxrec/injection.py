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

from jaxrec import packed
from jaxrec.types import Array, Interactions, Key, PyTree, check_ids

CHUNK = 512  # users who are scored at a time


class Surrogate(NamedTuple):
    """The training of a model on real interactions, which it holds, and on fake rows, which it is given.

    Attributes:
        init: key -> start, what the training starts from.
        solve: (start, fakes [M, I]) -> solution. Its derivative by the fakes is the surrogate's own: exact or not.
        scores: (solution, real users [B]) -> [B, I].
        again: (start, solution) -> the start of the next training, on fakes that have moved a little.
    """

    init: Callable[[Key], PyTree]
    solve: Callable[[PyTree, Array], PyTree]
    scores: Callable[[PyTree, Array], Array]
    again: Callable[[PyTree, PyTree], PyTree]


Problem = Callable[[Interactions, int], Surrogate]  # (real interactions, number of fake users) -> their surrogate
Scores = Callable[[Array], Array]  # users [B] -> [B, I]
Inner = Callable[[PyTree, Array], tuple[tuple[Array, PyTree], Array]]


def inner(surrogate: Surrogate, outer: Callable[[Scores], Array]) -> Inner:
    """Builds `(start, fakes [M, I]) -> ((outer loss, solution), gradient [M, I])`, whatever the surrogate."""

    def loss(fakes, start):
        solution = surrogate.solve(start, fakes)
        return outer(lambda users: surrogate.scores(solution, users)), solution

    return lambda start, fakes: jax.value_and_grad(loss, has_aux=True)(fakes, start)


def promotion(known: Interactions, targets: np.ndarray, *, temperature: float = 0.1) -> Callable[[Scores], Array]:
    """Builds the smooth loss that is low where the targets are ranked high for those who do not know them.

        mean over users u and targets t unknown to u of  log sum_i exp(s_ui / temperature) - s_ut / temperature

    The sum is over the items i that u does not know: those t is ranked against. (Tang et al. have it over all items, at
    temperature 1, which closed-form models, whose scores lie near [0, 1], hardly feel.) To demote, ascend it.

    Args:
        known: The real interactions.
        targets: Items, [T].
        temperature: In the unit of a score.

    Returns:
        `scores -> loss []`, in nats; `scores` is asked for 512 users at a time, and asked again for the gradient.

    Raises:
        ValueError: If there is no target, one is no item, everyone knows one, or `temperature` is not above 0 and
            finite.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"Expected temperature > 0 and finite, got temperature={temperature}.")
    if len(targets) == 0:
        raise ValueError("Expected at least one target, got targets of length 0.")
    check_ids(targets, known.num_items, "targets")
    rows, places = packed.rows(known, CHUNK), jnp.asarray(targets)
    knowing = np.zeros((known.num_users, known.num_items), bool)[:, targets]
    for place, target in enumerate(targets):
        knowing[known.users[known.items == target], place] = True
        if knowing[:, place].all():
            raise ValueError(f"Expected targets that someone does not know, got {int(target)}, known to everyone.")
    num_pairs = int((~knowing).sum())

    def loss(scores: Scores) -> Array:
        @jax.checkpoint
        def of_chunk(chunk):
            users, bits = chunk
            seen = packed.unpack(bits, known.num_items)
            scaled = scores(jnp.minimum(users, known.num_users - 1)) / temperature
            everything = jax.nn.logsumexp(scaled, axis=1, where=~seen)
            losses = everything[:, None] - scaled[:, places]
            counted = ~seen[:, places] & (users < known.num_users)[:, None]
            return jnp.where(counted, losses, 0).sum()

        return jax.lax.map(of_chunk, (rows.users, rows.bits)).sum() / num_pairs

    return loss
