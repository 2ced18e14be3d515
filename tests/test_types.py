"""Interactions are checked once, when they are made, and errors say what was wrong and where."""

import numpy as np
import pytest

from jaxrec import types
from jaxrec.types import Interactions


def interactions(**changes):
    columns = {
        "users": np.array([0, 2, 1], np.int32),
        "items": np.array([3, 0, 3], np.int32),
        "num_users": 3,
        "num_items": 4,
        "ratings": np.array([1, 2.5, 5], np.float32),
        "timestamps": np.array([10, 20, 2**40], np.int64),
    }
    return Interactions(**{**columns, **changes})


def test_ids_at_both_ends_of_their_ranges_pass():
    assert len(interactions()) == 3


def test_no_interactions_pass():
    empty = np.zeros(0, np.int32)
    assert len(Interactions(empty, empty, 0, 0)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": np.array([3, 0], np.int32)}, r"items of shape \(3,\).*got \(2,\)"),
        ({"items": np.array([3, 0, 3], np.int64)}, "items.*int32.*got.*int64"),
        ({"timestamps": np.array([1, 2, 3], np.int32)}, "timestamps.*int64.*got.*int32"),
        ({"users": np.array([0, 2, -1], np.int32)}, r"users in \[0, 3\), got -1 at position 2"),
        ({"items": np.array([3, 4, 9], np.int32)}, r"items in \[0, 4\), got 4 at position 1"),
        ({"ratings": np.array([1, np.nan, np.inf], np.float32)}, "finite ratings, got 2"),
        ({"user_ids": np.array(["a", "b"])}, "3 user_ids, got 2"),
        ({"item_ids": np.arange(5)}, "4 item_ids, got 5"),
    ],
)
def test_wrong_columns_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        interactions(**changes)


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True])])
def test_take_picks_the_same_rows_of_every_column(rows):
    whole = interactions(user_ids=np.array(["a", "b", "c"]))
    part = whole.take(rows)
    for name in ("users", "items", "ratings", "timestamps"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])
    assert (part.num_users, part.num_items) == (3, 4)
    assert part.user_ids is whole.user_ids


def test_take_leaves_missing_columns_missing():
    part = interactions(ratings=None, timestamps=None).take(np.array([1]))
    assert part.ratings is None
    assert part.timestamps is None


def test_check_ids_finds_the_first_wrong_one_in_a_matrix():
    types.check_ids(np.zeros((0, 2), int), 0, "negatives")
    with pytest.raises(ValueError, match=r"negatives in \[0, 5\), got 5 at position 2"):
        types.check_ids(np.array([[0, 1], [5, -1]]), 5, "negatives")


def test_an_input_error_is_a_value_error():
    assert issubclass(types.InputError, ValueError)
