"""The certificate in worlds small enough to try everything: all votes a base model could cast, all fake profiles."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrec import bagging
from jaxrec.certificates import pore
from jaxrec.types import InputError


def with_all(counts, relevant):
    """Counts [n, I], the same relevant items for each, and all items as candidates."""
    return counts, np.repeat(relevant, len(counts), axis=0), np.ones(counts.shape, bool)


def additions(num_items, num_draws, num_recommended):
    """All vote counts [n, I] that base models of so many draws can add: each recommends as many items, none twice."""
    each = itertools.product(range(num_draws + 1), repeat=num_items)
    return np.array([votes for votes in each if sum(votes) == num_draws * num_recommended])


@pytest.mark.parametrize(("num_recommended", "k"), [(1, 2), (2, 2), (2, 3), (3, 4)])
def test_it_is_exactly_what_the_worst_base_models_leave(num_recommended, k):
    """Draws of 2 of 4 users and one or two fakes; those with a fake in them may vote for anything, and here do."""
    num_users, num_items, rng = 4, 5, np.random.default_rng(k)
    num_clean = math.comb(num_users, 2)
    differ = 0
    for world in range(12):
        drawn = [rng.choice(num_items, num_recommended, replace=False) for _ in range(num_clean)]
        if world == 0:  # where all agree, no one item can be raised to the level of theirs
            drawn = [np.arange(num_recommended)] * num_clean
        clean = np.bincount(np.ravel(drawn), minlength=num_items)[None]
        relevant = np.zeros((1, num_items), bool)
        relevant[0, rng.choice(num_items, rng.integers(1, 4), replace=False) if world else drawn[0]] = True
        found = pore.certify(
            clean / num_clean, relevant, np.ones_like(relevant),
            num_users=num_users, num_sampled=2, num_recommended=num_recommended, num_fakes=(0, 1, 2), k=k,
        )[0]  # fmt: skip
        worst = [pore.listed(*with_all(clean, relevant), k=k).min()]
        for num_fakes in (1, 2):
            num_bad = math.comb(num_users + num_fakes, 2) - num_clean
            attacked = clean + additions(num_items, num_bad, num_recommended)
            worst.append(pore.listed(*with_all(attacked, relevant), k=k).min())
        np.testing.assert_array_equal(found, worst)
        differ += len(set(worst)) > 1
    assert differ > 2  # else nothing was attacked


@pytest.fixture(scope="module")
def small_world():
    """Seven users of six items, EASE of two of them, and what each pair out of users and all 64 profiles recommends."""
    profiles = np.array(list(itertools.product([0, 1], repeat=6)), np.float32)
    real = np.array(
        [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 0],
         [1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 0, 1], [1, 0, 1, 0, 1, 0]], np.float32,
    )  # fmt: skip
    pairs = jnp.asarray(np.concatenate([real, profiles]))
    drawn = np.array(list(itertools.combinations(range(len(pairs)), 2)), np.int32)
    bag = bagging.Bag(pairs, pairs @ pairs.T)
    score = jax.jit(jax.vmap(lambda pair: bagging.base_scores(bag, pair, 0.5, num_served=len(real))))
    first = np.asarray(score(drawn).argmax(axis=2))  # [pairs, users]
    chosen = np.zeros((len(pairs), len(pairs), len(real)), np.int64)
    chosen[drawn[:, 0], drawn[:, 1]] = chosen[drawn[:, 1], drawn[:, 0]] = first
    twins = np.asarray(score(np.repeat(np.arange(len(pairs), dtype=np.int32)[:, None], 2, axis=1)).argmax(axis=2))
    chosen[np.arange(len(pairs)), np.arange(len(pairs))] = twins  # two fakes of one profile
    return real, chosen


def counts_in(chosen, num_users, num_items, fakes):
    """Votes [U, I] of all pairs out of the real users and the fakes."""
    drawn = itertools.combinations([*range(num_users), *fakes], 2)
    return bagging.count(np.stack([chosen[pair] for pair in drawn])[:, :, None], num_items)


def test_no_fake_profiles_take_more_from_a_bagged_ease(small_world):
    """One fake of every profile, and two fakes of every pair of profiles."""
    real, chosen = small_world
    num_users, num_items = real.shape
    candidates = real == 0
    relevant = candidates & (np.random.default_rng(0).random(real.shape) < 0.6)
    clean = counts_in(chosen, num_users, num_items, ())
    certified = pore.certify(
        clean / math.comb(num_users, 2), relevant, candidates,
        num_users=num_users, num_sampled=2, num_recommended=1, num_fakes=(0, 1, 2), k=2,
    )  # fmt: skip
    np.testing.assert_array_equal(certified[:, 0], pore.listed(clean, relevant, candidates, k=2))
    every = range(num_users, len(chosen))
    worst = {0: certified[:, 0]}
    for num_fakes in (1, 2):
        kept = [
            pore.listed(counts_in(chosen, num_users, num_items, fakes), relevant, candidates, k=2)
            for fakes in itertools.combinations_with_replacement(every, num_fakes)
        ]
        worst[num_fakes] = np.min(kept, axis=0)
        assert (certified[:, num_fakes] <= worst[num_fakes]).all()
    assert certified[:, 1].sum() > 2  # something is certified
    assert worst[2].sum() < worst[0].sum()  # and something is lost


@pytest.fixture(scope="module")
def voted():
    """Votes of 400 base models for twenty users of thirty items, some of which stand far above the others."""
    rng = np.random.default_rng(1)
    odds = rng.dirichlet(np.full(30, 0.15), 20)
    counts = np.stack([rng.multinomial(400, row) for row in odds])
    relevant = rng.random(counts.shape) < 0.3
    relevant[:, 0] = True
    return counts, relevant, ~relevant | (rng.random(counts.shape) < 0.9)


def test_it_never_grows_with_the_number_of_fakes_and_starts_at_or_below_what_is_listed(voted):
    counts, relevant, candidates = voted
    sound = pore.bounds(counts, relevant, num_models=400)
    settings = {"num_users": 200, "num_sampled": 10, "num_recommended": 1, "num_fakes": range(51), "k": 5}
    kept = pore.certify(sound, relevant, candidates, **settings)
    assert (np.diff(kept, axis=1) <= 0).all()
    listed = pore.listed(counts, relevant, candidates, k=5)
    assert (kept[:, 0] <= listed).all()
    assert (kept[:, 0] < listed).any()  # votes of 400 models are not probabilities
    exact = pore.certify(counts / 400, relevant, candidates, **settings)
    assert (kept <= exact).all()
    assert kept[:, 0].sum() > kept[:, 20].sum() > 0
    backwards = pore.certify(sound, relevant, candidates, **{**settings, "num_fakes": range(50, -1, -1)})
    np.testing.assert_array_equal(backwards[:, ::-1], kept)


def test_what_is_listed_is_what_a_sort_with_ties_against_relevant_items_lists(voted):
    counts, relevant, candidates = voted
    found = pore.listed(counts, relevant, candidates, k=5)
    for user in range(len(counts)):
        order = sorted(np.flatnonzero(candidates[user]), key=lambda item: (-counts[user, item], relevant[user, item]))
        assert found[user] == relevant[user, order[:5]].sum()


def test_bounds_are_those_of_clopper_and_pearson_at_alpha_over_their_number(voted):
    counts, relevant, _ = voted
    found = pore.bounds(counts, relevant, num_models=400, alpha=0.01)
    for user, item in ((0, 0), (1, 0), (2, 3), (5, 7), (11, 13), (19, 29), (3, 0)):
        test = scipy.stats.binomtest(
            int(counts[user, item]), 400, alternative="greater" if relevant[user, item] else "less"
        )
        interval = test.proportion_ci(1 - 0.01 / 600, method="exact")
        expected = interval.low if relevant[user, item] else interval.high
        assert found[user, item] == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("num_users", "num_sampled", "num_fakes"), [(4, 2, 1), (5, 3, 2), (3, 3, 2), (6, 1, 0)])
def test_overlap_is_the_share_of_draws_without_a_fake(num_users, num_sampled, num_fakes):
    drawn = list(itertools.combinations(range(num_users + num_fakes), num_sampled))
    expected = sum(max(users) < num_users for users in drawn) / len(drawn)
    assert pore.overlap(num_users, num_sampled, num_fakes) == pytest.approx(expected, rel=1e-12)


def test_overlap_of_large_numbers_is_their_product():
    expected = math.prod((943 - place) / (993 - place) for place in range(200))
    assert pore.overlap(943, 200, 50) == pytest.approx(expected, rel=1e-9)


def test_figures_are_their_formulas():
    found = pore.figures(np.array([[2, 1], [0, 0]]), np.array([4, 1]), 10)
    np.testing.assert_allclose(found["precision"], [[0.2, 0.1], [0, 0]])
    np.testing.assert_allclose(found["recall"], [[0.5, 0.25], [0, 0]])
    p, r = 0.2, 0.5
    assert found["f1"][0, 0] == pytest.approx(2 * p * r / (p + r))


def test_what_just_pays_for_a_tie_is_not_certified_by_rounding():
    """q = C(6, 2) / C(7, 2) = 15 / 21: of 21 draws 8 vote for the relevant item, 2 for the other, 6 have the fake."""
    assert 15 / 21 * 8 / 15 > 15 / 21 * 2 / 15 + (1 - 15 / 21)  # in float64; of fractions they are equal
    found = pore.certify(
        np.array([[8 / 15, 2 / 15]]), np.array([[True, False]]), np.ones((1, 2), bool),
        num_users=6, num_sampled=2, num_recommended=1, num_fakes=(1,), k=1,
    )  # fmt: skip
    assert found == 0


def test_a_list_that_holds_all_items_cannot_be_taken_from():
    relevant = np.array([[True, False, True]])
    found = pore.certify(
        np.array([[0.0, 1.0, 0.0]]), relevant, np.ones_like(relevant),
        num_users=10, num_sampled=5, num_recommended=1, num_fakes=(0, 50), k=3,
    )  # fmt: skip
    np.testing.assert_array_equal(found, [[2, 2]])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"num_sampled": 11}, ValueError, r"num_sampled in \[1, 10\], the users, got num_sampled=11"),
        ({"num_sampled": 0}, ValueError, "num_sampled=0"),
        ({"num_fakes": (0, -1)}, ValueError, "num_fakes >= 0, got num_fakes=-1"),
        ({"num_recommended": 0}, ValueError, "num_recommended=0"),
        ({"k": 4}, InputError, "k=4"),
    ],
)
def test_bad_input_is_refused_by_name(wrong, error, message):
    given = {"num_users": 10, "num_sampled": 5, "num_recommended": 1, "num_fakes": (0,), "k": 1}
    relevant = np.array([[True, False, True]])
    with pytest.raises(error, match=message):
        pore.certify(np.zeros((1, 3)), relevant, ~relevant | relevant, **{**given, **wrong})


def test_votes_and_users_that_cannot_be_are_refused():
    counts, relevant = np.array([[3, 0]]), np.array([[True, False]])
    with pytest.raises(ValueError, match="num_models=0"):
        pore.bounds(counts, relevant, num_models=0)
    with pytest.raises(ValueError, match=r"counts in \[0, 2\], got 0 to 3"):
        pore.bounds(counts, relevant, num_models=2)
    with pytest.raises(ValueError, match=r"alpha=1\.0"):
        pore.bounds(counts, relevant, num_models=3, alpha=1.0)
    with pytest.raises(ValueError, match="a user with none"):
        pore.figures(np.array([1, 0]), np.array([1, 0]), 10)
