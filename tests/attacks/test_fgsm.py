"""What is special to FGSM: the closed form, and indifference to the scale of the loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxrec import norms, oracles
from jaxrec.attacks import fgsm

SLOPES = np.array([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 2.0, 2.0]], np.float32)
EXPECTED = {
    norms.L2: [[3 / 5, -4 / 5, 0], [0, 0, 0], [-1 / 3, 2 / 3, 2 / 3]],
    norms.LINF: [[1, -1, 0], [0, 0, 0], [-1, 1, 1]],
    norms.L1: [[0, -1, 0], [0, 0, 0], [0, 1, 0]],
}


@functools.cache
def compiled(norm):
    @jax.jit
    def run(slopes, epsilon, where, box):
        linear = lambda key, x: jnp.sum(x * slopes, axis=1)
        oracle = oracles.white_box(linear, where=where, box=box)
        return fgsm.attack(epsilon=epsilon, norm=norm)(jax.random.key(0), oracle, jnp.ones((3, 3)))

    return run


def perturb(scale, epsilon, norm, where=None, box=(-np.inf, np.inf)):
    """The perturbation of ones under a linear loss; the slopes are an argument, as XLA would fold constant ones."""
    where = np.ones((3, 3), bool) if where is None else where
    return compiled(norm)(SLOPES * np.float32(scale), np.float32(epsilon), where, tuple(map(np.float32, box)))


@pytest.mark.parametrize("norm", EXPECTED, ids=lambda norm: norm.name)
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_the_step_is_epsilon_times_steepest_however_large_the_loss(norm, scale):
    delta, info = perturb(scale, 0.25, norm)
    np.testing.assert_allclose(delta, 0.25 * np.array(EXPECTED[norm]), rtol=1e-6)
    np.testing.assert_allclose(info["norms"], [0.25, 0, 0.25], rtol=1e-6)


def test_a_masked_row_is_as_long_as_a_whole_one():
    where = np.ones((3, 3), bool)
    where[0, 1] = False
    delta, _ = perturb(1.0, 0.25, norms.L2, where=where)
    np.testing.assert_allclose(delta[0], [0.25, 0, 0], rtol=1e-6)


def test_the_box_cuts_entry_by_entry():
    delta, _ = perturb(1.0, 0.5, norms.L2, box=(0.8, 1.1))
    np.testing.assert_allclose(delta[0], [0.1, -0.2, 0], atol=1e-6)


def test_tables_move_along_the_normalised_gradient_of_the_summed_loss():
    victim = toys.tables()
    oracle = oracles.white_box(victim.losses)
    delta, _ = jax.jit(lambda x: fgsm.attack(epsilon=0.3)(jax.random.key(0), oracle, x))(victim.x)
    user, item = (np.asarray(victim.x[name], float) for name in ("user", "item"))
    grads = {"user": np.zeros_like(user), "item": np.zeros_like(item)}
    for u, i, j, counts in zip(
        *(np.asarray(toys.BATCH[name]) for name in ("users", "pos", "neg", "where")), strict=True
    ):
        slope = -float(counts) / (1 + np.exp(user[u] @ (item[i] - item[j])))
        grads["user"][u] += slope * (item[i] - item[j])
        grads["item"][i] += slope * user[u]
        grads["item"][j] -= slope * user[u]
    for name, grad in grads.items():
        size = np.linalg.norm(grad, axis=1, keepdims=True)
        np.testing.assert_allclose(delta[name], 0.3 * grad / np.where(size > 0, size, 1), rtol=1e-4, atol=1e-6)
