"""What is special to PGD: closed forms on linear losses, FGSM as one step, starts, restarts and their candidates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_attack as laws

from jaxrec import norms, oracles
from jaxrec.attacks import pgd

NORMS = [norms.L2, norms.LINF, norms.L1]
every_norm = pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
SLOPES = np.array([[3.0, -4.0, 1.0], [-1.0, 2.0, 2.5]], np.float32)
LINEAR = oracles.white_box(lambda key, x: jnp.sum(x * SLOPES, axis=1))


def program(attack, oracle, x):
    """key -> (delta, info), compiled."""
    return jax.jit(lambda key: attack(key, oracle, x))


@pytest.mark.parametrize(
    ("norm", "victim"),
    [(norms.L2, "tables"), (norms.L2, "classifier"), (norms.LINF, "classifier"), (norms.L1, "classifier")],
    ids=lambda value: getattr(value, "name", value),
)
def test_one_step_from_the_centre_is_fgsm(norm, victim):
    expected, _ = laws.compiled("fgsm", norm.name, victim)(0.3)
    attack = pgd.attack(epsilon=0.3, norm=norm, num_steps=1, step_size=0.3)
    delta, _ = program(attack, laws.oracle_of(victim), laws.VICTIMS[victim].x)(jax.random.key(0))
    for actual, wanted in laws.leaves(delta, expected):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-7)


@every_norm
def test_on_a_linear_loss_it_ends_at_the_corner_of_the_ball(norm):
    """From anywhere in the ball: the optimum is epsilon * steepest."""
    attack = pgd.attack(epsilon=0.5, norm=norm, num_steps=40, step_size=0.2, random_start=True)
    delta, _ = program(attack, LINEAR, jnp.zeros((2, 3)))(jax.random.key(1))
    np.testing.assert_allclose(delta, 0.5 * norm.steepest(jnp.asarray(SLOPES)), atol=1e-4)


@pytest.mark.parametrize(
    ("num_steps", "step_size", "taken"), [(3, 0.1, 0.1), (4, 0.2, 0.2), (5, None, 2.5 * 0.5 / 5), (2, None, 0.5)]
)
def test_steps_are_those_of_a_loop_in_numpy(num_steps, step_size, taken):
    """Three steps of a fifth of the radius end inside the ball, where one more or less shows; the others on it."""
    x, targets = np.array([[0.3, -0.2], [1.0, 2.0]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    epsilon, delta = 0.5, np.zeros((2, 2))
    for _ in range(num_steps):
        grad = 2 * (x + delta - targets)
        delta = delta + taken * grad / np.linalg.norm(grad, axis=1, keepdims=True)
        delta *= np.minimum(1, epsilon / np.linalg.norm(delta, axis=1, keepdims=True))
    oracle = oracles.white_box(lambda key, x: jnp.sum(jnp.square(x - targets.astype(np.float32)), axis=1))
    attack = pgd.attack(epsilon=epsilon, num_steps=num_steps, step_size=step_size)
    actual, _ = program(attack, oracle, jnp.asarray(x, jnp.float32))(jax.random.key(0))
    np.testing.assert_allclose(actual, delta, rtol=1e-5)


@every_norm
def test_a_random_start_lies_in_the_ball_and_depends_on_the_key(norm):
    """Steps of length zero show the start itself, under the mask."""
    where = np.ones((5, 2, 3), bool)
    where[:, 0, 0] = False
    attack = pgd.attack(epsilon=0.5, norm=norm, num_steps=1, step_size=0.0, random_start=True)
    start = program(attack, laws.oracle_of("classifier", where=jnp.asarray(where)), laws.VICTIMS["classifier"].x)
    (first, info), (second, _) = (jax.device_get(start(jax.random.key(seed))) for seed in (0, 1))
    assert (info["norms"] <= 0.5 * (1 + 1e-6)).all()
    assert (info["norms"] > 0).all()
    assert (first[:, 0, 0] == 0).all()
    assert np.abs(first - second).max() > 0.01
    assert np.abs(first[0] - first[1]).max() > 0.01


def test_without_a_random_start_the_key_does_not_matter():
    first, second = (laws.compiled("pgd", "L2", "classifier")(0.5, seed=seed)[0] for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


def trough(key, x):
    """Losses that any move of more than a little lowers, in the first row, and raises, in the second."""
    return jnp.array([-1.0, 1.0]) * jnp.sum(jnp.square(x), axis=1)


def test_restarts_keep_nothing_as_a_candidate():
    attack = pgd.attack(epsilon=0.5, num_steps=1, step_size=0.01, random_start=True, num_restarts=3)
    delta, info = program(attack, oracles.white_box(trough), jnp.zeros((2, 3)))(jax.random.key(0))
    np.testing.assert_array_equal(delta[0], np.zeros(3))
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
    _, info = program(attack, oracle, it.x)(jax.random.key(0))
    jax.effects_barrier()
    np.testing.assert_allclose(info["losses"], np.max(seen, axis=0), rtol=1e-6)
    assert int(info["queries"]) == len(seen)
    assert int(info["gradient_evaluations"]) == 2 * 4


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
