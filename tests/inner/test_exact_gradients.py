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
EASE = {"l2": 1.5}
SMOOTH = np.random.default_rng(1).random((NUM_FAKES, NUM_ITEMS))  # inside the box, none an integer


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def interactions(pairs):
    return Interactions(*(ids.astype(np.int32) for ids in np.nonzero(pairs)), *pairs.shape)


def exact_ials():
    return inner_ials.problem(**WEIGHTED, max_sweeps=5000, tolerance=1e-13, adjoint_steps=500, adjoint_tolerance=1e-12)(
        interactions(PAIRS), NUM_FAKES
    )


def exact_ease():
    return inner_ease.problem(**EASE)(interactions(PAIRS), NUM_FAKES)


def outer_loss():
    return injection.promotion(interactions(PAIRS), TARGETS, temperature=0.2)


def differences(loss, fakes, step=1e-5):
    """Central differences of `loss` by every entry of the fakes, each of which is a training to convergence."""
    moves = step * np.eye(fakes.size).reshape(-1, *fakes.shape)
    both = np.array([[float(loss(fakes + sign * move)) for sign in (1, -1)] for move in moves])
    return ((both[:, 0] - both[:, 1]) / (2 * step)).reshape(fakes.shape)


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_the_gradient_through_ease_is_that_of_finite_differences_of_a_new_inverse(float64):
    outer = outer_loss()

    def retrained(fakes):
        every = np.concatenate([PAIRS, fakes])
        inverse = np.linalg.inv(every.T @ every + EASE["l2"] * np.eye(NUM_ITEMS))
        scores = PAIRS @ (np.eye(NUM_ITEMS) - inverse / np.diag(inverse))
        return outer(lambda users: jnp.asarray(scores)[users])

    surrogate = exact_ease()
    (loss, _), gradient = injection.inner(surrogate, outer)((), jnp.asarray(SMOOTH))
    assert float(loss) == pytest.approx(float(retrained(SMOOTH)), rel=1e-10)
    assert relative_error(np.asarray(gradient), differences(retrained, SMOOTH)) < 1e-5


def test_the_gradient_through_ials_is_that_of_finite_differences_of_retraining(float64):
    surrogate, outer = exact_ials(), outer_loss()
    step = jax.jit(injection.inner(surrogate, outer))
    (_, solution), gradient = step(surrogate.init(jax.random.key(0)), jnp.asarray(SMOOTH))
    retrain = jax.jit(lambda fakes: outer(lambda users: surrogate.scores(surrogate.solve(solution, fakes), users)))
    assert relative_error(np.asarray(gradient), differences(retrain, SMOOTH)) < 1e-5


FAKE_PAIRS = SMOOTH < 0.5


def contaminated():
    return interactions(np.concatenate([PAIRS, FAKE_PAIRS]))


def test_rows_of_zeros_and_ones_give_the_scores_of_the_ease_model(float64):
    surrogate = exact_ease()
    found = surrogate.scores(surrogate.solve((), jnp.asarray(FAKE_PAIRS, float)), jnp.arange(NUM_USERS))
    model = ease.model(num_users=NUM_USERS + NUM_FAKES, num_items=NUM_ITEMS, **EASE)
    params = model.solve(contaminated(), jax.random.key(0))
    expected = PAIRS.astype(float) @ np.asarray(params["tables"]["item"]).T
    np.testing.assert_allclose(found, expected, atol=1e-5)  # the model's inverse is in float32


def test_rows_of_zeros_and_ones_give_the_scores_of_the_ials_model(float64):
    surrogate = exact_ials()
    solved = jax.jit(surrogate.solve)(surrogate.init(jax.random.key(0)), jnp.asarray(FAKE_PAIRS, float))
    model = ials.model(num_users=NUM_USERS + NUM_FAKES, num_items=NUM_ITEMS, num_epochs=2000, **WEIGHTED)
    tables = model.solve(contaminated(), jax.random.key(0))["tables"]
    expected = np.asarray(tables["user"]) @ np.asarray(tables["item"]).T
    users = np.concatenate([solved["user"], solved["fake"]])
    np.testing.assert_allclose(users @ np.asarray(solved["item"]).T, expected, atol=1e-6)
