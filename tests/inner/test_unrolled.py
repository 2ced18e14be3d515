"""Unrolled training: the full derivative is that of retraining, and what truncation and first order leave out is left
out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import injection
from jaxrec.inner import unrolled
from jaxrec.types import Interactions

PAIRS = np.random.default_rng(0).random((5, 4)) < 0.45
REAL = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(PAIRS)), num_users=5, num_items=4)
FAKES = np.random.default_rng(1).random((2, 4))
SETTINGS = {"dimension": 2, "l2": 0.05, "train_steps": 4}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def step(**settings):
    surrogate = unrolled.surrogate(**SETTINGS, **settings)
    outer = injection.promoting(injection.audience(REAL, np.array([1])), 0.2)
    data = surrogate.prepare(REAL, 2)
    start = surrogate.init(data, jax.random.key(0), 2)

    @jax.jit
    def inner(fakes):
        (loss, _), gradient = injection.inner(surrogate, data, outer, start, fakes)
        return loss, gradient

    return lambda fakes: jax.tree.map(np.asarray, inner(jnp.asarray(fakes)))


def test_the_full_derivative_is_that_of_finite_differences_of_training_anew():
    full = step()
    _, gradient = full(FAKES)
    for place in ((0, 0), (0, 1), (1, 3)):
        move = np.zeros_like(FAKES)
        move[place] = 1e-5
        slope = (full(FAKES + move)[0] - full(FAKES - move)[0]) / 2e-5
        assert slope == pytest.approx(gradient[place], rel=1e-5, abs=1e-12)


def test_truncation_and_first_order_change_the_derivative_and_not_the_loss():
    sgd = optax.sgd(0.02)
    kinds = {
        "full": step(optimizer=sgd),
        "all": step(optimizer=sgd, unrolled_steps=4),
        "last": step(optimizer=sgd, unrolled_steps=1),
        "last, first order": step(optimizer=sgd, unrolled_steps=1, first_order=True),
        "first order": step(optimizer=sgd, first_order=True),
    }
    losses, gradients = zip(*(kind(FAKES) for kind in kinds.values()), strict=True)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)
    full, every, last, last_first, first = gradients
    np.testing.assert_allclose(full, every, rtol=1e-10)
    np.testing.assert_allclose(last, last_first, rtol=1e-10)  # one step has no earlier one to be differentiated by
    for other in (last, first):
        assert np.linalg.norm(full - other) > 1e-3 * np.linalg.norm(full)


@pytest.mark.parametrize(("name", "value"), [("train_steps", 0), ("unrolled_steps", 0), ("unrolled_steps", 5)])
def test_wrong_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        unrolled.surrogate(**{**SETTINGS, name: value})
