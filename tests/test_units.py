"""Scores as functions of one matrix: trees and single units, gradients of sums of scores, and what counts as a lead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import oracles, units

WEIGHTS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
X = {"a": jnp.ones((2, 3)), "b": jnp.full((2, 2), 2.0)}


def oracle(scores, labels, **limits):
    losses = lambda key, x: jnp.sum(scores(key, x), axis=1)
    return oracles.white_box(losses, scores=scores, labels=labels, **limits)


def side_by_side(key, x):
    return jnp.concatenate([x["a"], x["b"]], axis=1) @ WEIGHTS


def test_a_unit_is_its_row_of_every_array():
    where = {"a": jnp.ones((2, 3), bool), "b": jnp.zeros((2, 2), bool)}
    it = units.of(oracle(side_by_side, jnp.array([0, 1]), where=where, box=(0.0, 1.5)), X)
    np.testing.assert_array_equal(it.x, [[1, 1, 1, 2, 2]] * 2)
    delta = jnp.arange(10.0).reshape(2, 5) / 10
    tree = it.tree(delta)
    np.testing.assert_array_equal(tree["a"], delta[:, :3])
    np.testing.assert_array_equal(tree["b"], delta[:, 3:])
    np.testing.assert_allclose(it.scores(jax.random.key(0), delta), (it.x + delta) @ WEIGHTS, rtol=1e-6)
    np.testing.assert_allclose(it.legal(delta), [[0, 0.1, 0.2, 0, 0], [0.5, 0.5, 0.5, 0, 0]], rtol=1e-6)


def test_with_one_label_all_arrays_are_one_unit():
    total = lambda key, x: (jnp.sum(x["a"]) * jnp.array([1.0, 2.0]) + jnp.sum(x["b"]))[None]
    it = units.of(oracle(total, jnp.array([0])), X)
    assert it.x.shape == (1, 10)
    np.testing.assert_allclose(it.scores(jax.random.key(0), jnp.ones((1, 10))), [[24.0, 36.0]])


def test_gradients_of_sums_of_scores():
    it = units.of(oracle(side_by_side, jnp.array([0, 1])), X)
    directions = np.random.default_rng(1).normal(size=(4, 2, 3)).astype(np.float32)
    scores, gradients = units.pull(it, jax.random.key(0), jnp.zeros((2, 5)), jnp.asarray(directions))
    np.testing.assert_allclose(scores, it.x @ WEIGHTS, rtol=1e-6)
    np.testing.assert_allclose(gradients, directions @ WEIGHTS.T, rtol=1e-5)


def test_ahead_is_the_lead_of_the_adversary_and_zero_at_a_tie():
    scores, labels = jnp.array([[3.0, 1, 2], [1, 5, 2], [4, 4, 0]]), jnp.array([0, 0, 1])
    np.testing.assert_array_equal(units.ahead(scores, labels, None), [-1, 4, 0])
    np.testing.assert_array_equal(units.ahead(scores, labels, np.array([2, 1, 2])), [-1, 3, -4])
    np.testing.assert_array_equal(units.ahead(scores, labels, 1), [-2, 3, 0])
    with pytest.raises(ValueError, match="Expected target in the 3 classes, got target=3"):
        units.ahead(scores, labels, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grad": None}, "Expected an oracle with a gradient"),
        ({"scores": None}, "Expected an oracle with scores and labels"),
        ({"labels": None}, "Expected an oracle with scores and labels"),
        ({"labels": jnp.zeros(3, int)}, "Expected an oracle with one label, or one for each row of x, got 3 labels"),
    ],
)
def test_an_oracle_without_what_is_asked_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        units.of(oracle(side_by_side, jnp.array([0, 1]))._replace(**change), X)


def test_scores_that_may_only_be_read_are_refused_when_they_are_differentiated():
    white_box = oracle(side_by_side, jnp.array([0, 1]))
    it = units.of(oracles.transfer(white_box, white_box), X)
    with pytest.raises(ValueError, match="request to differentiate"):
        units.pull(it, jax.random.key(0), jnp.zeros((2, 5)), jnp.zeros((1, 2, 3)))
