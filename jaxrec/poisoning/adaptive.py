"""Fakes of an attacker who knows the detector: some fillers are exchanged for others that it suspects less.

Each step the gradient of the suspicion by the profile proposes exchanges, and what the detector says of them decides,
as HotFlip edits texts (Ebrahimi, Rao, Lowd and Dou, ACL 2018, arXiv:1712.06751). That detectors are to be judged by
fakes made to pass them is the point of Williams, Mobasher, Burke, Sandvig and Bhaumik, "Detection of Obfuscated Attacks
in Collaborative Recommender Systems", ECAI 2006 workshop on recommender systems, whose fakes are perturbed by rules.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.base

from jaxrec import profile_statistics, profiles
from jaxrec.detectors import classifier, neural
from jaxrec.fake_profiles import Direction
from jaxrec.poisoning import average
from jaxrec.types import Array, Interactions, Key, Poison

NUM_CANDIDATES = 8  # fillers that may go, and as many items that may come: all their pairs are verified
GUIDE = 0.1  # of a guide's logit, beside the probability of an estimator that has no gradient


def attack(
    *,
    num_fakes: int,
    num_fillers: int = 50,
    direction: Direction = "push",
    allowed: np.ndarray | None = None,
    start: Callable[..., Poison] = average.attack,
    num_exchanges: int = 10,
    make: Callable[[int], Sequence[Poison]] | None = None,
    estimator: Any = None,
    seed: int = 0,
) -> Poison:
    """Builds the attack that begins as another one, and then is made to pass a detector (`wrap`).

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.
        start: The attack that it begins as.
        num_exchanges, make, estimator, seed: As in `wrap`.

    Returns:
        `(key, interactions, targets) -> fakes`.

    Raises:
        ValueError: As `start`, and `wrap`.
    """
    budget = {"num_fakes": num_fakes, "num_fillers": num_fillers, "direction": direction, "allowed": allowed}
    knows = {"make": make, "estimator": estimator, "seed": seed}
    return wrap(start(**budget), num_exchanges=num_exchanges, allowed=allowed, **knows)


def wrap(
    poison: Poison,
    *,
    num_exchanges: int = 10,
    allowed: np.ndarray | None = None,
    make: Callable[[int], Sequence[Poison]] | None = None,
    estimator: Any = None,
    seed: int = 0,
) -> Poison:
    """Builds the poison that exchanges fillers of another one's profiles, to be suspected less.

    The attacker trains the detector for themselves, on what there is before the attack; the defender's own will be
    trained with these fakes among the users. Where its estimator has no gradient (trees) a perceptron that is trained
    on the same proposes, and its logit, times a tenth, joins the estimator's probability.

    Args:
        poison: Whose fakes it begins with. All that they have beside the targets may be exchanged.
        num_exchanges: Of each profile, at most. All fakes move at once, each as if the others stood still.
        allowed: bool [I], the items that may come; None for all. No target comes or goes.
        make, estimator, seed: Of the detector, as in `classifier.detector`; `neural.Perceptron` by default. An
            estimator has a gradient if it has `slopes` as the perceptron does.

    Returns:
        `(key, interactions, targets) -> fakes`, whose mean suspicion is, to the attacker, never above that of the
        poison's: of an estimator without a gradient the sum of both. Ratings and times stay where they are: what comes
        is rated as what went, and the detector is taken to read who has what alone, also where there are ratings.

    Raises:
        ValueError: If `num_exchanges < 0`.
    """
    if num_exchanges < 0:
        raise ValueError(f"Expected num_exchanges >= 0, got num_exchanges={num_exchanges}.")

    def adaptive(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        fakes = poison(key, interactions, targets)
        if not (num_exchanges and len(fakes)):
            return fakes
        bare = dataclasses.replace(interactions, ratings=None)
        table, is_fake = classifier.with_own_fakes(bare, make=make, seed=seed)
        ask, slopes = _trained(profile_statistics.statistics(table), is_fake, estimator)
        may_go = ~np.isin(np.arange(fakes.num_items), targets)
        may_come = may_go if allowed is None else may_go & allowed
        others, rows = (profiles.matrix(part).toarray() for part in (table, fakes))
        found = exchanged(jnp.asarray(others), rows, ask, slopes, may_go, may_come, num_exchanges=num_exchanges)
        return _with_rows(fakes, found)

    return adaptive


Reads = Callable[[np.ndarray], np.ndarray]  # statistics [N, 6]


def _trained(found: np.ndarray, is_fake: np.ndarray, estimator: Any) -> tuple[Reads, Reads]:
    """What tells suspicion [N] from statistics, and what tells its slopes [N, 6]."""
    learner: Any = neural.Perceptron() if estimator is None else sklearn.base.clone(estimator)
    learner.fit(found, is_fake)
    if hasattr(learner, "slopes"):
        return learner.decision_function, learner.slopes
    guide = neural.Perceptron().fit(found, is_fake)
    return lambda x: learner.predict_proba(x)[:, 1] + GUIDE * guide.decision_function(x), guide.slopes


def exchanged(
    others: Array,
    rows: np.ndarray,
    ask: Reads,
    slopes: Reads,
    may_go: np.ndarray,
    may_come: np.ndarray,
    *,
    num_exchanges: int,
) -> np.ndarray:
    """The rows [F, I] after at most so many exchanges each, of all steps those with the lowest mean suspicion.

    Args:
        others: [N, I], all other users of the table.
        rows: Zeros and ones.
        ask, slopes: Of statistics [N, 6]: suspicion [N], and how it rises with them [N, 6].
        may_go, may_come: bool [I].
    """
    best, lowest = rows, np.inf
    for _ in range(num_exchanges):
        found = np.asarray(statistics(others, rows))
        suspicion = ask(found)
        if suspicion.mean() < lowest:
            best, lowest = rows, suspicion.mean()
        goes, comes, after = map(np.asarray, _candidates(others, rows, slopes(found), may_go, may_come))
        asked = np.where(goes == comes, np.inf, ask(after.reshape(-1, after.shape[-1])).reshape(goes.shape))
        chosen = asked.argmin(axis=1)
        moves = np.flatnonzero(asked.min(axis=1) < suspicion)
        rows = rows.copy()
        rows[moves, goes[moves, chosen[moves]]] = 0
        rows[moves, comes[moves, chosen[moves]]] = 1
    return rows if ask(np.asarray(statistics(others, rows))).mean() < lowest else best


class _Place(NamedTuple):
    """What the statistics of one fake's row depend on beside the row.

    Attributes:
        weights: [3, I], what an item adds to rdma, wdma and the filler variance if the fake has it.
        cosines: [N + F], what a shared item adds to the cosine with each user; 0 with itself.
        length_variance: [].
    """

    weights: Array
    cosines: Array
    length_variance: Array


@jax.jit
def statistics(others: Array, rows: Array) -> Array:
    """`profile_statistics.statistics` of fakes [F, I], each with something, among the others [N, I]: float32 [F, 6]."""
    whole, places = _places(others, rows)
    return jax.vmap(lambda place, row: _of(place, place.weights @ row, whole @ row))(places, rows)


@jax.jit
def _candidates(
    others: Array, rows: Array, slopes: Array, may_go: Array, may_come: Array
) -> tuple[Array, Array, Array]:
    """What goes and what comes, [F, C], in those exchanges of each fake that lower its suspicion most to first order,
    and its statistics after each, [F, C, 6]; an item for itself where there is no exchange.

    Args:
        slopes: Of the suspicion by the statistics, [F, 6].
    """
    whole, places = _places(others, rows)
    num = min(NUM_CANDIDATES, rows.shape[1])

    def of_fake(fake):
        place, row, slopes = fake
        pull = jax.grad(lambda row: slopes @ _of(place, place.weights @ row, whole @ row))(row)
        worst, goes = jax.lax.top_k(jnp.where((row > 0) & may_go, pull, -jnp.inf), num)
        least, comes = jax.lax.top_k(jnp.where((row == 0) & may_come, -pull, -jnp.inf), num)
        goes, comes = jnp.repeat(goes, num), jnp.tile(comes, num)
        possible = jnp.isfinite(jnp.repeat(worst, num) + jnp.tile(least, num))
        comes = jnp.where(possible, comes, goes)
        sums = (place.weights @ row)[None] + (place.weights[:, comes] - place.weights[:, goes]).T
        shared = (whole @ row)[None] + (whole[:, comes] - whole[:, goes]).T
        return goes, comes, jax.vmap(functools.partial(_of, place))(sums, shared)

    return jax.lax.map(of_fake, (places, rows, slopes))


def _places(others: Array, rows: Array) -> tuple[Array, _Place]:
    """All rows [N + F, I], and the place of each fake among them."""
    whole = jnp.concatenate([others, rows])
    counts, lengths = whole.sum(axis=0), whole.sum(axis=1)
    having = counts[None] + 1 - rows  # users who have the item, if the fake is one of them
    rare = 1 - having / len(whole)
    own = lengths[len(others) :]
    weights = jnp.stack([rare / having, rare / having**2, rare**2], axis=1) / own[:, None, None]
    norms = jnp.sqrt(own[:, None] * lengths[None])
    itself = jnp.arange(len(whole))[None] == len(others) + jnp.arange(len(rows))[:, None]
    cosines = jnp.where(itself | (norms == 0), 0, 1 / jnp.maximum(norms, 1))
    spread = jnp.square(lengths - lengths.mean()).sum()
    return whole, _Place(weights, cosines, jnp.abs(own - lengths.mean()) / jnp.where(spread > 0, spread, 1))


def _of(place: _Place, sums: Array, shared: Array) -> Array:
    """The statistics [6] from sums of weights [3] and items shared with each user [N + F]."""
    num = max(min(profile_statistics.NUM_NEIGHBOURS, len(shared) - 1), 1)
    similarity = jax.lax.top_k(shared * place.cosines, num)[0].mean()
    return jnp.stack([sums[0], sums[1], similarity, place.length_variance, sums[2], sums[2]])


def _with_rows(fakes: Interactions, rows: np.ndarray) -> Interactions:
    """The fakes with the items of the rows; what came stands in the places of what went."""
    items = fakes.items.copy()
    before = profiles.matrix(fakes).toarray()
    for fake in range(fakes.num_users):
        of_fake = fakes.users == fake
        gone = of_fake & (rows[fake, fakes.items] == 0)
        items[gone] = np.flatnonzero(rows[fake] > before[fake])
    return dataclasses.replace(fakes, items=items)
