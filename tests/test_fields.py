"""Embedded fields: categories of their own, hashed crosses, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import fields

SIZES = {"num_users": 3, "num_items": 2, "dimension": 4, "init_scale": 0.1, "num_buckets": 8}


def test_numbered_columns_share_no_id_and_keep_their_categories():
    codes = np.array([[0, 2, 0], [3, 0, 1], [3, 2, 0]])
    np.testing.assert_array_equal(fields.numbered(codes), [[0, 6, 7], [3, 4, 8], [3, 6, 7]])
    assert fields.numbered(np.zeros((3, 0), int)).shape == (3, 0)


def test_crosses_are_spread_over_the_buckets_and_differ_by_side_and_column():
    codes = jnp.arange(64, dtype=jnp.int32)
    users, items = (x.reshape(-1, 1) for x in jnp.meshgrid(codes, codes))
    buckets = np.asarray(fields.crossed(users, items, 128))[:, 0]
    counts = np.bincount(buckets, minlength=128)
    assert len(counts) == 128
    # 4,096 pairs in 128 buckets: 32 each on average; a fair hash lies within six deviations of that.
    assert np.abs(counts - 32).max() < 6 * np.sqrt(32)
    assert (np.asarray(fields.crossed(items, users, 128))[:, 0] != buckets).mean() > 0.9
    both = np.asarray(fields.crossed(*(jnp.concatenate([x, x], axis=1) for x in (users, items)), 128))
    np.testing.assert_array_equal(both[:, 0], buckets)
    assert (both[:, 1] != buckets).mean() > 0.9


def test_rows_may_be_compacted_only_where_nothing_is_looked_up_by_id():
    assert fields.embedded(**SIZES, side=None).reads is not None
    side = fields.Side(item_values=np.zeros((2, 3), np.float32))
    assert fields.embedded(**SIZES, side=side).reads is None
    assert fields.embedded(**SIZES, side=fields.Side(item_values=np.zeros((2, 0), np.float32))).reads is not None


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ({"user_ids": np.zeros((2, 1), np.int32)}, "user_ids with 3 rows, got 2"),
        ({"item_ids": np.full((2, 1), -1, np.int32)}, "item_ids >= 0, got -1"),
        ({"item_values": np.array([[1], [np.nan]], np.float32)}, "finite item_values, got 1"),
        ({"user_crossed": np.zeros((3, 1), np.int32)}, "got 1 and 0"),
    ],
)
def test_wrong_sides_are_refused(side, message):
    with pytest.raises(ValueError, match=message):
        fields.embedded(**SIZES, side=fields.Side(**side))
    with pytest.raises(ValueError, match="num_buckets=0"):
        fields.embedded(**{**SIZES, "num_buckets": 0}, side=None)
