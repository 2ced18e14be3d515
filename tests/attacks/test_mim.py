"""What is special to MIM: the momentum, of gradients normalised row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_attack as laws

from jaxrec import norms, oracles
from jaxrec.attacks import mim

START = np.array([[0.3, -0.2, 0.1], [1.0, 2.0, -1.0]])
TARGETS = np.array([[0.6, 0.1, 0.35], [0.9, 2.4, -0.8]])
SCALES = np.array([[1e6], [1e-6]])


def perturb(attack, losses, x):
    return jax.jit(lambda x: attack(jax.random.key(0), oracles.white_box(losses), x)[0])(x)


def near(key, x):
    """Rows a few steps from where their losses are highest, and of very different scale."""
    return -jnp.sum(jnp.square(x - TARGETS.astype(np.float32)) * SCALES.astype(np.float32), axis=1)


@pytest.mark.parametrize(
    ("norm", "victim"),
    [("L2", "tables"), ("L2", "classifier"), ("LINF", "classifier"), ("L1", "classifier")],
)
def test_without_momentum_it_is_bim(norm, victim):
    expected, _ = laws.compiled("bim", norm, victim)(0.3)
    attack = mim.attack(epsilon=0.3, norm=laws.NORMS[norm], momentum=0.0)
    delta = perturb(attack, laws.VICTIMS[victim].losses, laws.VICTIMS[victim].x)
    for actual, wanted in laws.leaves(delta, expected):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True], ids=["rows", "whole"])
@pytest.mark.parametrize("norm", [norms.L2, norms.LINF], ids=lambda norm: norm.name)
def test_steps_are_those_of_a_loop_in_numpy(norm, shared):
    """For rows, and for the whole array, where the loss of the larger scale has the say."""
    axis, losses = (None, lambda key, x: jnp.sum(near(key, x))[None]) if shared else (1, near)
    delta, velocity = np.zeros((2, 3)), np.zeros((2, 3))
    for _ in range(8):
        grad = 2 * SCALES * (TARGETS - START - delta)
        velocity = 0.7 * velocity + grad / np.abs(grad).sum(axis=axis, keepdims=True)
        unit = np.sign(velocity)
        if norm == norms.L2:
            unit = velocity / np.sqrt(np.square(velocity).sum(axis=axis, keepdims=True))
        delta = delta + 0.1 * unit
        if norm == norms.LINF:
            delta = np.clip(delta, -0.4, 0.4)
        else:
            delta = delta * np.minimum(1, 0.4 / np.sqrt(np.square(delta).sum(axis=axis, keepdims=True)))
    attack = mim.attack(
        epsilon=0.4, norm=norms.whole(norm) if shared else norm, num_steps=8, step_size=0.1, momentum=0.7
    )
    np.testing.assert_allclose(perturb(attack, losses, jnp.asarray(START, jnp.float32)), delta, rtol=1e-3, atol=1e-5)


def test_momentum_carries_over_the_top():
    """One step to the top and beyond; only memory of the way up takes the next one further down."""
    top = lambda key, x: -jnp.square(x[:, 0] - 0.15)
    steps = lambda momentum: mim.attack(epsilon=1.0, num_steps=3, step_size=0.1, momentum=momentum)
    np.testing.assert_allclose(perturb(steps(0.0), top, jnp.zeros((1, 1))), [[0.1]], rtol=1e-5)
    np.testing.assert_allclose(perturb(steps(1.0), top, jnp.zeros((1, 1))), [[0.3]], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 0}, "num_steps=0"),
        ({"step_size": float("nan")}, "step_size=nan"),
        ({"momentum": -0.1}, "momentum=-0.1"),
        ({"momentum": float("inf")}, "momentum=inf"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        mim.attack(epsilon=0.1, **arguments)
