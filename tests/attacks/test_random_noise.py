"""What is special to the control: as long as an attack, blind, and fresh for each key and table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import norms, oracles
from jaxrec.attacks import fgsm, random_noise
from jaxrec.types import Oracle

NORMS = [norms.L2, norms.LINF, norms.L1]
FLAT = Oracle(losses=lambda key, x: jnp.zeros(x.shape[0]))


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
def test_every_row_has_norm_epsilon_and_no_preferred_side(norm):
    x = jnp.zeros((2000, 3))
    attack = random_noise.attack(epsilon=0.5, norm=norm)
    delta, info = jax.jit(lambda key: attack(key, FLAT, x))(jax.random.key(0))
    np.testing.assert_allclose(info["norms"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(delta.mean(axis=0), np.zeros(3), atol=0.05)
    np.testing.assert_allclose(np.cov(delta.T) / np.cov(delta.T)[0, 0], np.eye(3), atol=0.15)


def test_another_key_and_another_table_get_other_noise():
    x = {"item": jnp.zeros((3, 2)), "user": jnp.zeros((3, 2))}
    oracle = Oracle(losses=lambda key, x: jnp.zeros(1))
    attack = jax.jit(lambda key: random_noise.attack(epsilon=1.0)(key, oracle, x)[0])
    first, second, again = (attack(jax.random.key(seed)) for seed in (0, 1, 0))
    assert jnp.abs(first["item"] - first["user"]).max() > 0.1
    assert jnp.abs(first["item"] - second["item"]).max() > 0.1
    np.testing.assert_array_equal(first["item"], again["item"])


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
def test_under_a_mask_it_is_as_long_as_the_attack_it_controls(norm):
    where = jnp.array([[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]], bool)
    oracle = oracles.white_box(lambda key, x: jnp.sum(jnp.exp(x), axis=1), where=where)
    lengths = [
        jax.jit(lambda x, attack=attack: attack(jax.random.key(0), oracle, x)[1]["norms"])(jnp.ones((3, 4)))
        for attack in (fgsm.attack(epsilon=0.5, norm=norm), random_noise.attack(epsilon=0.5, norm=norm))
    ]
    np.testing.assert_allclose(lengths[0], [0.5, 0.5, 0], rtol=1e-5)
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-5)
