"""What is special to Carlini and Wagner's attack: closed forms on linear scores, and the search for the weight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import oracles
from jaxrec.attacks import cw

DRAW = np.random.default_rng(0)
WEIGHTS, X = DRAW.normal(size=(4, 3)), DRAW.uniform(0.3, 0.7, size=(4, 4))
SCORES = X @ WEIGHTS
LABELS = SCORES.argmax(axis=1)
LABELS[3] = SCORES[3].argmin()  # the last one is wrong as it is


def oracle_of(weights, labels, **limits):
    scores = lambda key, x: x @ jnp.asarray(weights, jnp.float32)
    losses = lambda key, x: -scores(key, x)[jnp.arange(len(labels)), labels]
    return oracles.white_box(losses, scores=scores, labels=jnp.asarray(labels), **limits)


@functools.cache
def on_linear_scores(confidence=0.0, box=None, mask=True):
    where = np.ones(X.shape, bool)
    where[:, 1] = mask
    attack = cw.attack(confidence=confidence, num_steps=300, initial_weight=0.1)
    oracle = oracle_of(WEIGHTS, LABELS, box=box, where=jnp.asarray(where))
    return jax.device_get(jax.jit(lambda x: attack(jax.random.key(0), oracle, x))(jnp.asarray(X, jnp.float32)))


def distance(row, confidence=0.0, where=(1, 1, 1, 1)):
    """How far the nearest point is where another class leads by confidence: the smallest of two, in closed form."""
    others = [k for k in range(3) if k != LABELS[row]]
    slope = lambda k: (WEIGHTS[:, k] - WEIGHTS[:, LABELS[row]]) * where
    return min((SCORES[row, LABELS[row]] - SCORES[row, k] + confidence) / np.linalg.norm(slope(k)) for k in others)


@pytest.mark.parametrize(
    ("confidence", "box", "mask"),
    [(0.0, None, True), (0.5, (-5.0, 5.0), False)],
    ids=["plain", "boxed, confident and masked"],
)
def test_on_linear_scores_it_finds_the_nearest_point(confidence, box, mask):
    delta, info = on_linear_scores(confidence, box, mask)
    expected = [distance(row, confidence, (1, mask, 1, 1)) for row in range(3)]
    assert (info["norms"][:3] >= np.array(expected) * (1 - 1e-4)).all()
    np.testing.assert_allclose(info["norms"][:3], expected, rtol=0.03)
    after = (X + delta) @ WEIGHTS
    for row in range(3):
        others = [after[row, k] for k in range(3) if k != LABELS[row]]
        assert max(others) - after[row, LABELS[row]] > confidence - 1e-5
    assert info["success"].all()
    assert mask or (delta[:, 1] == 0).all()


def test_one_that_is_wrong_as_it_is_stays():
    delta, info = on_linear_scores(0.0, None, True)
    np.testing.assert_array_equal(delta[3], 0)
    assert info["success"][3]


def one_row(attack, slope, x, **limits):
    """Runs the attack on one row, of which the second of two classes scores slope . x, and the first 0."""
    oracle = oracle_of(np.stack([np.zeros(len(slope)), slope], axis=1), [0], **limits)
    delta, info = jax.jit(lambda x: attack(jax.random.key(0), oracle, x))(jnp.asarray([x], jnp.float32))
    return np.asarray(delta)[0], jax.device_get(info)


def test_in_a_box_the_nearest_point_of_the_box_is_found():
    """The plane 2 a + b = .5 from (0, -1) is nearest at a = .6, outside; at the edge a = .2 it is met at b = .1."""
    attack = cw.attack(num_steps=1000, num_searches=6, initial_weight=1.0)
    delta, info = one_row(attack, [2.0, 1.0, -1.0], [0.0, -1.0, 0.5], box=(-1.0, 0.2), where=jnp.array([[1, 1, 0]]))
    assert delta[0] <= 0.2
    np.testing.assert_allclose(delta, [0.2, 1.1, 0], atol=0.02)
    assert info["success"]


@pytest.mark.parametrize(("num_searches", "success"), [(1, False), (2, True)])
def test_a_weight_that_is_too_small_fails_and_the_next_is_tenfold(num_searches, success):
    """|delta|^2 - weight * slope . delta is least at weight * slope / 2, which ends .1 short of the plane at .2."""
    attack = cw.attack(num_steps=300, num_searches=num_searches, initial_weight=0.2)
    delta, info = one_row(attack, [1.0, 0.0], [-0.2, 0.0])
    assert info["success"] == success
    assert (np.abs(delta).max() > 0) == success
    assert int(info["gradient_evaluations"]) == 300 * num_searches


def test_bisection_finds_smaller_perturbations():
    """With the first weight 50 times the least that succeeds, Adam runs past the plane."""
    sizes = [
        np.linalg.norm(one_row(cw.attack(num_steps=8, num_searches=n, initial_weight=1.0, learning_rate=0.05), *at)[0])
        for n in (1, 8)
        for at in [([1.0, 2.0], [-0.2, 0.0])]
    ]
    assert 0.2 / np.sqrt(5) <= sizes[1] < sizes[0]


def test_a_target_is_reached_though_another_class_is_nearer():
    target = SCORES.argmin(axis=1)
    attack = cw.attack(target=target, num_steps=300, initial_weight=0.1, epsilon=100.0)
    oracle = oracle_of(WEIGHTS, SCORES.argmax(axis=1))
    delta, info = jax.jit(lambda x: attack(jax.random.key(0), oracle, x))(jnp.asarray(X, jnp.float32))
    np.testing.assert_array_equal(((X + delta) @ WEIGHTS).argmax(axis=1), target)
    assert np.asarray(info["success"]).all()
    others = np.stack([[k for k in range(3) if k != t] for t in target])
    bound = [
        max((SCORES[row, k] - SCORES[row, t]) / np.linalg.norm(WEIGHTS[:, t] - WEIGHTS[:, k]) for k in others[row])
        for row, t in enumerate(target)
    ]
    assert (np.asarray(info["norms"]) >= np.array(bound) * (1 - 1e-4)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"confidence": -0.1}, "confidence=-0.1"),
        ({"confidence": float("inf")}, "confidence=inf"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"num_searches": 0}, "num_searches=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"initial_weight": -1.0}, "initial_weight=-1.0"),
        ({"initial_weight": float("inf")}, "initial_weight=inf"),
        ({"target": np.array([0, -1])}, "target="),
        ({"target": 0.5}, "target=0.5"),
        ({"epsilon": float("nan")}, "epsilon=nan"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        cw.attack(**arguments)
