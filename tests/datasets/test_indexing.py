"""Ids become rows in rising order, and of every pair the latest row stays."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec import types
from jaxrec.datasets import indexing

rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=25
)


def columns(rows, with_times=True):
    users, items, ratings, times = np.array(rows).T
    return indexing.Rows("x", users, items, ratings.astype(np.float64), times if with_times else None)


def reference(rows, with_times):
    """One row a pair: of the latest time, and of equal times the last one; where it stands in the file."""
    latest = {}
    for place, (user, item, _, time) in enumerate(rows):
        key = (time if with_times else 0, place)
        latest[user, item] = max(latest.get((user, item), key), key)
    return sorted(place for _, place in latest.values())


@settings(max_examples=100, deadline=None)
@given(rows=rows.filter(lambda rows: len({row[1] for row in rows}) > 1), with_times=st.booleans())
def test_the_latest_row_of_every_pair_stays(rows, with_times):
    read = indexing.interactions(columns(rows, with_times))
    kept = [rows[place] for place in reference(rows, with_times)]
    user_ids, item_ids = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
    assert [user_ids[user] for user in read.users] == [row[0] for row in kept]
    assert [item_ids[item] for item in read.items] == [row[1] for row in kept]
    assert read.ratings is not None
    assert read.ratings.tolist() == [row[2] for row in kept]
    assert (read.num_users, read.num_items) == (len(user_ids), len(item_ids))


def test_the_warning_counts_repeats_and_new_ratings(caplog):
    table = [(1, 1, 5, 10), (1, 1, 5, 10), (1, 2, 3, 10), (1, 2, 4, 9), (1, 3, 1, 7)]
    with caplog.at_level(logging.WARNING):
        read = indexing.interactions(columns(table))
    assert "dropped 1 rows that repeat" in caplog.text
    assert "and 1 ratings of pairs that were rated again" in caplog.text
    assert read.ratings is not None
    assert read.ratings.tolist() == [5, 3, 1]
    caplog.clear()
    indexing.interactions(columns(table[1:3]))
    assert not caplog.text


def test_large_ids_and_gaps_are_renumbered_never_wrapped():
    read = indexing.interactions(indexing.Rows("x", np.array([2**63 - 1, 2**31, 5]), np.array([2**40, 7, 2**32 + 7])))
    assert read.users.tolist() == [2, 1, 0]
    assert read.items.tolist() == [2, 0, 1]
    assert read.user_ids is not None
    assert read.user_ids.tolist() == [5, 2**31, 2**63 - 1]
    assert read.item_ids is not None
    assert read.item_ids.tolist() == [7, 2**32 + 7, 2**40]


def test_the_largest_id_may_be_the_smallest():
    largest = np.full(2, 2**63 - 1)
    found = indexing.interactions(indexing.Rows("x", largest, np.array([3, 4])))
    assert (found.num_users, found.users.tolist(), found.user_ids.tolist()) == (1, [0, 0], [2**63 - 1])


def test_ids_without_gaps_need_no_names_and_other_files_ids_get_rows():
    read = indexing.interactions(indexing.Rows("x", np.array([0, 1]), np.array([1, 0])))
    assert read.user_ids is None
    assert read.item_ids is None
    wider = indexing.interactions(indexing.Rows("x", np.array([4]), np.array([9])), np.arange(6), np.array([8, 9]))
    assert (wider.users.tolist(), wider.items.tolist(), wider.num_users, wider.num_items) == ([4], [1], 6, 2)


def test_one_item_is_too_few():
    with pytest.raises(types.InputError, match=r"^x:1:1: expected at least two items, got 1 in 2 rows$"):
        indexing.interactions(indexing.Rows("x", np.array([0, 1]), np.array([5, 5])))


@pytest.mark.parametrize("scale", [(5.0, 1.0), (float("nan"), 5.0), (1.0, 1.0)])
def test_a_scale_has_two_ends(scale):
    with pytest.raises(types.InputError, match="rating_scale"):
        indexing.from_columns({}, rating_scale=scale)


def test_held_out_rows_that_are_training_rows_are_dropped_with_a_count(caplog):
    train = indexing.interactions(indexing.Rows("x", np.array([0, 0, 1]), np.array([0, 1, 1])))
    held_out = indexing.interactions(indexing.Rows("y", np.array([1, 1, 0]), np.array([0, 1, 0])), *[np.arange(2)] * 2)
    with caplog.at_level(logging.WARNING):
        left = indexing.without(held_out, train, "y")
    assert (left.users.tolist(), left.items.tolist()) == ([1], [0])
    assert "y: dropped 2 held-out rows" in caplog.text
    assert len(indexing.none_of(train)) == 0
