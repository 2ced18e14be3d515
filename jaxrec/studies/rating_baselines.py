"""Predicted ratings without a model of taste: the mean rating, and shrunk biases of items and users around it.

    item bias = sum over its ratings of (rating - mean) / (shrinkage + number of them)
    user bias = sum over their ratings of (rating - mean - item bias) / (shrinkage + number of them)

Koren, "Factor in the Neighbors: Scalable and Accurate Collaborative Filtering", TKDD 2010, section 2.1,
https://doi.org/10.1145/1644873.1644874 (shrinkages 25 of items and 10 of users for Netflix).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrec import checks, rating_metrics
from jaxrec.types import InputError, Interactions


class Biases(NamedTuple):
    """A prediction is mean + user[u] + item[i]. A user or an item without a rating has 0.

    Attributes:
        mean: Of all ratings.
        user: float64 [U].
        item: float64 [I].
    """

    mean: float
    user: np.ndarray
    item: np.ndarray


def biases(train: Interactions, *, item_shrinkage: float = 25.0, user_shrinkage: float = 10.0) -> Biases:
    """The biases of training ratings. Shrinkage has the unit of a count; infinite, it leaves the mean rating alone.

    Raises:
        InputError: If the interactions have no ratings.
        ValueError: If a shrinkage is negative.
    """
    checks.radius(item_shrinkage=item_shrinkage, user_shrinkage=user_shrinkage)
    if train.ratings is None or not len(train):
        raise InputError("Expected pairs with ratings, got none.")
    ratings = train.ratings.astype(np.float64)
    mean = float(ratings.mean())

    def shrunk(ids, residuals, num, shrinkage):
        sums, counts = np.bincount(ids, residuals, num), np.bincount(ids, minlength=num)
        return np.divide(sums, shrinkage + counts, out=np.zeros(num), where=counts > 0)

    item = shrunk(train.items, ratings - mean, train.num_items, item_shrinkage)
    user = shrunk(train.users, ratings - mean - item[train.items], train.num_users, user_shrinkage)
    return Biases(mean, user, item)


def predictions(found: Biases, pairs: Interactions) -> np.ndarray:
    """The predicted ratings of pairs, float64 [N], not cut to the scale."""
    return found.mean + found.user[pairs.users] + found.item[pairs.items]


def chosen(
    train: Interactions, valid: Interactions, *, item_shrinkages: Sequence[float], user_shrinkages: Sequence[float]
) -> tuple[float, float]:
    """The shrinkages (of items, of users) whose biases have the least RMSE on the validation ratings.

    Raises:
        InputError: If either part has no ratings.
    """
    if valid.ratings is None:
        raise InputError("Expected pairs with ratings, got none.")
    truth = valid.ratings

    def rmse(pair):
        found = biases(train, item_shrinkage=pair[0], user_shrinkage=pair[1])
        return rating_metrics.errors(predictions(found, valid), truth)["rmse"]

    return min(((item, user) for item in item_shrinkages for user in user_shrinkages), key=rmse)
