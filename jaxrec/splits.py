"""Splits of the data into training, validation and test: pure functions of their arguments and a seed.

Leave-one-out as in He et al., Neural Collaborative Filtering, WWW 2017, arXiv:1708.05031, with a validation item; the
global temporal split as argued for by Ji et al., A Critical Study on Data Leakage in Recommender System Offline
Evaluation, TOIS 2023, arXiv:2010.11060.

Rows keep the order of the data in every part, and every part keeps `num_users`, `num_items` and the ids. A pair that
occurs twice counts as two interactions, and may fall into two parts: the loaders of `jaxrec.datasets` leave none.
"""

from __future__ import annotations

import dataclasses
import math
import numbers

import numpy as np
import scipy.sparse

from jaxrec.types import InputError, Interactions, Split


def leave_one_out(interactions: Interactions, *, seed: int = 0) -> Split:
    """Holds out every user's last interaction for the test and the one before it for validation.

    Equal times are in row order. Without timestamps the order of a user's interactions is drawn from `seed`, which is
    otherwise not used. A user with fewer than three interactions stays wholly in training.

    Raises:
        InputError: If `seed` is not an integer >= 0.
    """
    _check_integer("seed", seed, at_least=0)
    counts = np.bincount(interactions.users, minlength=interactions.num_users)
    from_end = _places_from_end(interactions, interactions.timestamps, seed)
    enough = counts[interactions.users] >= 3
    return _parts(interactions, valid=enough & (from_end == 1), test=enough & (from_end == 0))


def global_temporal(interactions: Interactions, *, valid_fraction: float = 0.1, test_fraction: float = 0.1) -> Split:
    """Cuts the time line twice: the latest `test_fraction` of all interactions is the test, those before validation.

    No validation row is earlier than a training row and no test row earlier than either. Rows at the time of a cut
    fall before or after it in row order. Users and items may occur in the test alone (`cold_users`, `cold_items`).

    Raises:
        InputError: If there are no timestamps, or a fraction is not in [0, 1), or both together are not below 1.
    """
    _check_fractions(valid_fraction, test_fraction)
    if interactions.timestamps is None:
        raise InputError("A global temporal split needs timestamps, and these interactions have none.")
    num_test = round(len(interactions) * test_fraction)
    num_valid = round(len(interactions) * valid_fraction)
    from_end = np.empty(len(interactions), np.int64)
    from_end[np.argsort(interactions.timestamps, kind="stable")[::-1]] = np.arange(len(interactions))
    test = from_end < num_test
    return _parts(interactions, valid=~test & (from_end < num_test + num_valid), test=test)


def per_user_ratio(
    interactions: Interactions,
    *,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    by_time: bool = False,
) -> Split:
    """Holds out a fraction of every user's interactions: drawn from `seed`, or the latest ones `by_time`.

    Of a user's n interactions floor(n * test_fraction) are the test and floor(n * valid_fraction) validation, so each
    user keeps at least one for training. `by_time` breaks equal times by row order and leaves `seed` unused.

    Raises:
        InputError: If a fraction is not in [0, 1), or both together are not below 1, or `seed` is not an integer >= 0,
            or `by_time` is asked of interactions without timestamps.
    """
    _check_fractions(valid_fraction, test_fraction)
    _check_integer("seed", seed, at_least=0)
    if by_time and interactions.timestamps is None:
        raise InputError("Expected timestamps for by_time=True, and these interactions have none.")
    counts = np.bincount(interactions.users, minlength=interactions.num_users)
    from_end = _places_from_end(interactions, interactions.timestamps if by_time else None, seed)
    # 0.29 * 100 is 28.999999999999996 in floating point; a user of 100 holds out 29.
    held_out = lambda fraction: np.floor(counts * fraction + 1e-9).astype(np.int64)[interactions.users]
    num_test, num_valid = held_out(test_fraction), held_out(valid_fraction)
    test = from_end < num_test
    return _parts(interactions, valid=~test & (from_end < num_test + num_valid), test=test)


def k_core(interactions: Interactions, *, k: int) -> Interactions:
    """The largest part of the data in which every user and every item has at least `k` interactions.

    Users and items with fewer are removed in turn until none is left. Those that stay are numbered anew without gaps,
    in their old order; `user_ids` and `item_ids` hold the original ids (the old numbers where there were none).

    Raises:
        InputError: If `k` is not an integer >= 1, or nothing is left.
    """
    _check_integer("k", k, at_least=1)
    rows = np.arange(len(interactions))
    while True:
        users, items = interactions.users[rows], interactions.items[rows]
        stay = (np.bincount(users)[users] >= k) & (np.bincount(items)[items] >= k) if len(rows) else np.ones(0, bool)
        if stay.all():
            break
        rows = rows[stay]
    if not len(rows):
        raise InputError(f"Expected k so small that something stays, got k={k}: no user and item has {k} interactions.")
    return _renumbered(interactions.take(rows))


def cold_users(train: Interactions, *, max_interactions: int) -> np.ndarray:
    """Mask [U] of the users with at most `max_interactions` training interactions; 0: those never seen in training.

    Raises:
        InputError: If `max_interactions` is not an integer >= 0.
    """
    _check_integer("max_interactions", max_interactions, at_least=0)
    return np.bincount(train.users, minlength=train.num_users) <= max_interactions


def cold_items(train: Interactions, *, max_interactions: int) -> np.ndarray:
    """Mask [I] of the items with at most `max_interactions` training interactions; 0: those never seen in training.

    Raises:
        InputError: If `max_interactions` is not an integer >= 0.
    """
    _check_integer("max_interactions", max_interactions, at_least=0)
    return np.bincount(train.items, minlength=train.num_items) <= max_interactions


def tail_items(train: Interactions, *, head_fraction: float = 0.2) -> np.ndarray:
    """Mask [I] of the long tail: all items but the floor(head_fraction * I) with the most training interactions.

    This is the 80/20 rule counted in items, as in the published long-tail shares (APLT) of BPR and APR: Anelli et al.,
    The Idiosyncratic Effects of Adversarial Training on Bias in Personalized Recommendation Learning, RecSys 2021.
    Others count it in interactions, where the head is the items that together hold 80 % of them: figures of the two
    do not compare. Items never seen are in the tail; of equally popular ones the lower number is in the head.

    Raises:
        InputError: If `head_fraction` is not in [0, 1].
    """
    if not _is_number(head_fraction) or not 0 <= head_fraction <= 1:
        raise InputError(f"Expected head_fraction in [0, 1], got head_fraction={head_fraction!r}.")
    popularity = np.bincount(train.items, minlength=train.num_items)
    tail = np.ones(train.num_items, bool)
    tail[np.argsort(-popularity, kind="stable")[: math.floor(train.num_items * head_fraction + 1e-9)]] = False
    return tail


def first_users(split: Split, *, num: int) -> Split:
    """The same split of users 0 to num - 1 alone, every item kept: a small real data set for a trial run."""
    train, valid, test = (
        dataclasses.replace(
            part.take(part.users < num),
            num_users=min(num, part.num_users),
            user_ids=None if part.user_ids is None else part.user_ids[:num],
        )
        for part in (split.train, split.valid, split.test)
    )
    return Split(train, valid, test, None if split.negatives is None else split.negatives[:num])


def joined(first: Interactions, second: Interactions) -> Interactions:
    """The rows of both, of the same users and items: training and validation together, once validation has chosen."""
    columns = {name: getattr(first, name) for name in ("users", "items", "ratings", "timestamps")}
    both = {name: column for name, column in columns.items() if column is not None}
    return dataclasses.replace(
        first, **{name: np.concatenate([column, getattr(second, name)]) for name, column in both.items()}
    )


def sample_negatives(split: Split, *, num: int, seed: int = 0) -> np.ndarray:
    """Draws for every user `num` items that the user has not touched, uniformly and without repetition.

    Untouched means neither in training nor in validation nor in the test. A user with fewer such items gets all of
    them, in random order, and -1 in the places that are left. Use: `split._replace(negatives=...)`.

    Returns:
        int32 [U, num].

    Raises:
        InputError: If `num` is not an integer >= 1, or `seed` is not an integer >= 0.
    """
    _check_integer("num", num, at_least=1)
    _check_integer("seed", seed, at_least=0)
    rng = np.random.default_rng(seed)
    num_users, num_items = split.train.num_users, split.train.num_items
    parts = (split.train, split.valid, split.test)
    users, items = (np.concatenate([getattr(part, column) for part in parts]) for column in ("users", "items"))
    seen = scipy.sparse.csr_array((np.ones(len(users), bool), (users, items)), shape=(num_users, num_items))
    seen.sum_duplicates()
    num_seen = np.diff(seen.indptr)
    ranks = _distinct_below(num_items - num_seen, num, rng)
    # The unseen item of rank r is r plus the number of seen items before it: of the user's sorted seen items s_0, s_1,
    # ... those with s_k - k <= r. One search in all users' s_k - k, kept apart by `offset`, answers it for all.
    offset = np.arange(num_users, dtype=np.int64) * (num_items + 1)
    places = np.arange(len(seen.indices)) - np.repeat(seen.indptr[:-1], num_seen)
    unseen_before = np.repeat(offset, num_seen) + seen.indices - places
    passed = np.searchsorted(unseen_before, (offset[:, None] + ranks).ravel(), side="right").reshape(ranks.shape)
    return np.where(ranks < 0, -1, ranks + passed - seen.indptr[:-1, None]).astype(np.int32)


def with_false_positives(split: Split, *, share: float, seed: int = 0) -> Split:
    """The split with random clicks planted in training; validation and test stay clean.

    Each user gets the nearest whole number of items, uniform among those that the user has touched in no part, that
    makes them `share` of the user's training interactions (fewer where not so many are left).

    Returns:
        The split; planted rows stand after the true ones, and training has no ratings and no times any more.

    Raises:
        InputError: If `share` is not in [0, 1), or `seed` is not an integer >= 0.
    """
    if not _is_number(share) or not 0 <= share < 1:
        raise InputError(f"Expected share in [0, 1), got share={share!r}.")
    train = split.train
    wanted = np.rint(np.bincount(train.users, minlength=train.num_users) * share / (1 - share)).astype(np.int64)
    drawn = sample_negatives(split, num=max(int(wanted.max(initial=0)), 1), seed=seed)
    taken = (np.arange(drawn.shape[1]) < wanted[:, None]) & (drawn >= 0)
    users = np.broadcast_to(np.arange(train.num_users, dtype=np.int32)[:, None], drawn.shape)
    columns = {
        "users": np.concatenate([train.users, users[taken]]),
        "items": np.concatenate([train.items, drawn[taken]]),
    }
    return split._replace(train=dataclasses.replace(train, **columns, ratings=None, timestamps=None))


def _parts(interactions: Interactions, *, valid: np.ndarray, test: np.ndarray) -> Split:
    """The split with the masked rows held out."""
    return Split(interactions.take(~(valid | test)), interactions.take(valid), interactions.take(test))


def _places_from_end(interactions: Interactions, timestamps: np.ndarray | None, seed: int) -> np.ndarray:
    """[N]: 0 for a user's last interaction, 1 for the one before, ...; in time, or shuffled without times."""
    if timestamps is not None:
        order = np.lexsort((timestamps, interactions.users))
    else:
        shuffled = np.random.default_rng(seed).permutation(len(interactions))
        order = shuffled[np.argsort(interactions.users[shuffled], kind="stable")]
    ends = np.cumsum(np.bincount(interactions.users, minlength=interactions.num_users))
    places = np.empty(len(interactions), np.int64)
    places[order] = ends[interactions.users[order]] - 1 - np.arange(len(interactions))
    return places


def _renumbered(interactions: Interactions) -> Interactions:
    """The same interactions with users and items numbered without gaps."""
    kept_users, users = np.unique(interactions.users, return_inverse=True)
    kept_items, items = np.unique(interactions.items, return_inverse=True)
    user_ids = kept_users if interactions.user_ids is None else np.asarray(interactions.user_ids)[kept_users]
    item_ids = kept_items if interactions.item_ids is None else np.asarray(interactions.item_ids)[kept_items]
    return dataclasses.replace(
        interactions,
        users=users.astype(np.int32),
        items=items.astype(np.int32),
        num_users=len(kept_users),
        num_items=len(kept_items),
        user_ids=user_ids,
        item_ids=item_ids,
    )


def _distinct_below(limits: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """[U, num] distinct integers in [0, limits[u]) in random order, -1 behind them where a limit is below `num`."""
    drawn = np.full((len(limits), num), -1, np.int64)
    for row, limit in zip(drawn, limits.tolist(), strict=True):
        size = min(limit, num)
        row[:size] = rng.choice(limit, size, replace=False)
    return drawn


def _is_number(value: object) -> bool:
    """Whether it is a real number, True and False not counted."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_integer(name: str, value: int, *, at_least: int) -> None:
    """Raises an InputError unless `value` is an integer and large enough."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < at_least:
        raise InputError(f"Expected an integer {name} >= {at_least}, got {name}={value!r}.")


def _check_fractions(valid_fraction: float, test_fraction: float) -> None:
    """Raises an InputError unless both lie in [0, 1) and leave something for training."""
    for name, value in (("valid_fraction", valid_fraction), ("test_fraction", test_fraction)):
        if not _is_number(value) or not 0 <= value < 1:
            raise InputError(f"Expected {name} in [0, 1), got {name}={value!r}.")
    if valid_fraction + test_fraction >= 1:
        raise InputError(
            "Expected valid_fraction + test_fraction < 1, "
            f"got valid_fraction={valid_fraction!r} and test_fraction={test_fraction!r}."
        )
