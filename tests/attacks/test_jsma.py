"""What is special to JSMA: the pairs of a loop in numpy, few entries, each once."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import oracles
from jaxrec.attacks import jsma

DRAW = np.random.default_rng(3)
HIDDEN, OUT, X = DRAW.normal(size=(7, 6)), DRAW.normal(size=(6, 3)), DRAW.uniform(size=(8, 7))
X[:, 0] = 1.0  # at the top of the box
WHERE = np.ones(X.shape, bool)
WHERE[:, 4] = False
LABELS = (np.tanh(X @ HIDDEN) @ OUT).argmax(axis=1)
TARGETS = (LABELS + 1) % 3
TARGETS[7] = LABELS[7]  # the last one is where it shall be


def oracle_of(scores, labels, **limits):
    losses = lambda key, x: -scores(key, x)[jnp.arange(len(labels)), labels]
    return oracles.white_box(losses, scores=scores, labels=jnp.asarray(labels), **limits)


@functools.cache
def found(theta, gamma):
    scores = lambda key, x: jnp.tanh(x @ HIDDEN.astype(np.float32)) @ OUT.astype(np.float32)
    oracle = oracle_of(scores, LABELS, box=(0.0, 1.0), where=jnp.asarray(WHERE))
    attack = jsma.attack(theta=theta, gamma=gamma, target=TARGETS)
    return jax.device_get(jax.jit(lambda x: attack(jax.random.key(0), oracle, x))(jnp.asarray(X, jnp.float32)))


def loop(x, where, target, theta, most):
    """Algorithm 3 with the saliency map of pairs, on one row."""
    x, free, steps = x.copy(), list(np.flatnonzero(where & (x != (theta > 0)))), 0
    while 2 * steps + 2 <= most:
        hidden = np.tanh(x @ HIDDEN)
        if (hidden @ OUT).argmax() == target:
            break
        jacobian = HIDDEN @ ((1 - hidden**2)[:, None] * OUT) * np.sign(theta)
        helps, hurts = jacobian[:, target], jacobian.sum(axis=1) - jacobian[:, target]
        pairs = {
            (p, q): -(helps[p] + helps[q]) * (hurts[p] + hurts[q])
            for p, q in itertools.combinations(free, 2)
            if helps[p] + helps[q] > 0 and hurts[p] + hurts[q] < 0
        }
        if not pairs:
            break
        for entry in max(pairs, key=lambda pair: pairs[pair]):
            x[entry] = np.clip(x[entry] + theta, 0, 1)
            free.remove(entry)
        steps += 1
    return x, steps


@pytest.mark.parametrize(("theta", "gamma"), [(0.3, 1.0), (-0.4, 0.6)])
def test_it_takes_the_pairs_of_a_loop_in_numpy(theta, gamma):
    delta, info = found(theta, gamma)
    steps = []
    for row in range(len(X)):
        expected, taken = loop(X[row], WHERE[row], TARGETS[row], theta, math.floor(gamma * 7))
        np.testing.assert_allclose(X[row] + delta[row], expected, atol=1e-6)
        reached = (np.tanh(expected @ HIDDEN) @ OUT).argmax() == TARGETS[row]
        assert info["success"][row] == reached
        assert info["num_changed"][row] == 2 * taken == (delta[row] != 0).sum()
        steps.append(taken)
    assert max(steps) > 1
    assert 0 < info["success"].sum() < len(X)  # some get there, and some run out of pairs
    # A last look, where a unit that has room left finds no pair, costs as much as a step.
    assert 2 * max(steps) <= int(info["gradient_evaluations"]) <= 2 * (max(steps) + 1)


@pytest.mark.parametrize(("theta", "gamma"), [(0.3, 1.0), (-0.4, 0.6)])
def test_entries_move_once_and_what_may_not_change_does_not(theta, gamma):
    delta, _ = found(theta, gamma)
    assert (np.abs(delta) <= abs(theta) + 1e-6).all()
    assert (delta * theta >= 0).all()
    assert ((delta != 0).sum(axis=1) <= math.floor(gamma * 7)).all()
    x = X.astype(np.float32)
    assert (x + delta)[:, 4].tobytes() == x[:, 4].tobytes()
    np.testing.assert_array_equal(delta[7], 0)


def on_linear_scores(weights, x, **arguments):
    scores = lambda key, x: x @ jnp.asarray(weights, jnp.float32)
    oracle = oracle_of(scores, [0] * len(x))
    attack = jsma.attack(**arguments)
    return jax.device_get(jax.jit(lambda x: attack(jax.random.key(0), oracle, x))(jnp.asarray(x, jnp.float32)))


@pytest.mark.parametrize(("gamma", "most"), [(0.0145, 0), (0.58, 58), (0.999, 98)])
def test_never_more_than_gamma_of_the_entries(gamma, most):
    """A hundred entries that all help, and a target that stays out of reach; in binary 100 * .58 is less than 58."""
    weights = np.array([[-1.0, 1.0]] * 100)
    delta, info = on_linear_scores(weights, [[-9.0] * 100], gamma=gamma)
    assert (delta != 0).sum() == most == info["num_changed"][0]
    assert not info["success"][0]


def test_without_an_admissible_pair_nothing_is_done():
    """Every entry that helps the target helps the other class more."""
    delta, info = on_linear_scores(np.array([[2.0, 1.0]] * 4), [[1.0] * 4], target=1)
    np.testing.assert_array_equal(delta, 0)
    assert not info["success"][0]


def test_without_a_target_it_is_the_runner_up():
    weights = np.array([[0.0, 1.0, -1.0], [0.0, 1.0, -1.0], [0.0, -1.0, 0.5], [1.0, -0.5, -1.0]])
    delta, info = on_linear_scores(weights, [[0.0, 0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(delta, [[1.0, 1.0, 0.0, 0.0]])
    assert info["success"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"theta": 0.0}, "theta=0.0"),
        ({"theta": float("nan")}, "theta=nan"),
        ({"theta": float("inf")}, "theta=inf"),
        ({"gamma": 0.0}, "gamma=0.0"),
        ({"gamma": -0.1}, "gamma=-0.1"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"gamma": float("nan")}, "gamma=nan"),
        ({"target": -1}, "target=-1"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        jsma.attack(**arguments)
