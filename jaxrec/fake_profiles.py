"""Profiles of fake users: what an attacker may spend and knows, the parts of a profile, and how fakes join the data.

A profile is targets, selected items and fillers, each with its ratings: the form of Mobasher, Burke, Bhaumik and
Williams, "Toward Trustworthy Recommender Systems: An Analysis of Attack Models and Algorithm Robustness", ACM TOIT
2007, https://doi.org/10.1145/1278366.1278372. All of it on the host.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxrec.types import InputError, Interactions, Key, check_ids

Direction = Literal["push", "nuke"]
Part = tuple[np.ndarray, np.ndarray | None]  # items [F, n], and their ratings unless feedback is implicit


@dataclasses.dataclass(frozen=True, eq=False)
class Budget:
    """What an attacker may spend, and what for.

    Attributes:
        num_fakes: Fake users, F.
        num_fillers: Fillers of each.
        direction: "push" raises the targets' ranks, "nuke" lowers them.
        allowed: bool [I], the items that fakes may touch beside the targets; None for all.

    Raises:
        ValueError: If a number is negative, or the direction is neither of the two.
    """

    num_fakes: int
    num_fillers: int
    direction: Direction
    allowed: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("num_fakes", "num_fillers"):
            if getattr(self, name) < 0:
                raise ValueError(f"Expected {name} >= 0, got {name}={getattr(self, name)}.")
        if self.direction not in ("push", "nuke"):
            raise ValueError(f'Expected direction "push" or "nuke", got direction={self.direction!r}.')


class Known(NamedTuple):
    """What an attacker knows of the data, and what is asked for.

    Attributes:
        interactions: The real users'.
        targets: [T].
        budget: What may be spent.
        rng: The attack's randomness.
        popularity: int [I], users who have each item.
        scale: float32 [V], the ratings that occur, ascending; None for implicit feedback.
        free: bool [I], allowed items that are no target.
    """

    interactions: Interactions
    targets: np.ndarray
    budget: Budget
    rng: np.random.Generator
    popularity: np.ndarray
    scale: np.ndarray | None
    free: np.ndarray


def know(key: Key, interactions: Interactions, targets: np.ndarray, budget: Budget, *, num_selected: int = 0) -> Known:
    """Looks at the data, and refuses an attack on them that cannot be.

    Raises:
        InputError: If there are more fakes than real users, or fewer free items than fillers and selected ones.
        ValueError: If there is no target, one is out of range or comes twice, `allowed` has another length, or
            `num_selected` is negative.
    """
    if targets.ndim != 1 or not len(targets) or len(np.unique(targets)) < len(targets):
        raise ValueError(f"Expected targets [T >= 1], each once, got {targets.tolist()}.")
    check_ids(targets, interactions.num_items, "targets")
    if num_selected < 0:
        raise ValueError(f"Expected num_selected >= 0, got num_selected={num_selected}.")
    if budget.num_fakes > interactions.num_users:
        raise InputError(
            f"Expected at most as many fakes as the {interactions.num_users} users, got num_fakes={budget.num_fakes}."
        )
    free = np.ones(interactions.num_items, bool) if budget.allowed is None else budget.allowed.astype(bool)
    if free.shape != (interactions.num_items,):
        raise ValueError(f"Expected allowed of shape {(interactions.num_items,)}, got {free.shape}.")
    free = free & ~np.isin(np.arange(len(free)), targets)
    if budget.num_fillers + num_selected > free.sum():
        raise InputError(
            f"Expected num_fillers and selected items to fit the {int(free.sum())} allowed items that are no target, "
            f"got num_fillers={budget.num_fillers} and num_selected={num_selected}."
        )
    pairs = np.unique(interactions.users.astype(np.int64) * interactions.num_items + interactions.items)
    popularity = np.bincount(pairs % interactions.num_items, minlength=interactions.num_items)
    scale = None if interactions.ratings is None else np.unique(interactions.ratings)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    return Known(interactions, targets, budget, rng, popularity, scale, free)


def check_reachable(known: Interactions, targets: np.ndarray) -> None:
    """Raises a ValueError if there is no target or one is no item, an InputError if one is known to everyone."""
    if not len(targets):
        raise ValueError("Expected at least one target, got targets of length 0.")
    check_ids(targets, known.num_items, "targets")
    for target in targets.tolist():
        if len(np.unique(known.users[known.items == target])) == known.num_users:
            raise InputError(f"Expected targets that some user does not know, got item {target}, which everyone has.")


def item_means(known: Known) -> np.ndarray:
    """Each item's mean rating, float64 [I]; that of all ratings for an item without one."""
    ratings = _ratings(known)
    counts = np.bincount(known.interactions.items, minlength=len(known.free))
    sums = np.bincount(known.interactions.items, ratings, len(known.free))
    return np.where(counts > 0, sums / np.maximum(counts, 1), ratings.mean(dtype=np.float64))


def first(known: Known, order: np.ndarray, num: int) -> np.ndarray:
    """The first `num` free items in an order of all items, once for each fake: [F, num]."""
    return np.tile(order[known.free[order]][:num], (known.budget.num_fakes, 1))


def fillers(known: Known, *, without: np.ndarray | None = None, weights: np.ndarray | None = None) -> np.ndarray:
    """Free items drawn for each fake, none twice: [F, num_fillers].

    Args:
        without: [F, n], items that are not drawn, the same in every row.
        weights: [I], to draw in proportion to (items of weight 0 come last); uniformly by default.
    """
    free = known.free.copy()
    if without is not None and len(without):
        free[without[0]] = False
    pool = np.flatnonzero(free)
    num = known.budget.num_fillers
    odds = np.ones(len(pool)) if weights is None else np.maximum(weights[pool], 1e-9)
    drawn = np.empty((known.budget.num_fakes, num), np.int64)
    for row in drawn:  # Efraimidis and Spirakis: the largest of u^(1 / w) are a weighted sample without replacement
        row[:] = pool[np.argsort(known.rng.standard_exponential(len(pool)) / odds, kind="stable")[:num]]
    return drawn


def around_mean(known: Known, items: np.ndarray) -> np.ndarray | None:
    """Ratings of the items [F, n], drawn around the mean of all ratings; None for implicit feedback."""
    return None if known.scale is None else around(known, np.full(items.shape, _ratings(known).mean(dtype=np.float64)))


def around(known: Known, means: np.ndarray) -> np.ndarray:
    """Ratings drawn from normals round `means` [F, n], with the deviation of all ratings, rounded to the scale."""
    drawn = known.rng.normal(means, _ratings(known).std(dtype=np.float64))
    scale = np.unique(_ratings(known))
    return scale[np.abs(drawn[..., None] - scale).argmin(axis=-1)]


def all_rated(known: Known, items: np.ndarray, extreme: Literal["lowest", "highest"]) -> Part:
    """The items [F, n] with the lowest or the highest rating of the scale."""
    if known.scale is None:
        return items, None
    return items, np.full(items.shape, known.scale[0 if extreme == "lowest" else -1])


def fakes(known: Known, *parts: Part) -> Interactions:
    """The profiles: in each row the targets, with the extreme rating of the direction, then the parts.

    Implicit feedback cannot say that an item is bad: there a nuke leaves the targets out, and its fakes have the parts
    alone. Where the data have times, those of fakes are drawn from them.
    """
    num_fakes = known.budget.num_fakes
    nuke = known.budget.direction == "nuke"
    targets = np.tile(known.targets, (num_fakes, 1))
    if not (nuke and known.scale is None):
        parts = (all_rated(known, targets, "lowest" if nuke else "highest"), *parts)
    items = np.concatenate([part[0] for part in parts], axis=1)
    ratings = [part[1] for part in parts if part[1] is not None]
    times = known.interactions.timestamps
    return Interactions(
        users=np.repeat(np.arange(num_fakes, dtype=np.int32), items.shape[1]),
        items=items.astype(np.int32).ravel(),
        num_users=num_fakes,
        num_items=known.interactions.num_items,
        ratings=np.concatenate(ratings, axis=1).astype(np.float32).ravel() if ratings else None,
        timestamps=None if times is None else known.rng.choice(times, items.size),
        item_ids=known.interactions.item_ids,
    )


def contaminate(interactions: Interactions, fakes: Interactions) -> Interactions:
    """The interactions with the fakes as new users after the real ones, whose rows stay first, as they are.

    Without a fake it is the interactions themselves. Where users have ids of a file, fakes get ids nobody has.

    Raises:
        InputError: If the fakes are of another catalogue, have an item twice in a profile, ratings or times where the
            data have none (or the reverse), or ratings that nobody gave in the data.
    """
    _check_fakes(interactions, fakes)
    if not fakes.num_users:
        return interactions
    columns = {
        name: np.concatenate([getattr(interactions, name), getattr(fakes, name)])
        for name in ("items", "ratings", "timestamps")
        if getattr(interactions, name) is not None
    }
    return dataclasses.replace(
        interactions,
        users=np.concatenate([interactions.users, fakes.users + np.int32(interactions.num_users)]),
        num_users=interactions.num_users + fakes.num_users,
        user_ids=None if interactions.user_ids is None else _more_ids(interactions.user_ids, fakes.num_users),
        **columns,
    )


def is_fake(contaminated: Interactions, fakes: Interactions) -> np.ndarray:
    """bool [U]: which users of contaminated interactions are the fakes, that is, the last ones."""
    return np.arange(contaminated.num_users) >= contaminated.num_users - fakes.num_users


def _ratings(known: Known) -> np.ndarray:
    """The ratings of data that have some."""
    if known.interactions.ratings is None:
        raise ValueError("Expected ratings, got implicit feedback.")
    return known.interactions.ratings


def _check_fakes(interactions: Interactions, fakes: Interactions) -> None:
    """Raises an InputError unless the fakes fit the interactions."""
    if fakes.num_items != interactions.num_items:
        raise InputError(f"Expected fakes of the {interactions.num_items} items, got fakes of {fakes.num_items}.")
    for name in ("ratings", "timestamps"):
        has = [getattr(part, name) is not None for part in (interactions, fakes)]
        if len(fakes) and has[0] != has[1]:
            raise InputError(f"Expected {name} in both, or in neither, of data and fakes, got {has}.")
    pairs = np.sort(fakes.users.astype(np.int64) * fakes.num_items + fakes.items)
    if (twice := pairs[1:][np.diff(pairs) == 0]).size:
        user, item = divmod(int(twice[0]), fakes.num_items)
        raise InputError(f"Expected each item at most once in a profile, got item {item} twice in that of fake {user}.")
    if interactions.ratings is not None and fakes.ratings is not None and len(fakes):
        scale = np.unique(interactions.ratings)
        if off := fakes.ratings[~np.isin(fakes.ratings, scale)].tolist():
            words = f"the {len(scale)} ratings of the data, in [{scale[0]:g}, {scale[-1]:g}]"
            raise InputError(f"Expected ratings of fakes among {words}, got {off[0]:g}.")


def _more_ids(ids: np.ndarray, num: int) -> np.ndarray:
    """Ids with `num` new ones after them: the next integers, or names that begin with "fake-"."""
    if np.issubdtype(ids.dtype, np.integer):
        return np.concatenate([ids, ids.max(initial=-1) + 1 + np.arange(num, dtype=ids.dtype)])
    taken = set(ids.tolist())
    free: Sequence[str] = [name for n in range(num + len(ids)) if (name := f"fake-{n}") not in taken][:num]
    return np.concatenate([ids, np.array(free)])
