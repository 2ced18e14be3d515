"""What the benchmarks train and rank on: MovieLens-1M's leave-one-out files, or drawn interactions of their shape."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import numpy as np

from jaxrec.datasets import leave_one_out
from jaxrec.types import InputError, Interactions


class Work(NamedTuple):
    """Training pairs, and for each user one item held out of them.

    Attributes:
        source: Where they come from.
        train: Sorted by user, each pair once.
        targets: [num_users], for each user an item that is not in `train` for them.
        seen: bool [num_users, num_items], the pairs of `train`.
    """

    source: str
    train: Interactions
    targets: np.ndarray
    seen: np.ndarray

    def describe(self) -> str:
        """Source and sizes in words."""
        return (
            f"{self.source}: {self.seen.shape[0]} users, {self.seen.shape[1]} items, {len(self.train)} training pairs"
        )

    def sample(self, num: int, seed: int) -> Interactions:
        """`num` random training pairs (all, if there are fewer), in their order."""
        rng = np.random.default_rng(seed)
        return self.train.take(np.sort(rng.choice(len(self.train), min(num, len(self.train)), replace=False)))


def load(data_dir: pathlib.Path | None, *, num_users: int, num_items: int, num_pairs: int, seed: int) -> Work:
    """The leave-one-out files in a folder, or, without one, drawn interactions."""
    if data_dir is None:
        return drawn(num_users=num_users, num_items=num_items, num_pairs=num_pairs, seed=seed)
    return published(data_dir)


def published(data_dir: pathlib.Path) -> Work:
    """The leave-one-out files in a folder; the validation items are trained on.

    Raises:
        InputError: If the files are not there or not what they should be, or a user has no test item.
    """
    split = leave_one_out.load(data_dir)
    users, items = (np.concatenate([getattr(part, name) for part in split[:2]]) for name in ("users", "items"))
    order = np.argsort(users, kind="stable")
    train = Interactions(users[order], items[order], split.test.num_users, split.test.num_items)
    if len(split.test) != train.num_users:
        raise InputError(
            f"{data_dir}: expected a test item for each of {train.num_users} users, got {len(split.test)}."
        )
    return Work(str(data_dir), train, split.test.items[np.argsort(split.test.users)], _seen(train))


def drawn(*, num_users: int, num_items: int, num_pairs: int, seed: int) -> Work:
    """Distinct pairs, of which few users and few items have most, and each user's next item as the target.

    Every pair of a user and an item arrives at an exponential time whose rate is the user's activity times the item's
    popularity; the first `num_pairs` to arrive are the training pairs.

    Raises:
        InputError: If there are not that many pairs, or they would be more than half of all.
    """
    if num_pairs > num_users * num_items // 2:
        raise InputError(
            f"Expected --pairs <= {num_users * num_items // 2} (users * items / 2), got --pairs {num_pairs}."
        )
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(sigma=0.9, size=(num_users, 1)).astype(np.float32)
    popularity = rng.lognormal(sigma=1.3, size=num_items).astype(np.float32)
    arrival = rng.standard_exponential((num_users, num_items), dtype=np.float32) / (activity * popularity)
    # Each user's last item arrives after all others' items, so that everyone has a negative and a target.
    arrival[np.arange(num_users), arrival.argmax(axis=1)] = np.finfo(np.float32).max
    first = np.sort(np.argpartition(arrival, num_pairs - 1, axis=None)[:num_pairs])
    users, items = np.divmod(first, num_items)
    train = Interactions(users.astype(np.int32), items.astype(np.int32), num_users, num_items)
    seen = _seen(train)
    arrival[seen] = np.inf
    return Work(f"drawn interactions (seed {seed})", train, arrival.argmin(axis=1).astype(np.int32), seen)


def _seen(train: Interactions) -> np.ndarray:
    """bool [num_users, num_items], true at the training pairs."""
    seen = np.zeros((train.num_users, train.num_items), bool)
    seen[train.users, train.items] = True
    return seen


def negatives(rng: np.random.Generator, users: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """For each user an item uniform among those `seen` [U, I] does not hold: draws, and draws again what was seen."""
    neg = rng.integers(seen.shape[1], size=len(users))
    again = np.flatnonzero(seen[users, neg])
    while len(again):
        neg[again] = rng.integers(seen.shape[1], size=len(again))
        again = again[seen[users[again], neg[again]]]
    return neg
