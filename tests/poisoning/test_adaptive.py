"""Adaptive fakes: their statistics are those of the detectors, they pass, within the exchanges that they may make."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shilled
import sklearn.metrics

from jaxrec import fake_profiles, profile_statistics, profiles, provenance
from jaxrec.detectors import classifier, neural
from jaxrec.poisoning import adaptive, random_ratings

TARGETS, NUM_FAKES, NUM_FILLERS = np.array([120, 140]), 5, 20
START = random_ratings.attack(num_fakes=NUM_FAKES, num_fillers=NUM_FILLERS)


def crafted(kind="implicit", **options):
    return adaptive.wrap(START, **options)(jax.random.key(3), shilled.real(kind), TARGETS)


def plain(kind="implicit"):
    return START(jax.random.key(3), shilled.real(kind), TARGETS)


def rows(fakes):
    return profiles.matrix(fakes).toarray()


def test_statistics_are_those_of_the_whole_table():
    known = shilled.real("implicit")
    expected = profile_statistics.statistics(fake_profiles.contaminate(known, plain()))[shilled.NUM_USERS :]
    np.testing.assert_allclose(adaptive.statistics(rows(known), rows(plain())), expected, rtol=1e-5)


def test_candidates_statistics_are_those_of_the_exchange_made():
    known, start = rows(shilled.real("implicit")), rows(plain())
    may_go = ~np.isin(np.arange(shilled.NUM_ITEMS), TARGETS)
    slopes = np.random.default_rng(0).normal(size=(NUM_FAKES, 6)).astype(np.float32)
    goes, comes, after = map(np.asarray, adaptive._candidates(known, start, slopes, may_go, may_go))
    for fake, place in ((0, 0), (2, 17), (4, 63)):
        moved = start.copy()
        moved[fake, [goes[fake, place], comes[fake, place]]] = 0, 1
        assert moved[fake].sum() == start[fake].sum()
        np.testing.assert_allclose(after[fake, place], adaptive.statistics(known, moved)[fake], rtol=1e-4)


def test_the_first_candidate_is_the_best_of_all_pairs_on_a_statistic_that_is_linear():
    """Of rdma alone, by all exchanges of one fake in a loop."""
    known, start = rows(shilled.real("implicit")), rows(plain())
    may_go = ~np.isin(np.arange(shilled.NUM_ITEMS), TARGETS)
    slopes = np.zeros((NUM_FAKES, 6), np.float32)
    slopes[:, 0] = 1
    after = np.asarray(adaptive._candidates(known, start, slopes, may_go, may_go)[2])
    whole = np.concatenate([known, start])
    having = whole.sum(axis=0) - start[0] + 1
    rdma = (1 - having / len(whole)) / having / start[0].sum()
    free = (start[0] == 0) & may_go
    best = start[0] @ rdma - rdma[(start[0] > 0) & may_go].max() + rdma[free].min()
    assert after[0, :, 0].min() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("estimator", [neural.Perceptron(), classifier.forest()])
def test_a_detector_that_saw_the_fakes_does_not_see_them_once_they_know_it(estimator):
    detector = classifier.detector(estimator=estimator)
    aucs = []
    for fakes in (plain(), crafted(estimator=estimator, num_exchanges=10)):
        both = fake_profiles.contaminate(shilled.real("implicit"), fakes)
        aucs.append(sklearn.metrics.roc_auc_score(fake_profiles.is_fake(both, fakes), detector(both)))
    assert aucs[0] > 0.85
    assert aucs[1] < aucs[0] - 0.25


@pytest.mark.parametrize("num_exchanges", [1, 4])
def test_no_more_is_exchanged_than_may_be_and_targets_stay(num_exchanges):
    before, after = rows(plain()), rows(crafted(num_exchanges=num_exchanges))
    assert (np.clip(before - after, 0, 1).sum(axis=1) <= num_exchanges).all()
    assert (np.clip(before - after, 0, 1).sum() > 0).all()
    assert (before.sum(axis=1) == after.sum(axis=1)).all()
    assert after[:, TARGETS].all()


def test_without_an_exchange_they_are_the_poisons_own():
    assert provenance.fingerprint(crafted(num_exchanges=0)) == provenance.fingerprint(plain())


def test_what_comes_has_the_rating_of_what_went():
    before, after = plain("ratings"), crafted("ratings", num_exchanges=6)
    np.testing.assert_array_equal(before.users, after.users)
    np.testing.assert_array_equal(before.ratings, after.ratings)
    assert (before.items != after.items).sum() > 0


def test_the_mean_suspicion_never_ends_higher_even_if_every_step_misleads():
    """Of an attacker whose fakes are all led to the same item, which then is suspicious of all that share it."""
    known, start = jnp.asarray(rows(shilled.real("implicit"))), rows(plain())
    may = ~np.isin(np.arange(shilled.NUM_ITEMS), TARGETS)
    alike = lambda x: x[:, 2].astype(float)  # the degree of similarity, which copies of one another raise
    towards = lambda x: np.tile(np.eye(6, dtype=np.float32)[0], (len(x), 1))
    end = adaptive.exchanged(known, start, alike, towards, may, may, num_exchanges=5)
    suspicion = lambda rows: np.asarray(adaptive.statistics(known, rows))[:, 2].mean()
    assert suspicion(end) <= suspicion(start)


def test_fewer_than_no_exchanges_are_refused():
    with pytest.raises(ValueError, match="Expected num_exchanges >= 0, got num_exchanges=-1"):
        adaptive.attack(num_fakes=1, num_exchanges=-1)
