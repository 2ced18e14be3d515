"""Tests and intervals: tiny cases by enumeration, agreement with SciPy, and what share of intervals cover the truth."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxrec import statistics


def enumerated_p(differences):
    """Two-sided p of all sign patterns, by the definition."""
    sums = [np.dot(signs, differences) for signs in itertools.product((-1, 1), repeat=len(differences))]
    return np.mean(np.abs(sums) >= abs(sum(differences)) - 1e-12)


@pytest.mark.parametrize("num_seeds", [1, 2, 5, 9])
def test_a_sign_flip_is_exact(num_seeds):
    rng = np.random.default_rng(num_seeds)
    for shift in (0.0, 0.5, 5.0):
        values, others = rng.normal(shift, 1, num_seeds), rng.normal(size=num_seeds)
        found = statistics.sign_flip_test(values, others)
        assert found.p_value == pytest.approx(enumerated_p(values - others))
        assert found.difference == pytest.approx((values - others).mean())
        assert found.smallest_p_value == 2 / 2**num_seeds
        assert found.p_value >= found.smallest_p_value


def test_the_smallest_p_is_reached_when_all_seeds_agree():
    assert statistics.sign_flip_test(np.arange(1.0, 6), np.zeros(5)).p_value == 2 / 2**5
    assert statistics.sign_flip_test(np.full(5, 0.1), np.zeros(5)).p_value == 2 / 2**5
    assert statistics.sign_flip_test(np.array([0.1]), np.zeros(1)).p_value == 1
    many = statistics.sign_flip_test(np.arange(1.0, 21), np.zeros(20), num_resamples=999)
    assert many.p_value == many.smallest_p_value == 2 / 1000


def test_identical_models_are_not_different():
    values = np.random.default_rng(0).random(50)
    assert statistics.randomisation_test(values, values, seed=0) == (0, 1, 1)
    assert statistics.sign_flip_test(values[:4], values[:4]) == (0, 1, 1)


def test_users_who_do_not_differ_change_nothing():
    rng = np.random.default_rng(1)
    values, others = rng.random(8), rng.random(8)
    padded = statistics.randomisation_test(np.r_[values, np.ones(90)], np.r_[others, np.ones(90)], seed=0)
    assert padded.p_value == statistics.randomisation_test(values, others, seed=0).p_value
    assert padded.p_value == pytest.approx(enumerated_p(values - others))
    assert padded.difference == pytest.approx((values - others).sum() / 98)


def test_randomisation_agrees_with_scipys_on_pairs():
    rng = np.random.default_rng(2)
    values = rng.random(60)
    others = values + rng.normal(0.03, 0.1, 60)
    found = statistics.randomisation_test(values, others, seed=0)
    pairs = stats.permutation_test(
        (values, others),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(5),
    )
    assert found.p_value == pytest.approx(pairs.pvalue, abs=0.02)  # each has a Monte Carlo error of about 0.003
    assert found == statistics.randomisation_test(values, others, seed=0)
    assert found != statistics.randomisation_test(values, others, seed=1)


def test_randomisation_holds_its_level():
    rng = np.random.default_rng(3)
    p_values = [
        statistics.randomisation_test(*rng.exponential(size=(2, 20)), seed=trial, num_resamples=199).p_value
        for trial in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.09  # 0.05 and 2.6 standard errors
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def crossed_values(rng, num_seeds, num_users):
    """Values of true mean 0 to which the seed, the user and their meeting each add something."""
    return (
        rng.normal(0, 0.3, (num_seeds, 1)) + rng.normal(size=(1, num_users)) + rng.normal(size=(num_seeds, num_users))
    )


def test_a_crossed_bootstrap_covers_where_pooling_does_not():
    rng = np.random.default_rng(4)
    trials = [crossed_values(rng, 12, 40) for _ in range(120)]
    crossed = [statistics.crossed_bootstrap(values, seed=0, num_resamples=200) for values in trials]
    pooled = [statistics.summary(values.ravel()) for values in trials]
    cover = lambda intervals: np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert cover(crossed) >= 0.88
    assert cover(pooled) <= 0.7


def test_of_three_seeds_that_vary_the_interval_covers_where_the_bootstrap_alone_does_not():
    rng = np.random.default_rng(9)
    trials = [rng.normal(size=(3, 1)) + crossed_values(rng, 3, 40) for _ in range(300)]
    options = {"seed": 0, "num_resamples": 200}
    cover = lambda interval: np.mean([low <= 0 <= high for _, low, high in (interval(v, **options) for v in trials)])
    assert cover(statistics.over_seeds_and_users) >= 0.93
    assert cover(statistics.crossed_bootstrap) <= 0.85


def test_from_ten_seeds_on_the_interval_is_the_bootstraps_and_before_it_holds_both():
    values = crossed_values(np.random.default_rng(10), 10, 40)
    assert statistics.over_seeds_and_users(values, seed=0) == statistics.crossed_bootstrap(values, seed=0)
    seeds_vary = values[:4] + np.array([[-3.0], [-1.0], [1.0], [3.0]])
    of_seeds = statistics.summary(seeds_vary.mean(axis=1))
    assert statistics.over_seeds_and_users(seeds_vary, seed=0)[1:] == (of_seeds.low, of_seeds.high)
    users_vary = np.tile(values[:1], (4, 1))
    assert statistics.over_seeds_and_users(users_vary, seed=0) == statistics.crossed_bootstrap(users_vary, seed=0)


def test_a_crossed_bootstrap_has_the_variance_of_its_two_axes():
    values = crossed_values(np.random.default_rng(5), 6, 30)
    seeds_only = np.repeat(values.mean(axis=1, keepdims=True), 30, axis=1)
    found = statistics.crossed_bootstrap(seeds_only, seed=0, num_resamples=4000, level=0.6827)
    expected = seeds_only[:, 0].std() / 6**0.5
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.08)
    users_only = np.repeat(values.mean(axis=0, keepdims=True), 6, axis=0)
    found = statistics.crossed_bootstrap(users_only, seed=0, num_resamples=4000, level=0.6827)
    assert (found.high - found.low) / 2 == pytest.approx(users_only[0].std() / 30**0.5, rel=0.08)


def test_a_difference_shares_its_users_and_not_its_seeds():
    rng = np.random.default_rng(6)
    users = 10 * rng.normal(size=(1, 50))
    values, others = users + rng.normal(size=(4, 1)), users + rng.normal(size=(3, 1))
    found = statistics.crossed_bootstrap(values, others, seed=0)
    assert found.mean == pytest.approx(values.mean() - others.mean())
    spread = (values[:, 0].var() / 4 + others[:, 0].var() / 3) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.15)  # nothing of the users' 10
    assert found == statistics.crossed_bootstrap(values, others, seed=0)


def test_nothing_varies():
    assert statistics.crossed_bootstrap(np.full((3, 7), 0.25), seed=0) == (0.25, 0.25, 0.25)
    assert statistics.summary(np.full(4, 0.25)) == (0.25, 0, 0.25, 0.25, 4)


def test_a_summary_is_the_t_interval():
    values = np.random.default_rng(7).random(5)
    found = statistics.summary(values, level=0.9)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert (found.mean, found.sd, found.num) == pytest.approx((values.mean(), values.std(ddof=1), 5))


def test_one_unit_has_no_spread():
    found = statistics.summary(np.array([0.5]))
    assert (found.mean, found.num, found.interval) == (0.5, 1, None)
    assert statistics.summary(np.array([0.5, 0.5])).interval == (0.5, 0.5)
    assert np.isnan([found.sd, found.low, found.high]).all()


def test_wrong_values_are_refused():
    ones = np.ones(3)
    wrong = [
        lambda: statistics.sign_flip_test(ones, np.ones(2)),
        lambda: statistics.sign_flip_test(ones, np.array([1, 2, np.nan])),
        lambda: statistics.sign_flip_test(np.ones(0), np.ones(0)),
        lambda: statistics.randomisation_test(ones, ones, seed=0, num_resamples=0),
        lambda: statistics.crossed_bootstrap(np.ones((1, 4)), seed=0),
        lambda: statistics.crossed_bootstrap(np.ones((2, 4)), np.ones((2, 3)), seed=0),
        lambda: statistics.crossed_bootstrap(np.ones((2, 4)), np.ones((1, 4)), seed=0),
        lambda: statistics.crossed_bootstrap(np.full((2, 4), np.inf), seed=0),
        lambda: statistics.crossed_bootstrap(np.ones((2, 4)), seed=0, num_resamples=0),
        lambda: statistics.summary(ones, level=1.0),
        lambda: statistics.summary(np.ones(0)),
    ]
    for call in wrong:
        with pytest.raises((ValueError, TypeError), match=r"Expected|Type-check"):
            call()


def test_holm_multiplies_by_what_is_left_and_never_falls():
    """.01 x 4, .02 x 3, .021 x 2 = .042, which may not be below .06, and .3 x 1."""
    adjusted = statistics.holm(np.array([0.02, 0.3, 0.01, 0.021]))
    np.testing.assert_allclose(adjusted, [0.06, 0.3, 0.04, 0.06])
    np.testing.assert_allclose(statistics.holm(np.array([0.6, 0.7])), [1, 1])


@pytest.mark.parametrize("values", [[], [0.5, -0.1], [1.2], [np.nan]])
def test_holm_refuses_what_is_no_p_value(values):
    with pytest.raises(ValueError, match="Expected"):
        statistics.holm(np.array(values))


def test_what_seeds_can_reach_does_not_hang_on_a_pair_that_is_equal():
    """As where validation chooses the very epoch that it is compared with."""
    base = np.random.default_rng(0).uniform(size=(7, 3))
    first, second = statistics.declared([(base, base), (base + 0.1, base)])
    assert (first.p_value, second.p_value) == (1, pytest.approx(2 * 2 / 2**7))
    assert first.smallest_p_value == second.smallest_p_value == second.p_value
    assert statistics.declared([(base, base)])[0].smallest_p_value == 1


def test_declared_comparisons_are_corrected_for_each_other():
    """Eight seeds that all agree, and eight of which half disagree."""
    base = np.random.default_rng(0).uniform(size=(8, 5))
    better = base + np.linspace(0.1, 0.2, 8)[:, None]
    mixed = base + np.array([0.1, -0.1] * 4)[:, None]
    first, second = statistics.declared([(better, base), (mixed, base)])
    assert first.p_value == first.smallest_p_value == pytest.approx(2 * 2 / 2**8)
    assert second.p_value == 1
    assert first.interval == statistics.over_seeds_and_users(better - base, seed=0)
    one_seed = statistics.declared([(better[:1], base[:1])])[0]
    assert (one_seed.p_value, one_seed.smallest_p_value) == (1, 1)
    assert one_seed.interval.mean == pytest.approx(0.1)
