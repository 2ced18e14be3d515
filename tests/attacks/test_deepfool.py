"""What is special to DeepFool: exact on linear scores, and the steps of a loop in numpy on others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import oracles
from jaxrec.attacks import deepfool

DRAW = np.random.default_rng(2)
WEIGHTS, BIASES, X = DRAW.normal(size=(5, 4)), DRAW.normal(size=4), DRAW.normal(size=(6, 5))
NETWORK = np.random.default_rng(11)
HIDDEN, OUT = 0.5 * NETWORK.normal(size=(5, 8)), NETWORK.normal(size=(8, 4))
SCORES = X @ WEIGHTS + BIASES
LABELS = SCORES.argmax(axis=1)
LABELS[5] = SCORES[5].argmin()  # the last one is wrong as it is


def oracle_of(scores, labels=LABELS, **limits):
    losses = lambda key, x: -scores(x)[jnp.arange(len(labels)), labels]
    return oracles.white_box(losses, scores=lambda key, x: scores(x), labels=jnp.asarray(labels), **limits)


def linear(x):
    return x @ WEIGHTS.astype(np.float32) + BIASES.astype(np.float32)[None]


def network(x):
    return jnp.tanh(x @ HIDDEN.astype(np.float32)) @ OUT.astype(np.float32)


@functools.cache
def on_linear_scores(num_classes=None):
    @jax.jit
    def run(epsilon, where):
        attack = deepfool.attack(epsilon=epsilon, num_classes=num_classes)
        return attack(jax.random.key(0), oracle_of(linear, where=where), jnp.asarray(X, jnp.float32))

    return lambda *, epsilon=np.inf, where=None: jax.device_get(
        run(jnp.float32(epsilon), jnp.asarray(np.ones(X.shape, bool) if where is None else where))
    )


def nearest(row, where, num_classes=3):
    """The step to the nearest boundary of linear scores, among the classes that score highest, in numpy."""
    label = LABELS[row]
    others = sorted(set(range(4)) - {label}, key=lambda k: -SCORES[row, k])[:num_classes]
    steps = []
    for k in others:
        slope = (WEIGHTS[:, k] - WEIGHTS[:, label]) * where
        steps.append((SCORES[row, label] - SCORES[row, k]) / (slope @ slope) * slope)
    return min(steps, key=np.linalg.norm)


@pytest.mark.parametrize("masked", [False, True])
def test_on_linear_scores_it_is_the_distance_to_the_nearest_boundary_and_the_overshoot(masked):
    where = np.ones(X.shape, bool)
    where[:, [0, 3]] = not masked
    delta, info = on_linear_scores()(where=where)
    expected = np.stack([1.02 * nearest(row, where[row]) for row in range(5)])
    np.testing.assert_allclose(delta[:5], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(info["norms"][:5], np.linalg.norm(expected, axis=1), rtol=1e-4)
    assert (((X + delta) @ WEIGHTS + BIASES).argmax(axis=1) != LABELS).all()
    assert info["success"].all()
    assert int(info["gradient_evaluations"]) == 3  # one step, and a Jacobian of 4 classes less the label's
    assert int(info["queries"]) == 4


def test_one_that_is_wrong_as_it_is_stays():
    delta, info = on_linear_scores()()
    np.testing.assert_array_equal(delta[5], 0)
    assert info["success"][5]


def test_what_is_longer_than_epsilon_is_scaled_down_and_no_success():
    free, _ = on_linear_scores()()
    sizes = np.linalg.norm(free, axis=1)
    epsilon = np.sort(sizes[:5])[2] * 1.001
    delta, info = on_linear_scores()(epsilon=epsilon)
    np.testing.assert_allclose(delta, free * np.minimum(1, epsilon / np.maximum(sizes, 1e-9))[:, None], rtol=1e-5)
    np.testing.assert_array_equal(info["success"], sizes <= epsilon)
    assert info["success"].sum() == 4


def test_fewer_classes_are_those_that_score_highest():
    delta, info = on_linear_scores(1)()
    alone = np.stack([1.02 * nearest(row, np.ones(5), 1) for row in range(5)])
    best = np.stack([1.02 * nearest(row, np.ones(5)) for row in range(5)])
    assert np.abs(alone - best).max() > 0.01  # for some image the runner-up is not the nearest
    np.testing.assert_allclose(delta[:5], alone, rtol=1e-4, atol=1e-6)
    assert int(info["gradient_evaluations"]) == 1


@functools.cache
def on_a_network(num_steps):
    labels = (np.tanh(X @ HIDDEN) @ OUT).argmax(axis=1)
    attack = deepfool.attack(num_steps=num_steps, overshoot=0.1)
    run = jax.jit(lambda x: attack(jax.random.key(0), oracle_of(network, labels), x))
    return labels, jax.device_get(run(jnp.asarray(X, jnp.float32)))


@pytest.mark.parametrize("num_steps", [1, 50])
def test_steps_are_those_of_a_loop_in_numpy(num_steps):
    labels, (delta, info) = on_a_network(num_steps)
    taken = []
    for row, label in enumerate(labels):
        path, steps = np.zeros(5), 0
        while steps < num_steps:
            hidden = np.tanh((X[row] + 1.1 * path) @ HIDDEN)
            scores = hidden @ OUT
            if scores.argmax() != label:
                break
            jacobian = HIDDEN @ ((1 - hidden**2)[:, None] * OUT)
            others = [k for k in range(4) if k != label]
            slopes = [jacobian[:, k] - jacobian[:, label] for k in others]
            gaps = [scores[label] - scores[k] for k in others]
            best = min(range(3), key=lambda k: gaps[k] / np.linalg.norm(slopes[k]))
            path += gaps[best] / (slopes[best] @ slopes[best]) * slopes[best]
            steps += 1
        np.testing.assert_allclose(delta[row], 1.1 * path, rtol=1e-3, atol=1e-4)
        taken.append(steps)
    assert max(taken) > 1 or num_steps == 1
    assert int(info["gradient_evaluations"]) == 3 * max(taken)
    wrong = (np.tanh((X + delta) @ HIDDEN) @ OUT).argmax(axis=1) != labels
    np.testing.assert_array_equal(info["success"], wrong)
    assert wrong.all() == (num_steps == 50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overshoot": -0.1}, "overshoot=-0.1"),
        ({"overshoot": float("nan")}, "overshoot=nan"),
        ({"overshoot": float("inf")}, "overshoot=inf"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        deepfool.attack(**arguments)
