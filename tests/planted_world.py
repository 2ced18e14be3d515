"""A small world with a structure to find: two groups of users, each with its own items, and one item that all have."""

import numpy as np

from jaxrec.types import Interactions

NUM_USERS, NUM_ITEMS = 10, 9
GROUPS = (np.arange(0, 5), np.arange(5, 10))  # of users
ITEMS = (np.arange(0, 4), np.arange(4, 8))  # of each group; item 8 is everybody's


def interactions() -> Interactions:
    """Every user has all but one of the group's four items, user by user another one, and item 8."""
    pairs = []
    for users, items in zip(GROUPS, ITEMS, strict=True):
        for turn, user in enumerate(users):
            pairs += [(user, item) for item in np.delete(items, turn % 4)] + [(user, 8)]
    users, items = np.array(pairs, np.int32).T
    return Interactions(users.copy(), items.copy(), NUM_USERS, NUM_ITEMS)


def left_out() -> np.ndarray:
    """int [U], the item of the group that each user does not have."""
    return np.array([items[turn % 4] for users, items in zip(GROUPS, ITEMS, strict=True) for turn in range(len(users))])


def share_found(scores: np.ndarray) -> float:
    """Share of users whose left-out item scores strictly above every other item they do not have. [U, I] -> []."""
    known = interactions()
    scores = np.array(scores, float)
    scores[known.users, known.items] = -np.inf
    wanted = left_out()
    target = scores[np.arange(NUM_USERS), wanted].copy()
    scores[np.arange(NUM_USERS), wanted] = -np.inf
    return float((target > scores.max(axis=1)).mean())
