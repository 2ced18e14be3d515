"""The outer loss of learned poisoning attacks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import injection, packed
from jaxrec.types import InputError, Interactions

USERS, ITEMS = np.array([0, 0, 1, 2], np.int32), np.array([0, 1, 2, 0], np.int32)
KNOWN = Interactions(USERS, ITEMS, num_users=3, num_items=4)
SCORES = np.array([[0.9, 0.1, 0.5, 0.2], [0.3, 0.6, 0.7, 0.1], [0.8, 0.2, 0.4, 0.6]], np.float32)


def test_it_is_the_formula_over_the_items_that_each_user_does_not_know(monkeypatch):
    monkeypatch.setattr(injection, "CHUNK", 2)  # two chunks, a place left over
    asked = lambda users: jnp.asarray(SCORES)[users]
    audience = injection.audience(KNOWN, np.array([2, 0]))
    found = jax.jit(lambda: injection.promotion(audience, asked, 0.5))()
    lse = lambda *scores: math.log(sum(math.exp(score / 0.5) for score in scores))
    losses = [lse(0.5, 0.2) - 0.5 / 0.5, lse(0.2, 0.4, 0.6) - 0.4 / 0.5, lse(0.3, 0.6, 0.1) - 0.3 / 0.5]
    assert float(found) == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_the_empirical_risk_is_the_mean_of_the_users_squared_errors(monkeypatch):
    monkeypatch.setattr(injection, "CHUNK", 2)  # two chunks, a place left over
    rows = packed.rows(KNOWN, injection.CHUNK)
    found = jax.jit(lambda: injection.empirical_risk(rows, lambda users: jnp.asarray(SCORES)[users]))()
    has = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
    assert float(found) == pytest.approx(((SCORES - has) ** 2).sum() / 3, rel=1e-6)


@pytest.mark.parametrize(("targets", "message"), [([], "at least one target"), ([4], "targets in")])
def test_wrong_targets_are_refused_by_name(targets, message):
    with pytest.raises(ValueError, match=message):
        injection.audience(KNOWN, np.array(targets, np.int32))


def test_a_user_who_knows_everything_changes_neither_the_loss_nor_its_gradient():
    full = Interactions(np.r_[USERS, [3] * 4].astype(np.int32), np.r_[ITEMS, range(4)].astype(np.int32), 4, 4)

    def of(known):
        audience = injection.audience(known, np.array([2, 0]))
        return jax.value_and_grad(lambda scores: injection.promotion(audience, lambda users: scores[users], 0.5))

    loss, gradient = jax.jit(of(full))(jnp.asarray(np.r_[SCORES, SCORES[:1]]))
    expected, slopes = jax.jit(of(KNOWN))(jnp.asarray(SCORES))
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(gradient, np.r_[slopes, np.zeros((1, 4))], rtol=1e-5, atol=1e-7)


def test_a_target_that_everyone_knows_is_refused():
    known = Interactions(np.arange(3, dtype=np.int32), np.full(3, 1, np.int32), num_users=3, num_items=4)
    with pytest.raises(InputError, match="got item 1, which everyone has"):
        injection.audience(known, np.array([2, 1]))
