"""Features against loops over rows, and the law that later rows change no earlier feature."""

import datetime
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec import features
from jaxrec.types import Interactions

DAY = 86_400


def made(rows, num_users=4, num_items=3, timed=True):
    users, items, times = (np.array(column) for column in zip(*rows, strict=True)) if rows else ([np.zeros(0)] * 3)
    timestamps = times.astype(np.int64) if timed else None
    return Interactions(users.astype(np.int32), items.astype(np.int32), num_users, num_items, timestamps=timestamps)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 40 * DAY)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40)
@given(ROWS, st.integers(0, 40 * DAY))
def test_deleting_later_rows_changes_no_earlier_feature(rows, until):
    whole = made(rows)
    early = whole.timestamps <= until
    before = made([row for row in rows if row[2] <= until])
    for of in ("users", "items"):
        pd.testing.assert_frame_equal(
            features.histories(whole, of=of, until=until), features.histories(before, of=of, until=until)
        )
    if early.any():
        pd.testing.assert_frame_equal(
            features.before_each(whole)[early].reset_index(drop=True), features.before_each(before)
        )


def test_the_history_of_a_user_written_out():
    data = made([(1, 0, 3 * DAY), (1, 2, 0), (0, 1, 9 * DAY), (1, 1, 4 * DAY), (3, 1, 10 * DAY)])
    found = features.histories(data)
    assert found["activity"].tolist() == [1, 3, 0, 1]
    np.testing.assert_allclose(found.loc[1], [3, 10 - 4, 3 / 10, (3 + 1) / 2, 1])
    np.testing.assert_allclose(found.loc[3], [1, 0, 1, math.nan, math.nan])
    assert found.loc[2, "recency":].isna().all()
    of_items = features.histories(data, of="items", until=9 * DAY)
    np.testing.assert_allclose(of_items.loc[1], [2, 0, 2 / 5, 5, 0])
    without = features.histories(made([(1, 0, 0), (1, 2, 0)], timed=False))
    assert without["activity"].tolist() == [0, 2, 0, 0]
    assert without.drop(columns="activity").isna().all(axis=None)


def test_what_is_before_each_row_against_a_loop():
    rng = np.random.default_rng(0)
    rows = [(*rng.integers([4, 3]), time) for time in rng.integers(0, 9, 30)]
    found = features.before_each(made(rows))
    for place, (user, item, time) in enumerate(rows):
        earlier = [row for other, row in enumerate(rows) if (row[2], other) < (time, place)]
        own = [row[2] for row in earlier if row[0] == user]
        assert found["user_before"][place] == len(own)
        assert found["item_before"][place] == sum(row[1] == item for row in earlier)
        assert found["gap"][place] == pytest.approx((time - max(own)) / DAY if own else math.nan, nan_ok=True)


def test_hours_and_weekdays_are_angles_of_the_calendar():
    moment = datetime.datetime(2026, 11, 22, 18, 0, tzinfo=datetime.UTC)
    assert moment.weekday() == 6
    found = features.cyclic(np.array([int(moment.timestamp())])).loc[0]
    angles = [2 * math.pi * 18 / 24, 2 * math.pi * 6 / 7]
    expected = [f(angle) for angle in angles for f in (math.sin, math.cos)]
    np.testing.assert_allclose(found[["hour_sin", "hour_cos", "weekday_sin", "weekday_cos"]], expected, atol=1e-12)


def test_bounds_against_outliers_are_of_the_values_that_are_known():
    values = np.array([[1.0, 10], [2, np.nan], [3, 30], [4, 20], [100, 40]])
    low, high = features.iqr_bounds(values)
    np.testing.assert_allclose([low[0], high[0]], [2 - 1.5 * 2, 4 + 1.5 * 2])
    np.testing.assert_allclose(np.clip(values[:, 0], low[0], high[0]), [1, 2, 3, 4, 7])
    low, high = features.z_bounds(values, deviations=2.0)
    spread = math.sqrt(((10 - 25) ** 2 + (30 - 25) ** 2 + (20 - 25) ** 2 + (40 - 25) ** 2) / 4)
    np.testing.assert_allclose([low[1], high[1]], [25 - 2 * spread, 25 + 2 * spread])


def test_scaling_is_fitted_where_seen_alone():
    values = np.array([[1.0, np.nan], [3, np.nan], [np.nan, np.nan], [5, np.nan], [1e6, 7]])
    seen = np.array([True, True, True, True, False])
    found = features.scaled(values, seen=seen)
    filled = np.array([1, 3, 3, 5.0])  # the median of 1, 3, 5; fences at 2.5 - 1.5 and 3.5 + 1.5
    np.testing.assert_allclose(found[:4, 0], (filled - 3) / filled.std(), rtol=1e-6)
    assert found[4, 0] == pytest.approx((5 - 3) / filled.std(), rel=1e-6)  # within the fences
    np.testing.assert_array_equal(found[:4, 1], 0)
    values[4] = -1e6
    np.testing.assert_array_equal(features.scaled(values, seen=seen)[:4], found[:4])


def test_text_components_are_fitted_where_seen_alone():
    texts = ["blue cat", "blue dog", "red dog", "red cat", "green whale"]
    seen = np.array([True, True, True, True, False])
    found = features.text_components(texts, seen=seen, num=2)
    assert found.shape == (5, 2)
    assert found[:4].std(axis=0).min() > 0.1
    other = features.text_components([*texts[:4], "blue blue blue"], seen=seen, num=2)
    np.testing.assert_allclose(other[:4], found[:4], atol=1e-6)
    assert np.abs(other[4] - found[4]).max() > 0.1


def test_movielens_features_are_of_training_rows_and_in_the_order_of_users_and_items():
    users = pd.DataFrame({"gender": list("FMMF"), "age": [25, 1, 25, 50], "occupation": [4, 4, 0, 9]})
    titles, genres = ["A (1995)", "B: C (1962)", None], ["Drama|Comedy", "Comedy", None]
    movies = pd.DataFrame({"title": titles, "genres": genres})
    train = made([(0, 0, 5 * DAY), (1, 0, 9 * DAY), (1, 1, 8 * DAY)])
    side = features.movielens(train, users, movies)
    np.testing.assert_array_equal(side.user_ids, [[0, 3, 6], [1, 2, 6], [1, 3, 5], [0, 4, 7]])
    np.testing.assert_array_equal(side.item_ids, [[2], [1], [0]])
    np.testing.assert_allclose(side.item_values[:, :2], [[0.5**0.5, 0.5**0.5], [1, 0], [0, 0]])  # Comedy, Drama
    assert side.user_values.shape == (4, 3)
    assert side.item_values.shape == (3, 2 + 4)
    assert side.user_values[1, 0] > side.user_values[0, 0]
    np.testing.assert_array_equal(side.user_crossed, [[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 2, 2]])
    np.testing.assert_array_equal(side.item_crossed, [[2] * 3, [1] * 3, [0] * 3])
    assert np.isfinite(side.user_values).all()
    assert np.isfinite(side.item_values).all()


def test_times_that_are_not_there_and_tables_of_another_length_are_refused():
    data = made([(1, 0, 0)], timed=False)
    with pytest.raises(ValueError, match="until=3"):
        features.histories(data, until=3)
    with pytest.raises(ValueError, match="with timestamps"):
        features.before_each(data)
    with pytest.raises(ValueError, match="4 rows of users, got 1"):
        features.movielens(data, pd.DataFrame({"gender": ["F"]}), pd.DataFrame())
