"""Small data with a structure that a model must find: two groups, and a cycle."""

import numpy as np

from jaxrec import splits
from jaxrec.types import Interactions, Split


def two_groups() -> Split:
    """20 users and 20 items in two groups; each user has the 10 items of the group, one held out for the test.

    Of the 12 items that it is ranked against the validation item is the only other one of the group's, and it is left
    out: popularity ranks it in the middle, and a model that finds the groups ranks it first.
    """
    users, items = np.divmod(np.arange(20 * 20, dtype=np.int32), 20)
    inside = users % 2 == items % 2
    return splits.leave_one_out(Interactions(users[inside], items[inside], num_users=20, num_items=20), seed=0)


def cycle() -> Split:
    """30 users who go round the same 6 items from a random start: 5 to 12 items each, the next one the test's.

    Popularity cannot tell which item is next; the item before can.
    """
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(6, size=30), rng.integers(5, 13, size=30)
    users = np.repeat(np.arange(30, dtype=np.int32), lengths)
    places = np.arange(len(users)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = (starts[users] + places) % 6
    return splits.leave_one_out(Interactions(users, items.astype(np.int32), 30, 6, timestamps=places.astype(np.int64)))
