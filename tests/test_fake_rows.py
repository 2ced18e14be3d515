"""Steps of learned fake rows: they stay in the hull of what a budget allows, and lower the outer loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxrec import fake_rows, injection
from jaxrec.fake_profiles import Budget
from jaxrec.inner import ease
from jaxrec.types import Interactions

FREE = np.array([True, True, False, True, True, False, True])
HULL = fake_rows.Hull(jnp.asarray(FREE), jnp.array([0.0, 0, 1, 0, 0, 0, 0]), 2)
ROWS = 2 * np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
PAIRS = np.random.default_rng(2).random((9, 7)) < 0.45
REAL = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(PAIRS)), num_users=9, num_items=7)
TARGET = np.array([2])


def test_the_projection_is_the_nearest_point_of_the_hull():
    found = np.asarray(jax.jit(fake_rows.project)(jnp.asarray(ROWS), HULL))
    np.testing.assert_array_equal(found[:, ~FREE], [[1, 0]] * 3)
    for row, values in zip(found[:, FREE], ROWS[:, FREE].astype(float), strict=True):
        budget = {"type": "eq", "fun": lambda point: point.sum() - 2}
        distance = lambda point, values=values: ((point - values) ** 2).sum()
        nearest = scipy.optimize.minimize(distance, np.full(5, 0.4), bounds=[(0, 1)] * 5, constraints=budget)
        np.testing.assert_allclose(row, nearest.x, atol=1e-4)


def test_a_profile_is_its_own_projection_and_rounding():
    profile = jnp.array([[1.0, 0, 1, 0, 1, 0, 0]])
    np.testing.assert_allclose(fake_rows.project(profile, HULL), profile, atol=1e-6)
    assert sorted(fake_rows.fillers(profile, HULL)[0].tolist()) == [0, 4]


def test_rounding_takes_the_largest_free_entries():
    rows = jnp.array([[0.1, 0.5, 1.0, 0.4, 0.2, 0.9, 0.45]])
    assert sorted(fake_rows.fillers(rows, HULL)[0].tolist()) == [1, 6]


def walked(sign):
    surrogate = ease.surrogate(l2=1.0)
    data, outer = surrogate.prepare(REAL, 2), injection.promoting(injection.audience(REAL, TARGET), 0.1)
    rows, losses = fake_rows.noise(jax.random.key(0), 2, HULL), []
    for _ in range(4):
        rows, _, (loss, _) = fake_rows.step(surrogate, data, outer, HULL, sign * 0.2, rows, ())
        losses.append(float(loss))
        np.testing.assert_allclose(rows[:, FREE].sum(axis=1), 2, atol=1e-5)
        assert float(rows.min()) >= 0
        assert float(rows.max()) <= 1
    return losses


def test_steps_lower_the_loss_of_a_push_and_raise_that_of_a_nuke():
    down, up = walked(1), walked(-1)
    assert all(np.diff(down) < 0)
    assert all(np.diff(up) > 0)


def test_learned_fillers_promote_better_than_where_they_started():
    def loss(num_steps):
        learned = fake_rows.attack(Budget(2, 2, "push"), surrogate, num_steps=num_steps, step_size=0.3, temperature=0.1)
        fakes = learned(jax.random.key(0), REAL, TARGET)
        rows = np.zeros((2, 7), np.float32)
        rows[fakes.users, fakes.items] = 1
        assert (rows[:, 2] == 1).all()
        return float(injection.inner(surrogate, data, outer, (), jnp.asarray(rows))[0][0])

    surrogate = ease.surrogate(l2=1.0)
    data, outer = surrogate.prepare(REAL, 2), injection.promoting(injection.audience(REAL, TARGET), 0.1)
    assert loss(10) < loss(0) - 0.05


@pytest.mark.parametrize(("name", "value"), [("num_steps", -1), ("step_size", 0.0), ("temperature", float("nan"))])
def test_wrong_settings_are_refused_by_name(name, value):
    settings = {"num_steps": 1, "step_size": 1.0, "temperature": 0.1} | {name: value}
    with pytest.raises(ValueError, match=f"{name}={value}"):
        fake_rows.attack(Budget(1, 1, "push"), ease.surrogate(), **settings)
