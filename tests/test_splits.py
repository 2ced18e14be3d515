"""Splits: nothing is lost or doubled, the future stays in the test, and the seed alone decides what is drawn."""

import dataclasses

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from jaxrec import splits
from jaxrec.datasets import ml1m
from jaxrec.types import InputError, Interactions

law = hypothesis.settings(deadline=None, derandomize=True, max_examples=50)


def table(*rows, num_users=None, num_items=None, timed=True):
    """Interactions of (user, item, time) rows."""
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions(
        users=users.astype(np.int32),
        items=items.astype(np.int32),
        num_users=num_users or int(users.max()) + 1,
        num_items=num_items or int(items.max()) + 1,
        ratings=np.arange(len(users), dtype=np.float32),
        timestamps=times.astype(np.int64) if timed else None,
    )


@st.composite
def tables(draw):
    """Random interactions without repeated pairs, with few distinct times, so that many are equal."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=40, unique=True))
    times = draw(st.lists(st.integers(0, 9), min_size=len(pairs), max_size=len(pairs)))
    rows = [(user, item, time) for (user, item), time in zip(pairs, times, strict=True)]
    return table(*rows, num_users=7, num_items=8, timed=draw(st.booleans()))


def rows_of(*parts):
    """The rows of some interactions as a sorted list; `ratings` holds the row number, so that each row is unique."""
    columns = [
        np.concatenate([getattr(part, name) for part in parts]).tolist() for name in ("ratings", "users", "items")
    ]
    return sorted(zip(*columns, strict=True))


def same(first, second):
    return all(rows_of(a) == rows_of(b) for a, b in zip(first[:3], second[:3], strict=True))


def every_split(data, seed):
    """All splits that the data allow."""
    found = [
        splits.leave_one_out(data, seed=seed),
        splits.per_user_ratio(data, valid_fraction=0.2, test_fraction=0.3, seed=seed, by_time=False),
    ]
    if data.timestamps is not None:
        found.append(splits.per_user_ratio(data, valid_fraction=0.2, test_fraction=0.3, seed=seed, by_time=True))
        found.append(splits.global_temporal(data, valid_fraction=0.2, test_fraction=0.3))
    return found


@law
@hypothesis.given(tables(), st.integers(0, 3))
def test_every_split_holds_each_row_once(data, seed):
    for split in every_split(data, seed):
        assert rows_of(*split[:3]) == rows_of(data)
        for part in split[:3]:
            assert (part.num_users, part.num_items) == (data.num_users, data.num_items)
            assert (np.diff(part.ratings) > 0).all()  # in the order of the data


@law
@hypothesis.given(tables(), st.integers(0, 3))
def test_a_split_is_a_function_of_its_arguments(data, seed):
    for first, second in zip(every_split(data, seed), every_split(data, seed), strict=True):
        assert same(first, second)


def test_another_seed_draws_another_split():
    data = table(*[(user, item, 0) for user in range(6) for item in range(8)], timed=False)
    draw = lambda seed: [splits.leave_one_out(data, seed=seed), splits.per_user_ratio(data, seed=seed)]
    for first, second in zip(draw(0), draw(1), strict=True):
        assert not same(first, second)


@law
@hypothesis.given(tables(), st.integers(0, 3))
def test_leave_one_out_holds_out_two_rows_of_users_with_three(data, seed):
    split = splits.leave_one_out(data, seed=seed)
    enough = np.bincount(data.users, minlength=7) >= 3
    np.testing.assert_array_equal(np.bincount(split.test.users, minlength=7), enough)
    np.testing.assert_array_equal(np.bincount(split.valid.users, minlength=7), enough)


@law
@hypothesis.given(tables())
def test_leave_one_out_and_by_time_hold_out_each_users_latest(data):
    hypothesis.assume(data.timestamps is not None)
    for split in (splits.leave_one_out(data), splits.per_user_ratio(data, valid_fraction=0.3, by_time=True)):
        for user in range(7):
            train, valid, test = (list(part.timestamps[part.users == user]) for part in split[:3])
            assert sorted(train) + sorted(valid) + sorted(test) == sorted(train + valid + test)


def test_leave_one_out_breaks_equal_times_by_row_order():
    split = splits.leave_one_out(table((0, 3, 5), (0, 1, 5), (0, 2, 5), (0, 0, 5), (1, 0, 9), (1, 1, 8), (1, 2, 9)))
    assert list(zip(split.test.users, split.test.items, strict=True)) == [(0, 0), (1, 2)]
    assert list(zip(split.valid.users, split.valid.items, strict=True)) == [(0, 2), (1, 0)]


def test_leave_one_out_without_times_draws_every_item_alike():
    data = table((0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0), timed=False)
    drawn = [splits.leave_one_out(data, seed=seed) for seed in range(400)]
    for items in ([split.test.items[0] for split in drawn], [split.valid.items[0] for split in drawn]):
        counts = np.bincount(items, minlength=4)
        assert (np.abs(counts - 100) < 45).all()  # five standard deviations of a binomial(400, 1/4)


@law
@hypothesis.given(tables(), st.sampled_from([0.0, 0.1, 0.25, 0.5]), st.sampled_from([0.0, 0.1, 0.45]))
def test_global_temporal_never_tests_before_it_trains(data, valid_fraction, test_fraction):
    hypothesis.assume(data.timestamps is not None)
    split = splits.global_temporal(data, valid_fraction=valid_fraction, test_fraction=test_fraction)
    in_turn = np.concatenate([np.sort(part.timestamps) for part in split[:3]])
    np.testing.assert_array_equal(in_turn, np.sort(data.timestamps))
    assert len(split.test) == round(len(data) * test_fraction)
    assert len(split.valid) == round(len(data) * valid_fraction)


@pytest.mark.parametrize("by_time", [False, True])
def test_per_user_ratio_holds_out_the_floor_of_each_users_share(by_time):
    data = table(*[(0, item, item) for item in range(100)], *[(1, item, item) for item in range(4)], (2, 0, 0))
    split = splits.per_user_ratio(data, valid_fraction=0.5, test_fraction=0.29, by_time=by_time)
    assert np.bincount(split.test.users, minlength=3).tolist() == [29, 1, 0]
    assert np.bincount(split.valid.users, minlength=3).tolist() == [50, 2, 0]


def brute_core(pairs, k):
    """The k-core by removing one user or item at a time."""
    pairs = set(pairs)
    while True:
        for axis in (0, 1):
            ids = [pair[axis] for pair in pairs]
            few = next((one for one in ids if ids.count(one) < k), None)
            if few is not None:
                pairs = {pair for pair in pairs if pair[axis] != few}
                break
        else:
            return pairs


@law
@hypothesis.given(tables(), st.integers(1, 3))
def test_k_core_is_the_largest_part_with_k_of_each(data, k):
    data = dataclasses.replace(data, user_ids=np.arange(7) * 10, item_ids=np.array([f"item {i}" for i in range(8)]))
    expected = brute_core(zip(data.users.tolist(), data.items.tolist(), strict=True), k)
    if not expected:
        with pytest.raises(InputError, match=f"k={k}"):
            splits.k_core(data, k=k)
        return
    core = splits.k_core(data, k=k)
    assert set(zip(core.user_ids[core.users], core.item_ids[core.items], strict=True)) == {
        (user * 10, f"item {item}") for user, item in expected
    }
    assert min(np.bincount(core.users, minlength=core.num_users)) >= k
    assert min(np.bincount(core.items, minlength=core.num_items)) >= k
    assert len(core) == len(expected)
    assert (np.diff(core.ratings) > 0).all()


def test_k_core_numbers_what_had_no_ids():
    core = splits.k_core(table((1, 2, 0), (1, 4, 0), (3, 2, 0), (3, 4, 0), (0, 0, 0)), k=2)
    assert core.user_ids.tolist() == [1, 3]
    assert core.item_ids.tolist() == [2, 4]


def test_cold_masks_count_training_interactions():
    train = table((0, 0, 0), (0, 1, 0), (1, 1, 0), num_users=3, num_items=3)
    assert splits.cold_users(train, max_interactions=0).tolist() == [False, False, True]
    assert splits.cold_users(train, max_interactions=1).tolist() == [False, True, True]
    assert splits.cold_items(train, max_interactions=0).tolist() == [False, False, True]
    assert splits.cold_items(train, max_interactions=1).tolist() == [True, False, True]


def test_tail_is_all_but_the_most_popular_fifth():
    rows = [(user, item, 0) for item, count in enumerate([1, 3, 1, 4, 2, 3, 1, 1, 1]) for user in range(count)]
    train = table(*rows, num_items=10)
    assert np.flatnonzero(~splits.tail_items(train)).tolist() == [1, 3]  # 3 of 4 and, of those of 3, the lower number
    assert np.flatnonzero(~splits.tail_items(train, head_fraction=0.39)).tolist() == [1, 3, 5]
    assert splits.tail_items(train, head_fraction=0).all()
    assert not splits.tail_items(train, head_fraction=1).any()


@law
@hypothesis.given(tables(), st.integers(1, 9), st.integers(0, 3))
def test_negatives_are_distinct_and_unseen(data, num, seed):
    split = splits.leave_one_out(data, seed=seed)
    negatives = splits.sample_negatives(split, num=num, seed=seed)
    assert negatives.shape == (7, num)
    assert negatives.dtype == np.int32
    for user, row in enumerate(negatives.tolist()):
        unseen = set(range(8)) - set(data.items[data.users == user].tolist())
        drawn = row[: min(num, len(unseen))]
        assert set(drawn) <= unseen
        assert len(set(drawn)) == len(drawn)
        assert row[len(drawn) :] == [-1] * (num - len(drawn))
    np.testing.assert_array_equal(negatives, splits.sample_negatives(split, num=num, seed=seed))


def test_negatives_are_uniform():
    data = table((0, 1, 0), (0, 4, 1), (0, 5, 2), num_items=8)
    split = splits.leave_one_out(data)
    drawn = [splits.sample_negatives(split, num=2, seed=seed)[0] for seed in range(1000)]
    for place in (0, 1):
        counts = np.bincount([row[place] for row in drawn], minlength=8)
        assert (counts[[1, 4, 5]] == 0).all()
        assert (np.abs(counts[[0, 2, 3, 6, 7]] - 200) < 64).all()  # five standard deviations of a binomial(1000, 1/5)


def test_ml1m_holds_out_what_the_published_files_do(data_dir):
    """Of users 1 to 2999, whose ratings are all known: the same time, the item may be another one of that second."""
    data = ml1m.load(data_dir / "movielens-1m" / "ratings_users1-2999.dat.gz")
    split = splits.leave_one_out(data)
    published = pd.read_csv(data_dir / "ml-1m-leave-one-out" / "ml-1m.test.rating.xz", sep="\t", header=None)
    times = published.set_index(0)[3]  # user: time
    np.testing.assert_array_equal(split.test.timestamps, times.loc[split.test.users])
    assert len(split.test) == len(split.valid) == 2_999
    assert splits.tail_items(split.train).sum() == data.num_items - data.num_items // 5


TIMELESS = table((0, 0, 0), (0, 1, 0), (0, 2, 0), timed=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: splits.leave_one_out(TIMELESS, seed=-1), "integer seed >= 0, got seed=-1"),
        (lambda: splits.leave_one_out(TIMELESS, seed=True), "integer seed >= 0, got seed=True"),
        (lambda: splits.global_temporal(TIMELESS), "timestamps"),
        (lambda: splits.per_user_ratio(TIMELESS, by_time=True), "timestamps"),
        (lambda: splits.per_user_ratio(TIMELESS, test_fraction=1), r"test_fraction in \[0, 1\), got test_fraction=1"),
        (lambda: splits.per_user_ratio(TIMELESS, valid_fraction=float("nan")), "got valid_fraction=nan"),
        (lambda: splits.per_user_ratio(TIMELESS, valid_fraction=-0.1), "got valid_fraction=-0.1"),
        (lambda: splits.per_user_ratio(TIMELESS, valid_fraction=0.5, test_fraction=0.5), "< 1"),
        (lambda: splits.k_core(TIMELESS, k=0), "integer k >= 1, got k=0"),
        (lambda: splits.cold_users(TIMELESS, max_interactions=-1), "max_interactions=-1"),
        (lambda: splits.cold_items(TIMELESS, max_interactions=-2), "max_interactions=-2"),
        (lambda: splits.tail_items(TIMELESS, head_fraction=1.5), "head_fraction=1.5"),
        (lambda: splits.sample_negatives(splits.leave_one_out(TIMELESS), num=0), "num=0"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("timed", [True, False])
def test_joined_parts_are_the_rows_of_the_first_and_then_of_the_second(timed):
    data = table((0, 0, 3), (0, 1, 1), (1, 2, 2), (1, 0, 5), num_users=4, num_items=6, timed=timed)
    both = splits.joined(data.take(np.array([2, 3])), data.take(np.array([0])))
    expected = data.take(np.array([2, 3, 0]))
    assert (both.num_users, both.num_items) == (4, 6)
    for name in ("users", "items", "ratings", "timestamps"):
        np.testing.assert_array_equal(getattr(both, name), getattr(expected, name))


def test_the_first_users_keep_their_ids():
    whole = dataclasses.replace(table((0, 1, 0), (1, 0, 1), (2, 2, 2), (1, 2, 3)), user_ids=np.array([3, 5, 8]))
    for part in splits.first_users(splits.leave_one_out(whole)._replace(test=whole), num=2)[:3]:
        assert (part.num_users, part.num_items) == (2, 3)
        assert part.user_ids.tolist() == [3, 5]
        assert part.users.max(initial=0) < 2


def test_planted_clicks_are_new_to_their_users_and_the_share_that_was_asked():
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.uniform(size=(40, 90)) < 0.3)
    rows = [(user, item, time) for time, (user, item) in enumerate(zip(users, items, strict=True))]
    split = splits.leave_one_out(table(*rows, num_users=41, num_items=90))
    planted = splits.with_false_positives(split, share=0.25, seed=3)
    num_true = len(split.train)
    np.testing.assert_array_equal(planted.train.users[:num_true], split.train.users)
    np.testing.assert_array_equal(planted.train.items[:num_true], split.train.items)
    added = planted.train.take(np.arange(num_true, len(planted.train)))
    true = np.bincount(split.train.users, minlength=41)
    np.testing.assert_array_equal(np.bincount(added.users, minlength=41), np.rint(true / 3))
    pairs = [set(zip(part.users.tolist(), part.items.tolist(), strict=True)) for part in (*split[:3], added)]
    assert sum(map(len, pairs)) == len(set.union(*pairs)) == len(planted.train) + len(split.valid) + len(split.test)
    assert (planted.valid, planted.test) == (split.valid, split.test)
    assert planted.train.timestamps is None
    other = splits.with_false_positives(split, share=0.25, seed=4)
    assert (other.train.items != planted.train.items).any()


def test_no_planted_clicks_are_asked_for_or_too_many():
    split = splits.leave_one_out(table(*((0, item, item) for item in range(6)), num_items=8))
    assert len(splits.with_false_positives(split, share=0.0).train) == len(split.train)
    assert len(splits.with_false_positives(split, share=0.9).train) == len(split.train) + 2, "there are no more"
    for share in (1.0, -0.1, float("nan"), True):
        with pytest.raises(InputError, match=r"Expected share in \[0, 1\)"):
            splits.with_false_positives(split, share=share)
