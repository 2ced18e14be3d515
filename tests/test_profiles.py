"""Profiles against sets in Python."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import profiles
from jaxrec.types import Interactions

KNOWN = Interactions(  # user 1 has none, user 3 everything; user 0 has item 4 twice
    users=np.array([0, 3, 0, 3, 2, 3, 0, 3, 3], np.int32),
    items=np.array([4, 0, 1, 3, 2, 2, 4, 4, 1], np.int32),
    num_users=4,
    num_items=5,
)
SETS = [{1, 4}, set(), {2}, {0, 1, 2, 3, 4}]
EXPECTED = np.array([[item in items for item in range(5)] for items in SETS])


def test_multi_hot_rows_are_the_sets():
    found = profiles.prepare(KNOWN)
    assert found.longest == 5
    rows = jax.jit(profiles.multi_hot)(found, jnp.array([3, 0, 1, 2, 0]))
    np.testing.assert_array_equal(rows, EXPECTED[[3, 0, 1, 2, 0]])


def test_items_are_listed_in_order_and_the_rest_is_out_of_range():
    users = jnp.array([[0, 1], [2, 3]])
    listed = profiles.items_of(profiles.prepare(KNOWN), users)
    expected = [[[1, 4, 5, 5, 5], [5] * 5], [[2, 5, 5, 5, 5], [0, 1, 2, 3, 4]]]
    np.testing.assert_array_equal(listed, expected)


def test_contain_asks_for_members_and_minus_one_is_none():
    found = profiles.prepare(KNOWN)
    users, items = np.divmod(np.arange(4 * 7), 7)
    items = items - 1  # from -1 to 5, one beyond the catalogue
    answers = np.asarray(jax.jit(profiles.contain)(found, jnp.asarray(users), jnp.asarray(items)))
    np.testing.assert_array_equal(answers, [item in SETS[user] for user, item in zip(users, items, strict=True)])


def test_nobody_has_anything_in_empty_profiles():
    nothing = profiles.empty(4, 5)
    np.testing.assert_array_equal(profiles.multi_hot(nothing, jnp.arange(4)), np.zeros((4, 5)))
    assert not profiles.contain(nothing, jnp.array([0, 3]), jnp.array([0, 4])).any()


def test_pairs_in_blocks_are_the_pairs_at_once():
    users, items = jnp.arange(3)[:, None], jnp.arange(5)[None]
    function = lambda users, items: 10 * users + items
    expected = 10 * np.arange(3)[:, None] + np.arange(5)
    for size in (100, 15, 4, 1):
        np.testing.assert_array_equal(profiles.pair_by_pair(function, users, items, size=size), expected)
