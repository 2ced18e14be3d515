"""What is said of gradients and of attacks in equal time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import fake_profiles
from jaxrec.inner import ease
from jaxrec.models import ease as ease_model
from jaxrec.studies import injection_study, poison_victims
from jaxrec.types import Interactions

PAIRS = np.random.default_rng(2).random((9, 8)) < 0.45
PAIRS[:, 3] = np.arange(9) < 2
REAL = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(PAIRS)), num_users=9, num_items=8)
LAST = Interactions(*(ids.astype(np.int32) for ids in (np.arange(9), PAIRS.argmin(axis=1))), num_users=9, num_items=8)
BUDGET = fake_profiles.Budget(2, 3, "push")
SETTING = injection_study.Setting(REAL, LAST, BUDGET, step_size=0.3, temperature=0.1, seed=0, cutoff=4)
TARGET = 3
VICTIM = poison_victims.solved(functools.partial(ease_model.model, l2=1.0))


@pytest.fixture(scope="module")
def walkers():
    hull = injection_study.at_target(SETTING, TARGET)[1]
    return {l2: injection_study.walker(ease.surrogate(l2=l2), SETTING, hull) for l2 in (1.0, 30.0)}


def test_a_gradient_is_along_itself_and_another_is_less_so(walkers):
    found = injection_study.gradients(
        {"own": walkers[1.0], "again": walkers[1.0], "other": walkers[30.0]}, SETTING, TARGET
    )
    assert found["own"]["cosine"] == pytest.approx(1, abs=1e-6)
    assert found["again"]["cosine"] == pytest.approx(1, abs=1e-6)
    assert abs(found["other"]["cosine"]) < 0.999
    assert all(each["bytes"] > 0 and each["seconds"] >= 0 for each in found.values())


def test_a_walk_counts_the_steps_that_end_in_time(walkers, monkeypatch):
    clock = iter(np.repeat(np.arange(20), 2)[1:])  # each step takes one second, and nothing passes between
    monkeypatch.setattr(injection_study.time, "process_time", lambda: next(clock))
    walk = injection_study.walk(walkers[1.0], SETTING, TARGET, (0.5, 2.0, 2.5, 4.0))
    assert [reached["steps"] for reached in walk] == [0, 2, 2, 4]
    assert walk[0]["loss"] is None
    assert walk[1]["loss"] > walk[3]["loss"]
    assert np.array(walk[3]["fillers"]).shape == (2, 3)


def target_ndcg(pairs):
    """NDCG@4 of the target over the real users who do not know it, from a victim trained on the pairs [U, I]."""
    users, items = (ids.astype(np.int32) for ids in np.nonzero(pairs))
    model, params = VICTIM(Interactions(users, items, *pairs.shape), jax.random.key(0))
    scores = np.where(PAIRS, -np.inf, np.asarray(model.score_all(params, jnp.arange(9))))
    ranks = (scores >= scores[:, [TARGET]]).sum(axis=1)[~PAIRS[:, TARGET]]
    return np.where(ranks <= 4, 1 / np.log2(1 + ranks), 0).mean()


def test_a_victim_is_judged_with_the_fillers_and_the_target_in_every_fake():
    fillers = [0, 1, 2]
    fakes = np.isin(np.arange(8), [*fillers, TARGET])[None].repeat(2, axis=0)
    clean, attacked = (injection_study.judged(SETTING, TARGET, chosen, VICTIM) for chosen in (None, [fillers] * 2))
    assert clean["target_ndcg@4"] == pytest.approx(target_ndcg(PAIRS))
    assert attacked["target_ndcg@4"] == pytest.approx(target_ndcg(np.concatenate([PAIRS, fakes])))
    assert attacked["target_ndcg@4"] != pytest.approx(clean["target_ndcg@4"])
