"""Exact surrogates: their solution is the model's, and their gradient what retraining with a little more would say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import injection
from jaxrec.inner import ease as inner_ease
from jaxrec.inner import ials as inner_ials
from jaxrec.models import ease, ials
from jaxrec.types import Interactions

NUM_USERS, NUM_ITEMS, NUM_FAKES, TARGETS = 9, 7, 2, np.array([2, 5])
PAIRS = np.random.default_rng(0).random((NUM_USERS, NUM_ITEMS)) < 0.45
PAIRS[3] = False  # a user without history
PAIRS[:, 5] = False  # an item never seen, and a target
WEIGHTED = {"dimension": 2, "l2": 0.05, "unobserved_weight": 0.3, "l2_exponent": 0.8}
ACCURATE = {"max_sweeps": 5000, "tolerance": 1e-13, "adjoint_steps": 500, "adjoint_tolerance": 1e-12}
EASE = {"l2": 1.5}
SMOOTH = np.random.default_rng(1).random((NUM_FAKES, NUM_ITEMS))  # inside the box, none an integer
FAKE_PAIRS = SMOOTH < 0.5


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def interactions(pairs):
    return Interactions(*(ids.astype(np.int32) for ids in np.nonzero(pairs)), *pairs.shape)


def prepared(surrogate):
    """The surrogate's data, its start, and the outer loss."""
    data = surrogate.prepare(interactions(PAIRS), NUM_FAKES)
    start = surrogate.init(data, jax.random.key(0), NUM_FAKES)
    return data, start, injection.promoting(injection.audience(interactions(PAIRS), TARGETS), 0.2)


def differences(loss, fakes, step=1e-5):
    """Central differences of `loss` by every entry of the fakes, each of which is a training to convergence."""
    moves = step * np.eye(fakes.size).reshape(-1, *fakes.shape)
    both = np.array([[float(loss(fakes + sign * move)) for sign in (1, -1)] for move in moves])
    return ((both[:, 0] - both[:, 1]) / (2 * step)).reshape(fakes.shape)


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_the_gradient_through_ease_is_that_of_finite_differences_of_a_new_inverse():
    surrogate = inner_ease.surrogate(**EASE)
    data, start, outer = prepared(surrogate)

    def retrained(fakes):
        every = np.concatenate([PAIRS, fakes])
        inverse = np.linalg.inv(every.T @ every + EASE["l2"] * np.eye(NUM_ITEMS))
        scores = PAIRS @ (np.eye(NUM_ITEMS) - inverse / np.diag(inverse))
        return outer(lambda users: jnp.asarray(scores)[users])

    inner = jax.jit(lambda fakes: injection.inner(surrogate, data, outer, start, fakes))
    (loss, _), gradient = inner(jnp.asarray(SMOOTH))
    assert float(loss) == pytest.approx(float(retrained(SMOOTH)), rel=1e-10)
    assert relative_error(np.asarray(gradient), differences(retrained, SMOOTH)) < 1e-5


def test_the_gradient_through_ials_is_that_of_finite_differences_of_retraining():
    surrogate = inner_ials.surrogate(**WEIGHTED, **ACCURATE)
    data, start, outer = prepared(surrogate)
    inner = jax.jit(lambda start, fakes: injection.inner(surrogate, data, outer, start, fakes))
    (_, solution), gradient = inner(start, jnp.asarray(SMOOTH))
    retrained = lambda fakes: inner(solution, jnp.asarray(fakes))[0][0]
    assert relative_error(np.asarray(gradient), differences(retrained, SMOOTH)) < 1e-5


def contaminated():
    return interactions(np.concatenate([PAIRS, FAKE_PAIRS]))


def test_rows_of_zeros_and_ones_give_the_scores_of_the_ease_model():
    surrogate = inner_ease.surrogate(**EASE)
    data, start, _ = prepared(surrogate)
    solution = surrogate.solve(data, start, jnp.asarray(FAKE_PAIRS, float))
    found = surrogate.scores(data, solution, jnp.arange(NUM_USERS))
    model = ease.model(num_users=NUM_USERS + NUM_FAKES, num_items=NUM_ITEMS, **EASE)
    params = model.solve(contaminated(), jax.random.key(0))
    expected = PAIRS.astype(float) @ np.asarray(params["tables"]["item"]).T
    np.testing.assert_allclose(found, expected, atol=1e-5)  # the model's inverse is in float32


def test_rows_of_zeros_and_ones_give_the_scores_of_the_ials_model():
    surrogate = inner_ials.surrogate(**WEIGHTED, **ACCURATE)
    data, start, _ = prepared(surrogate)
    solved = jax.jit(surrogate.solve)(data, start, jnp.asarray(FAKE_PAIRS, float))
    model = ials.model(num_users=NUM_USERS + NUM_FAKES, num_items=NUM_ITEMS, num_epochs=2000, **WEIGHTED)
    tables = model.solve(contaminated(), jax.random.key(0))["tables"]
    users = np.concatenate([solved["user"], solved["fake"]])
    expected = np.asarray(tables["user"]) @ np.asarray(tables["item"]).T
    np.testing.assert_allclose(users @ np.asarray(solved["item"]).T, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"), [("l2", 0.0), ("max_sweeps", 0), ("adjoint_steps", 0), ("tolerance", -1.0), ("dimension", 0)]
)
def test_wrong_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        inner_ials.surrogate(**{name: value})
