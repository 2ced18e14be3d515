"""What is special to BIM: its steps, and their length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_attack as laws

from jaxrec import norms, oracles
from jaxrec.attacks import bim

SLOPES = np.array([[3.0, -4.0, 1.0], [-1.0, 2.0, 2.5]], np.float32)
LINEAR = oracles.white_box(lambda key, x: jnp.sum(x * SLOPES, axis=1))


def perturb(attack, oracle, x):
    return jax.jit(lambda x: attack(jax.random.key(0), oracle, x)[0])(x)


@pytest.mark.parametrize("norm", laws.NORMS.values(), ids=lambda norm: norm.name)
def test_on_a_linear_loss_the_steps_end_on_the_sphere_and_not_before(norm):
    steepest = np.asarray(norm.steepest(jnp.asarray(SLOPES)))
    for step_size, length in ((None, 0.5), (0.1, 0.4)):
        attack = bim.attack(epsilon=0.5, norm=norm, num_steps=4, step_size=step_size)
        np.testing.assert_allclose(perturb(attack, LINEAR, jnp.zeros((2, 3))), length * steepest, rtol=1e-5)


def test_steps_are_those_of_a_loop_in_numpy():
    """Signs of the gradient, steps of epsilon / num_steps, cut to the cube and the box; some turn back on the way."""
    x, target = np.array([[0.3, -0.2], [0.9, 0.0]]), np.array([[0.41, 1.0], [1.5, -0.33]])
    delta = np.zeros((2, 2))
    for _ in range(7):
        delta = np.clip(delta + 0.5 / 7 * np.sign(target - x - delta), -0.5, 0.5)
        delta = np.clip(x + delta, -1, 1) - x
    near = lambda key, x: -jnp.sum(jnp.square(x - target.astype(np.float32)), axis=1)
    attack = bim.attack(epsilon=0.5, norm=norms.LINF, num_steps=7)
    actual = perturb(attack, oracles.white_box(near, box=(-1.0, 1.0)), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(actual, delta, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_steps": 0}, "num_steps=0"), ({"step_size": -0.1}, "step_size=-0.1"), ({"epsilon": -1.0}, "epsilon=-1.0")],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        bim.attack(**{"epsilon": 0.1, **arguments})
