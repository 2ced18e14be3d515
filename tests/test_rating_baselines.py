"""Biases are those of a loop over ratings, and their shrinkage is what validation chooses."""

import numpy as np
import pytest

from jaxrec.studies import rating_baselines
from jaxrec.types import InputError, Interactions

NONE = np.zeros(0, np.int32)


def rated(users, items, ratings, num_users=4, num_items=5):
    return Interactions(
        np.array(users, np.int32), np.array(items, np.int32), num_users, num_items, np.array(ratings, np.float32)
    )


def drawn(seed):
    """Forty ratings, the sum of a user's and an item's leaning; user 3 and item 4 have none."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(3, size=40), rng.integers(4, size=40)
    leaning = np.array([-1, 0, 1])[users] + np.array([0.5, -0.5, 1, -1])[items]
    return rated(users, items, np.clip(3 + leaning + rng.normal(scale=0.2, size=40), 1, 5))


def test_biases_are_shrunk_means_of_what_is_left():
    train = drawn(0)
    found = rating_baselines.biases(train, item_shrinkage=3, user_shrinkage=2)
    mean = sum(map(float, train.ratings)) / 40
    item = np.zeros(5)
    for i in range(4):
        of_item = [float(r) - mean for j, r in zip(train.items, train.ratings, strict=True) if j == i]
        item[i] = sum(of_item) / (3 + len(of_item))
    user = np.zeros(4)
    for u in range(3):
        rows = np.flatnonzero(train.users == u)
        user[u] = sum(float(train.ratings[row]) - mean - item[train.items[row]] for row in rows) / (2 + len(rows))
    np.testing.assert_allclose(found.item, item, atol=1e-12)
    np.testing.assert_allclose(found.user, user, atol=1e-12)
    pairs = rated([0, 3, 2], [1, 4, 4], [1, 1, 1])
    expected = [mean + user[0] + item[1], mean, mean + user[2]]
    np.testing.assert_allclose(rating_baselines.predictions(found, pairs), expected, atol=1e-12)


def test_infinite_shrinkage_leaves_the_mean():
    found = rating_baselines.biases(drawn(0), item_shrinkage=np.inf, user_shrinkage=np.inf)
    assert not found.user.any()
    assert not found.item.any()


def test_without_shrinkage_a_user_without_ratings_has_no_bias():
    found = rating_baselines.biases(drawn(0), item_shrinkage=0, user_shrinkage=0)
    assert found.user[3] == found.item[4] == 0


def test_validation_chooses_the_shrinkage():
    """Leanings are large and noise small: none is best, in whatever order they are named."""
    for order in ((0, 100), (100, 0)):
        chosen = rating_baselines.chosen(drawn(0), drawn(1), item_shrinkages=order, user_shrinkages=order)
        assert chosen == (0, 0)


def test_what_has_no_ratings_is_refused():
    with pytest.raises(InputError, match="pairs with ratings"):
        rating_baselines.biases(Interactions(NONE, NONE, 2, 2))
    with pytest.raises(ValueError, match="item_shrinkage >= 0"):
        rating_baselines.biases(drawn(0), item_shrinkage=-1)
