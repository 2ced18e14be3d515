"""The white-box oracle: the sum's exact gradient, reduced once, and nothing more than it was given."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import oracles


def test_the_gradient_is_that_of_the_sum_and_gets_the_key():
    losses = lambda key, x: jnp.sum(jnp.square(x), axis=1) * jax.random.uniform(key)
    oracle = oracles.white_box(losses)
    x, key = jnp.array([[1.0, 2.0], [0.0, -3.0]]), jax.random.key(3)
    factor = jax.random.uniform(key)
    np.testing.assert_allclose(oracle.losses(key, x), jnp.array([5.0, 9.0]) * factor, rtol=1e-6)
    assert oracle.grad is not None
    np.testing.assert_allclose(oracle.grad(key, x), 2 * x * factor, rtol=1e-6)


def test_losses_and_gradient_are_each_reduced_once():
    """A reduction that is not linear shows how often, and after which operation, it is applied."""
    oracle = oracles.white_box(lambda key, x: 3 * x["a"], reduce=lambda tree: jax.tree.map(lambda v: v + 10, tree))
    x = {"a": jnp.array([1.0, 2.0])}
    np.testing.assert_array_equal(oracle.losses(jax.random.key(0), x), [3 + 10, 6 + 10])
    assert oracle.grad is not None
    np.testing.assert_array_equal(oracle.grad(jax.random.key(0), x)["a"], [3 + 10, 3 + 10])


def test_what_is_not_given_is_hidden():
    oracle = oracles.white_box(lambda key, x: x)
    assert (oracle.scores, oracle.labels, oracle.where, oracle.box) == (None, None, None, None)
    scores, labels, where = (lambda key, x: x[:, None]), jnp.zeros(2, int), jnp.ones(2, bool)
    oracle = oracles.white_box(lambda key, x: x, scores=scores, labels=labels, where=where, box=(0.0, 1.0))
    assert oracle[2:] == (scores, labels, where, (0.0, 1.0))


def test_a_known_gradient_answers_for_that_array_only():
    known, other = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([1.0, 2.0])}
    double = lambda tree: jax.tree.map(lambda v: 2 * v, tree)
    oracle = oracles.white_box(
        lambda key, x: jnp.square(x["a"]), reduce=double, known=(known, {"a": jnp.array([7.0, 8.0])})
    )
    assert oracle.grad is not None
    np.testing.assert_array_equal(oracle.grad(jax.random.key(0), known)["a"], [14, 16])
    np.testing.assert_array_equal(oracle.grad(jax.random.key(0), other)["a"], [4, 8])
