"""What is special to MSAP: rows that end longer than the radius they are compared at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import norms, oracles
from jaxrec.attacks import msap

KEY = jax.random.key(0)


def test_steps_are_those_of_a_loop_in_numpy():
    """L2 steps of epsilon / 4, cut entry by entry."""
    x, target = np.array([[0.3, -0.2], [0.9, 0.0]]), np.array([[0.31, 2.0], [1.5, -0.3]])
    delta = np.zeros((2, 2))
    for _ in range(9):
        toward = target - x - delta
        delta = np.clip(delta + 0.4 / 4 * toward / np.linalg.norm(toward, axis=1, keepdims=True), -0.4, 0.4)
    near = lambda key, x: -jnp.sum(jnp.square(x - target.astype(np.float32)), axis=1)
    attack = msap.attack(epsilon=0.4, num_steps=9, start_share=0.0)
    actual, info = attack(KEY, oracles.white_box(near), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(actual, delta, atol=1e-5)
    np.testing.assert_allclose(info["norms"], np.abs(delta).max(axis=1), atol=1e-5)


def test_a_row_of_many_entries_ends_far_outside_the_ball_of_its_epsilon():
    linear = oracles.white_box(lambda key, x: jnp.sum(x, axis=1))
    delta, _ = msap.attack(epsilon=0.5, num_steps=60)(KEY, linear, jnp.zeros((2, 64)))
    np.testing.assert_allclose(norms.L2.size(delta), 0.5 * 64**0.5, rtol=1e-5)


def test_the_start_is_small():
    flat = oracles.white_box(lambda key, x: jnp.sum(0 * x, axis=1))
    delta, _ = msap.attack(epsilon=0.5)(KEY, flat, jnp.zeros((40, 8)))
    assert 0.045 < float(jnp.max(jnp.abs(delta))) <= 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 0}, "num_steps=0"),
        ({"step_size": -0.1}, "step_size=-0.1"),
        ({"epsilon": float("nan")}, "epsilon=nan"),
        ({"start_share": 1.5}, r"start_share=1\.5"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        msap.attack(**{"epsilon": 0.1, **arguments})
