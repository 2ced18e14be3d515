"""What is special to PGD: closed forms on linear losses, FGSM as one step, starts, restarts and their candidates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_attack as laws
import toys

from jaxrec import norms, oracles
from jaxrec.attacks import fgsm, pgd

NORMS = [norms.L2, norms.LINF, norms.L1]
every_norm = pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
CLASSIFIER, TABLES = toys.classifier(), toys.tables()


def run(attack, victim, seed=0, **limits):
    oracle = oracles.white_box(victim.losses, **limits)
    return jax.jit(lambda key: attack(key, oracle, victim.x))(jax.random.key(seed))


@every_norm
@pytest.mark.parametrize("victim", [CLASSIFIER, TABLES], ids=["classifier", "tables"])
def test_one_step_from_the_centre_is_fgsm(norm, victim):
    expected, _ = run(fgsm.attack(epsilon=0.3, norm=norm), victim)
    for step_size in (None, 0.3):
        delta, _ = run(pgd.attack(epsilon=0.3, norm=norm, num_steps=1, step_size=step_size), victim)
        for actual, wanted in laws.leaves(delta, expected):
            np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-7)


@every_norm
@pytest.mark.parametrize("random_start", [False, True])
def test_on_a_linear_loss_it_ends_at_the_corner_of_the_ball(norm, random_start):
    """With steps that cross the ball the optimum is epsilon * steepest; L2 comes near it, the polyhedra reach it."""
    slopes = jnp.array([[3.0, -4.0, 1.0], [-1.0, 2.0, 2.5]])
    oracle = oracles.white_box(lambda key, x: jnp.sum(slopes * x, axis=1))
    attack = pgd.attack(epsilon=0.5, norm=norm, num_steps=40, step_size=0.2, random_start=random_start)
    delta, _ = jax.jit(lambda key: attack(key, oracle, jnp.zeros((2, 3))))(jax.random.key(1))
    np.testing.assert_allclose(delta, 0.5 * norm.steepest(slopes), atol=1e-4)


def test_more_steps_do_not_lower_a_linear_loss():
    slopes = toys.normal(5, 4, 3)
    oracle = oracles.white_box(lambda key, x: jnp.sum(slopes * x, axis=1))
    losses = []
    for num_steps in (1, 3, 9):
        attack = pgd.attack(epsilon=0.5, num_steps=num_steps, step_size=0.1, random_start=True)
        losses.append(jax.jit(lambda key, attack=attack: attack(key, oracle, slopes))(jax.random.key(0))[1]["losses"])
    assert (losses[0] <= losses[1] + 1e-6).all()
    assert (losses[1] <= losses[2] + 1e-6).all()
    assert (losses[2] > losses[0] + 0.1).all()


def test_steps_are_those_of_a_loop_in_numpy():
    x, targets = np.array([[0.3, -0.2], [1.0, 2.0]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    epsilon, step_size, delta = 0.5, 0.2, np.zeros((2, 2))
    for _ in range(4):
        grad = 2 * (x + delta - targets)
        delta = delta + step_size * grad / np.linalg.norm(grad, axis=1, keepdims=True)
        delta *= np.minimum(1, epsilon / np.linalg.norm(delta, axis=1, keepdims=True))
    oracle = oracles.white_box(lambda key, x: jnp.sum(jnp.square(x - jnp.asarray(targets, x.dtype)), axis=1))
    attack = pgd.attack(epsilon=epsilon, num_steps=4, step_size=step_size)
    actual, _ = attack(jax.random.key(0), oracle, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(actual, delta, rtol=1e-5)


@every_norm
def test_a_random_start_lies_in_the_ball_and_depends_on_the_key(norm):
    """Steps of length zero show the start itself, mask and box included."""
    where = jnp.ones((5, 2, 3), bool).at[:, 0, 0].set(False)
    attack = pgd.attack(epsilon=0.5, norm=norm, num_steps=1, step_size=0.0, random_start=True)
    first, info = run(attack, CLASSIFIER, where=where)
    second, _ = run(attack, CLASSIFIER, seed=1, where=where)
    assert (info["norms"] <= 0.5 * (1 + 1e-6)).all()
    assert (info["norms"] > 0).all()
    assert (first[:, 0, 0] == 0).all()
    assert jnp.abs(first - second).max() > 0.01
    assert jnp.abs(first[0] - first[1]).max() > 0.01


def test_without_a_random_start_the_key_does_not_matter():
    first, second = (run(pgd.attack(epsilon=0.5, num_steps=3), CLASSIFIER, seed)[0] for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


def trough(key, x):
    """Losses that any move of more than a little lowers, in the first row, and raises, in the second."""
    return jnp.array([-1.0, 1.0]) * jnp.sum(jnp.square(x), axis=1)


@every_norm
def test_restarts_keep_nothing_as_a_candidate(norm):
    oracle = oracles.white_box(trough)
    attack = pgd.attack(epsilon=0.5, norm=norm, num_steps=1, step_size=0.01, random_start=True, num_restarts=3)
    delta, info = jax.jit(lambda key: attack(key, oracle, jnp.zeros((2, 3))))(jax.random.key(0))
    np.testing.assert_array_equal(delta[0], jnp.zeros(3))
    assert float(info["losses"][1]) > 0


@pytest.mark.parametrize("victim", ["classifier", "tables"])
def test_restarts_keep_the_best_candidate_of_each_unit_and_count_every_question(victim):
    it, seen = laws.VICTIMS[victim], []

    def recorded(key, x):
        losses = it.losses(key, x)
        jax.debug.callback(lambda losses: seen.append(np.asarray(losses)), losses)
        return losses

    oracle = laws.oracle_of(victim)._replace(losses=recorded)
    attack = pgd.attack(epsilon=0.5, num_steps=2, random_start=True, num_restarts=4)
    _, info = jax.jit(lambda key: attack(key, oracle, it.x))(jax.random.key(0))
    jax.effects_barrier()
    np.testing.assert_allclose(info["losses"], np.max(seen, axis=0), rtol=1e-6)
    assert int(info["queries"]) == len(seen)
    assert int(info["gradient_evaluations"]) == 2 * 4


def test_the_default_step_crosses_the_ball_and_never_leaves_it_at_once():
    """A single step of 2.5 epsilon / 2 is cut to epsilon before it is taken; ten reach the sphere from the centre."""
    for num_steps in (2, 10):
        _, info = run(pgd.attack(epsilon=0.4, num_steps=num_steps), CLASSIFIER)
        np.testing.assert_allclose(info["norms"][:4], 0.4, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 0}, "num_steps=0"),
        ({"num_restarts": 0, "random_start": True}, "num_restarts=0"),
        ({"num_restarts": 2}, "random_start=True with num_restarts=2"),
        ({"step_size": -0.1}, "step_size=-0.1"),
        ({"step_size": float("nan")}, "step_size=nan"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        pgd.attack(epsilon=0.1, **arguments)
