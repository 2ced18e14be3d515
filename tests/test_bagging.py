"""Base models against EASE solved on the sampled users, and votes against counting them one by one."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import bagging
from jaxrec.models import ease
from jaxrec.types import InputError, Interactions

NUM_USERS, NUM_ITEMS = 8, 10


@pytest.fixture(scope="module")
def known():
    """Eight users, each with three or four of ten items."""
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, NUM_ITEMS + 1)
    rows = [rng.choice(NUM_ITEMS, rng.integers(3, 5), replace=False, p=odds / odds.sum()) for _ in range(NUM_USERS)]
    users = np.repeat(np.arange(NUM_USERS), [len(row) for row in rows])
    return Interactions(users.astype(np.int32), np.concatenate(rows).astype(np.int32), NUM_USERS, NUM_ITEMS)


def test_a_base_model_is_ease_of_the_sampled_users_that_serves_all(known):
    sampled = np.array([1, 4, 6], np.int32)
    found = np.asarray(bagging.base_scores(bagging.prepare(known), jnp.asarray(sampled), 0.7, num_served=6))
    model = ease.model(num_users=NUM_USERS, num_items=NUM_ITEMS, l2=0.7)
    params = model.solve(known.take(np.isin(known.users, sampled)), jax.random.key(0))
    expected = np.asarray(model.score_all(model.knowing(params, known), jnp.arange(6)))
    has = np.zeros((NUM_USERS, NUM_ITEMS), bool)
    has[known.users, known.items] = True
    np.testing.assert_allclose(found[~has[:6]], expected[~has[:6]], rtol=2e-5, atol=2e-6)
    assert (found[has[:6]] == -np.inf).all()


@pytest.fixture(scope="module")
def cast(known):
    ensemble = bagging.Ensemble(num_sampled=3, num_recommended=2, l2=0.7)
    make = lambda first, num, **other: np.asarray(
        bagging.votes(
            bagging.prepare(known), jax.random.key(1), first,
            ensemble=ensemble._replace(**other), num_models=num, num_served=6,
        )
    )  # fmt: skip
    return ensemble, make, make(0, 12)


def test_votes_are_the_best_of_what_a_user_does_not_have_in_the_model_of_that_sample(known, cast):
    ensemble, _, votes = cast
    assert votes.shape == (12, 6, 2)
    for number in (0, 7):
        sampled = bagging.sample(jax.random.key(1), number, num_users=NUM_USERS, num_sampled=3)
        scores = np.asarray(bagging.base_scores(bagging.prepare(known), sampled, ensemble.l2, num_served=6))
        chosen = np.take_along_axis(scores, votes[number], axis=1)
        np.testing.assert_allclose(chosen, -np.sort(-scores, axis=1)[:, :2], rtol=1e-4, atol=1e-6)
        assert np.isfinite(chosen).all()


def test_pieces_are_the_whole_and_so_are_batches(cast):
    _, make, votes = cast
    np.testing.assert_array_equal(np.concatenate([make(0, 6), make(6, 6)]), votes)
    assert (make(0, 12, batch_size=4) == votes).mean() > 0.95  # the same samples, in other roundings


def test_samples_are_uniform_over_subsets():
    """All ten pairs of five users in 3,000 samples, none further from its number than five standard deviations."""
    draw = jax.vmap(lambda number: bagging.sample(jax.random.key(2), number, num_users=5, num_sampled=2))
    drawn = collections.Counter(tuple(sorted(pair)) for pair in np.asarray(draw(jnp.arange(3000))).tolist())
    assert set(drawn) == set(itertools.combinations(range(5), 2))
    assert max(abs(times - 300) for times in drawn.values()) < 5 * (300 * 0.9) ** 0.5


def test_counts_are_votes_counted_one_by_one(cast):
    votes = cast[2]
    expected = np.zeros((6, NUM_ITEMS), int)
    for model, user, place in np.ndindex(votes.shape):
        expected[user, votes[model, user, place]] += 1
    np.testing.assert_array_equal(bagging.count(votes, NUM_ITEMS), expected)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"num_sampled": 9}, InputError, r"num_sampled in \[1, 8\], the users, got num_sampled=9"),
        ({"num_sampled": 0}, InputError, "num_sampled=0"),
        ({"num_recommended": 7}, InputError, r"in \[1, 6\], the catalogue of 10 items less the longest history, got"),
        ({"num_recommended": 0}, InputError, "num_recommended=0"),
        ({"l2": 0.0}, ValueError, r"l2=0\.0"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
    ],
)
def test_base_models_that_cannot_be_are_refused_by_name(known, wrong, error, message):
    with pytest.raises(error, match=message):
        bagging.check(known, bagging.Ensemble(**{"num_sampled": 3, **wrong}))
