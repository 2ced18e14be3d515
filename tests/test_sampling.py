"""Laws of the order of examples and of their negatives, against slow loops in NumPy."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.stats

from jaxrec import sampling
from jaxrec.types import Interactions


def make_data(num_users=30, num_items=12, num_rows=200, seed=0) -> Interactions:
    """Distinct pairs; some users may have none."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(num_users * num_items, num_rows, replace=False)
    users, items = np.divmod(pairs, num_items)
    return Interactions(users.astype(np.int32), items.astype(np.int32), num_users, num_items)


def seen_by(data: Interactions, user: int) -> set[int]:
    return set(data.items[data.users == user].tolist())


# The order.


@pytest.mark.parametrize("name", sampling.SAMPLERS)
@pytest.mark.parametrize("num_rows", [1, 200])
def test_an_order_holds_every_row_once_and_is_a_function_of_seed_and_epoch(name, num_rows):
    data, sampler = make_data(num_rows=num_rows), sampling.SAMPLERS[name]
    order = sampler(data, seed=3, epoch=1)
    np.testing.assert_array_equal(np.sort(order), np.arange(num_rows))
    np.testing.assert_array_equal(order, sampler(data, seed=3, epoch=1))
    if num_rows > 1:
        assert (order != sampler(data, seed=3, epoch=2)).any()
        assert (order != sampler(data, seed=4, epoch=1)).any()


def slow_buffer(data: Interactions, seed: int, epoch: int, buffer_size: int) -> list[int]:
    """`user_blocked` as one writes it: fill a buffer, give out a random place, put the next row there."""
    rng = np.random.default_rng((seed, epoch))
    turn = rng.permutation(data.num_users)
    queue = [row for user in np.argsort(turn) for row in range(len(data)) if data.users[row] == user]
    size = min(buffer_size, len(queue))
    buffer, queue, out = queue[:size], queue[size:], []
    for place, row in zip(rng.integers(size, size=len(queue)), queue, strict=True):
        out.append(buffer[place])
        buffer[place] = row
    return out + [buffer[place] for place in rng.permutation(size)]


@pytest.mark.parametrize("buffer_size", [1, 2, 17, 199, 200, 1000])
def test_user_blocked_is_a_sequential_shuffle_buffer(buffer_size):
    data = make_data()
    order = sampling.user_blocked(data, seed=5, epoch=2, buffer_size=buffer_size)
    assert order.tolist() == slow_buffer(data, 5, 2, buffer_size)


def test_a_buffer_of_one_gives_each_user_in_one_stretch():
    data = make_data()
    users = data.users[sampling.user_blocked(data, seed=0, epoch=0, buffer_size=1)]
    assert (np.diff(users) != 0).sum() + 1 == len(np.unique(users))


def test_the_buffer_is_a_uniform_permutation_when_it_holds_everything():
    first = [sampling._through_buffer(np.random.default_rng(seed), 4, 4)[0] for seed in range(2000)]
    assert scipy.stats.chisquare(np.bincount(first, minlength=4)).pvalue > 1e-3


def test_user_blocked_batches_have_far_fewer_distinct_users():
    rng = np.random.default_rng(0)
    users = rng.integers(1000, size=50_000).astype(np.int32)
    data = Interactions(users, np.zeros_like(users), 1000, 1)

    def distinct(order):
        first = sampling.batches(data, order, batch_size=500, first=20, num=10)
        return np.mean([len(np.unique(batch)) for batch in first["users"]])

    shuffled = distinct(sampling.shuffled(data, seed=0, epoch=0))
    blocked = distinct(sampling.user_blocked(data, seed=0, epoch=0, buffer_size=1000))
    assert shuffled > 350  # 1000 * (1 - (1 - 1/1000)^500) = 394
    assert blocked < shuffled / 3


def test_a_buffer_of_nothing_is_refused():
    with pytest.raises(ValueError, match="buffer_size >= 1, a whole number, got buffer_size=0"):
        sampling.user_blocked(make_data(), seed=0, epoch=0, buffer_size=0)


# Batches.


@pytest.mark.parametrize(("batch_size", "padded_size"), [(7, None), (7, 8), (200, 200), (512, 512), (1, 4)])
def test_batches_hold_every_pair_once_and_pad_the_last(batch_size, padded_size):
    data = make_data()
    order = sampling.shuffled(data, seed=0, epoch=0)
    num = -(-len(data) // batch_size)
    stacked = sampling.batches(data, order, batch_size=batch_size, first=0, num=num, padded_size=padded_size)
    where = stacked["where"]
    assert {name: x.dtype for name, x in stacked.items()} == {"users": np.int32, "pos": np.int32, "where": bool}
    assert {x.shape for x in stacked.values()} == {(num, padded_size or batch_size)}
    assert (where.sum(axis=1)[:-1] == batch_size).all()
    assert where[-1].sum() == len(data) - (num - 1) * batch_size
    np.testing.assert_array_equal(stacked["users"][where], data.users[order])
    np.testing.assert_array_equal(stacked["pos"][where], data.items[order])
    assert not stacked["users"][~where].any()
    assert not stacked["pos"][~where].any()


def test_batches_of_rated_pairs_hold_the_ratings_at_the_same_places():
    data = make_data()
    ratings = np.arange(1, len(data) + 1, dtype=np.float32)
    data = dataclasses.replace(data, ratings=ratings)
    order = sampling.shuffled(data, seed=0, epoch=0)
    stacked = sampling.batches(data, order, batch_size=7, first=0, num=-(-len(data) // 7), padded_size=8)
    assert stacked["ratings"].dtype == np.float32
    np.testing.assert_array_equal(stacked["ratings"][stacked["where"]], ratings[order])
    assert not stacked["ratings"][~stacked["where"]].any()


def test_chunks_of_an_epoch_are_stretches_of_the_whole():
    data = make_data()
    order = sampling.shuffled(data, seed=0, epoch=0)
    whole = sampling.batches(data, order, batch_size=32, first=0, num=7)
    parts = [
        sampling.batches(data, order, batch_size=32, first=first, num=num) for first, num in ((0, 3), (3, 3), (6, 1))
    ]
    for name, x in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), x)


# Negatives.


negatives = jax.jit(sampling.negatives, static_argnames="count")


def draw(data: Interactions, users: np.ndarray) -> np.ndarray:
    return np.asarray(negatives(jax.random.key(0), users, sampling.seen(data)))


def test_negatives_are_uniform_over_the_unseen_items():
    data = make_data(num_users=6, num_items=12, num_rows=36)
    users = np.arange(36_000, dtype=np.int32) % 6
    drawn = draw(data, users)
    for user in range(6):
        counts = np.bincount(drawn[users == user], minlength=12)
        unseen = sorted(set(range(12)) - seen_by(data, user))
        assert counts[unseen].sum() == 6000, "a seen item was drawn"
        assert scipy.stats.chisquare(counts[unseen]).pvalue > 1e-3


def test_users_at_the_edges_get_exactly_their_unseen_items():
    # User by user, of 9 items: nothing seen first and last; all but the last, the first, a middle one; ends; a repeat.
    items = [
        [],
        [0, 1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 4, 5, 6, 7, 8],
        [8, 7, 6, 5, 3, 2, 1, 0],
        [8],
        [0],
        [3, 3, 4, 3],
        [],
    ]
    users = np.repeat(np.arange(8), [len(own) for own in items]).astype(np.int32)
    data = Interactions(users, np.concatenate(items).astype(np.int32), 8, 9)
    drawn = draw(data, np.repeat(np.arange(8), 400).astype(np.int32)).reshape(8, 400)
    for user, own in enumerate(items):
        assert set(drawn[user].tolist()) == set(range(9)) - set(own)


def test_ids_near_the_end_of_large_tables():
    num_items = 1_000_003
    items = np.arange(num_items - 5, num_items, dtype=np.int32)[[0, 1, 3, 4]]  # all but the third from the end
    data = Interactions(np.zeros(4, np.int32), items, 1, num_items)
    drawn = draw(data, np.zeros(4096, np.int32))
    assert not np.isin(drawn, items).any()
    assert drawn.min() < 2000
    assert num_items - 4000 < drawn.max() < num_items


def test_a_user_who_has_seen_everything_gets_the_last_item():
    data = Interactions(np.zeros(4, np.int32), np.arange(4, dtype=np.int32), 2, 4)
    assert set(draw(data, np.zeros(50, np.int32)).tolist()) == {3}


@pytest.mark.parametrize("count", [2, 4])
def test_negatives_do_not_depend_on_the_number_of_devices(count):
    data = make_data()
    users = np.random.default_rng(0).integers(30, size=64).astype(np.int32)
    own = [
        negatives(jax.random.key(0), part, sampling.seen(data), index=index, count=count)
        for index, part in enumerate(np.split(users, count))
    ]
    np.testing.assert_array_equal(np.concatenate(own), draw(data, users))


def test_a_batch_that_is_padded_for_more_devices_draws_the_same_negatives():
    data = make_data()
    users = np.random.default_rng(0).integers(30, size=61).astype(np.int32)
    np.testing.assert_array_equal(draw(data, np.r_[users, np.zeros(3, np.int32)])[:61], draw(data, users))


def test_users_without_an_unseen_item_are_left_out():
    users = np.array([0, 1, 0, 2, 0, 1], np.int32)
    items = np.array([2, 1, 0, 2, 1, 1], np.int32)  # user 1 has one pair twice, which is no third item
    data = Interactions(users, items, 3, 3)
    kept = sampling.with_unseen_items(data)
    np.testing.assert_array_equal(kept.users, [1, 2, 1])
    np.testing.assert_array_equal(kept.items, [1, 2, 1])
    assert (kept.num_users, kept.num_items) == (3, 3)
    assert sampling.with_unseen_items(kept) is kept


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_draws_by_popularity_are_those_of_unseen_items_by_weight(exponent):
    data = make_data(num_users=6, num_items=12, num_rows=36)
    users = np.arange(24_000, dtype=np.int32) % 6
    draw = jax.jit(sampling.by_popularity(data, exponent=exponent, num=2))
    drawn = np.asarray(draw(jax.random.key(0), users, sampling.seen(data)))
    assert drawn.shape == (24_000, 2)
    weights = np.bincount(data.items, minlength=12) ** exponent
    assert len(set(weights)) > 2
    for user in range(6):
        counts = np.bincount(drawn[users == user].reshape(-1), minlength=12)
        possible = [item for item in range(12) if item not in seen_by(data, user) and weights[item] > 0]
        assert counts[possible].sum() == 8000, "an item was drawn that is seen, or that nobody has"
        expected = 8000 * weights[possible] / weights[possible].sum()
        assert scipy.stats.chisquare(counts[possible], expected).pvalue > 1e-3


def test_popularity_to_the_power_of_zero_is_uniform_over_all_unseen_items():
    data = Interactions(np.zeros(3, np.int32), np.array([0, 2, 2], np.int32), 2, 5)
    users = np.repeat(np.arange(2, dtype=np.int32), 4000)
    draw = jax.jit(sampling.by_popularity(data, exponent=0.0))
    drawn = np.asarray(draw(jax.random.key(0), users, sampling.seen(data)))
    for user, unseen in ((0, [1, 3, 4]), (1, [0, 1, 2, 3, 4])):
        counts = np.bincount(drawn[users == user], minlength=5)
        assert counts[unseen].sum() == 4000
        assert scipy.stats.chisquare(counts[unseen]).pvalue > 1e-3


def test_popularity_at_its_edges():
    """User 0 has seen all that can be drawn; user 1 nothing; the devices share the global batch's numbers."""
    data = Interactions(np.zeros(2, np.int32), np.array([1, 2], np.int32), 2, 4)
    draw = jax.jit(sampling.by_popularity(data, exponent=1.0), static_argnames="count")
    users = np.tile(np.array([0, 1], np.int32), 32)
    drawn = np.asarray(draw(jax.random.key(0), users, None))
    assert set(drawn[::2].tolist()) == {3}
    assert set(drawn[1::2].tolist()) == {1, 2}
    halves = [draw(jax.random.key(0), part, None, index=i, count=2) for i, part in enumerate(np.split(users, 2))]
    np.testing.assert_array_equal(np.concatenate(halves), drawn)
    with pytest.raises(ValueError, match="exponent=-1"):
        sampling.by_popularity(data, exponent=-1.0)
    with pytest.raises(ValueError, match="at least one"):
        sampling.by_popularity(data.take(np.arange(0)), exponent=1.0)
