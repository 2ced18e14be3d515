"""Oracles: the exact gradient of the sum, reduced once; gradients of a surrogate or of samples; and lists alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxrec import norms, oracles, perturbations
from jaxrec.attacks import fgsm, pgd


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
    assert oracle[2:] == (scores, labels, where, (0.0, 1.0), 0)


def test_a_known_gradient_answers_for_that_array_only():
    known, other = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([1.0, 2.0])}
    double = lambda tree: jax.tree.map(lambda v: 2 * v, tree)
    oracle = oracles.white_box(
        lambda key, x: jnp.square(x["a"]), reduce=double, known=(known, {"a": jnp.array([7.0, 8.0])})
    )
    assert oracle.grad is not None
    np.testing.assert_array_equal(oracle.grad(jax.random.key(0), known)["a"], [14, 16])
    np.testing.assert_array_equal(oracle.grad(jax.random.key(0), other)["a"], [4, 8])


KEY = jax.random.key(1)
SLOPES = jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0], [0.0, 0.0, 0.0]])
X = jnp.array([[0.2, 0.1, -0.3], [0.5, -0.1, 0.4], [1.0, 2.0, 3.0]])
WHERE = jnp.array([[1, 1, 0], [0, 1, 1], [1, 1, 1]], bool)
SHORT = {
    "spsa": lambda victim: oracles.spsa(victim, num_samples=400),
    "nes": lambda victim: oracles.nes(victim, num_samples=400, sigma=0.01),
}
every_estimate = pytest.mark.parametrize("name", SHORT)


def linear(**limits):
    """Three rows with a linear loss each; the third has slope zero."""
    return oracles.white_box(lambda key, x: jnp.sum(SLOPES * x, axis=1), scores=lambda key, x: x, **limits)


def smooth(key, x):
    return jnp.sum(jnp.sin(SLOPES * x), axis=1)


def estimate(name, oracle, x=X):
    found = SHORT[name](oracle)
    assert found.grad is not None
    return np.asarray(jax.jit(found.grad)(KEY, x))


@every_estimate
def test_an_estimated_gradient_is_near_the_exact_one_and_0_where_a_row_has_none(name):
    """400 samples of three entries: the standard error is below a twelfth of the row's slope, sqrt(2 / 400) * 3.2."""
    found = estimate(name, oracles.white_box(smooth))
    np.testing.assert_allclose(found[:2], (SLOPES * jnp.cos(SLOPES * X))[:2], atol=0.8)
    assert np.corrcoef(found.ravel(), np.asarray(SLOPES * jnp.cos(SLOPES * X)).ravel())[0, 1] > 0.97
    np.testing.assert_array_equal(found[2], 0)


def test_a_sample_of_spsa_is_the_difference_quotient_along_random_signs():
    """Of a linear loss: sum(slopes * signs) * signs, so all entries of a row have the same absolute value."""
    oracle = oracles.spsa(linear(), num_samples=1, size=0.5)
    assert oracle.grad is not None
    found = np.asarray(oracle.grad(KEY, X))
    signs = np.where(found < 0, -1, 1)  # or all of a row's the other way round, which gives the same
    np.testing.assert_allclose(found, np.sum(SLOPES * signs, axis=1, keepdims=True) * signs, rtol=1e-5)


@every_estimate
def test_each_rows_estimate_comes_from_its_own_loss(name):
    """The loss of another row, a million times as large, adds no noise."""
    large = oracles.white_box(lambda key, x: jnp.sum(SLOPES * x, axis=1) * jnp.array([1.0, 1e6, 1.0]))
    np.testing.assert_array_equal(estimate(name, large)[0], estimate(name, linear())[0])


@every_estimate
def test_one_loss_for_two_tables_has_an_estimate_over_both(name):
    tables = {"a": X, "b": X[:2]}
    one = lambda key, x: (jnp.sum(SLOPES * x["a"]) - jnp.sum(x["b"]))[None]
    oracle = SHORT[name](oracles.white_box(one))
    assert oracle.grad is not None
    found = np.concatenate([np.ravel(g) for g in jax.tree.leaves(jax.jit(oracle.grad)(KEY, tables))])
    assert np.corrcoef(found, np.r_[np.ravel(SLOPES), -np.ones(6)])[0, 1] > 0.9


@every_estimate
def test_no_question_touches_what_is_forbidden_or_lies_outside_the_box(name):
    asked = []

    def losses(key, x):
        jax.debug.callback(lambda x: asked.append(np.asarray(x)), x)
        return jnp.sum(SLOPES * x, axis=1)

    box = (jnp.float32(-0.3), jnp.float32(0.5))
    x = X.at[2].set(0.1)
    found = estimate(name, oracles.white_box(losses, where=WHERE, box=box), x)
    jax.effects_barrier()
    assert len(asked) == 800
    questions = np.stack(asked)
    assert questions.min() >= -0.3 - 1e-6
    assert questions.max() <= 0.5 + 1e-6
    assert (questions[:, ~WHERE] == np.asarray(x)[~WHERE]).all()
    assert (np.ptp(questions, axis=0)[WHERE] > 0).all()
    np.testing.assert_array_equal(found[~WHERE], 0)


def test_at_the_box_spsa_divides_by_the_step_it_took():
    """The loss of one entry is linear, so every sample is exact, on the boundary too."""
    oracle = oracles.spsa(
        oracles.white_box(lambda key, x: 3 * x[:, 0], box=(jnp.float32(0), jnp.float32(1))), num_samples=4, size=0.1
    )
    assert oracle.grad is not None
    np.testing.assert_allclose(oracle.grad(KEY, jnp.array([[0.0], [0.5], [1.0]])), 3, rtol=1e-5)


@every_estimate
def test_the_noise_of_a_random_oracle_cancels(name):
    """Both questions of a sample are asked with the same key."""
    noisy = oracles.white_box(lambda key, x: jnp.sum(SLOPES * x, axis=1) + 1e3 * jax.random.normal(key, (3,)))
    np.testing.assert_allclose(estimate(name, noisy), estimate(name, linear()), atol=0.1)


TAKEN_AWAY = {
    "spsa": lambda: oracles.spsa(linear()),
    "nes": lambda: oracles.nes(linear()),
    "black_box": lambda: oracles.black_box(linear()),
    "transfer": lambda: oracles.transfer(linear(), linear()),
    "lists_only": lambda: oracles.lists_only(lambda key, x: x.astype(jnp.int32), jnp.zeros((3, 1), int)),
}


@pytest.mark.parametrize("name", TAKEN_AWAY)
def test_differentiating_through_a_black_box_raises(name):
    oracle = TAKEN_AWAY[name]()
    oracle.losses(KEY, X)
    for ask in (oracle.losses, oracle.scores):
        if ask is not None:
            for differentiate in (jax.grad, lambda fn: jax.jit(jax.grad(fn))):
                with pytest.raises(ValueError, match="values only"):
                    differentiate(lambda x, ask=ask: jnp.sum(ask(KEY, x)))(X)
            with pytest.raises(ValueError, match="values only"):
                jax.jvp(lambda x, ask=ask: ask(KEY, x), (X,), (X,))


def test_estimates_keep_the_victims_losses_and_limits_and_hide_its_scores():
    box = (-1.0, 1.0)
    victim = linear(where=WHERE, box=box, labels=jnp.arange(3))
    for oracle, cost in ((oracles.spsa(victim, num_samples=7), 14), (oracles.nes(victim), 50)):
        np.testing.assert_array_equal(oracle.losses(KEY, X), victim.losses(KEY, X))
        assert oracle.scores is None
        assert oracle.labels is victim.labels
        assert oracle.where is WHERE
        assert oracle.box == box
        assert oracle.grad_queries == cost


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_queries_of_estimated_gradients_are_counted(num_steps):
    """What an attack reports is how often the losses were in truth asked."""
    count = {"losses": 0}

    def losses(key, x):
        jax.debug.callback(lambda: count.update(losses=count["losses"] + 1))
        return jnp.sum(SLOPES * x, axis=1)

    oracle = oracles.nes(oracles.white_box(losses), num_samples=4)
    attack = fgsm.attack(epsilon=0.1) if num_steps == 1 else pgd.attack(epsilon=0.1, num_steps=num_steps)
    _, info = jax.jit(lambda key: attack(key, oracle, X))(KEY)
    jax.effects_barrier()
    assert info["gradient_evaluations"] == num_steps
    assert count["losses"] == info["queries"] == 8 * num_steps + 1


def test_a_black_box_attack_raises_the_loss():
    it = toys.classifier()
    oracle = oracles.spsa(oracles.white_box(it.losses))
    delta, info = jax.jit(lambda key: pgd.attack(epsilon=0.1, norm=norms.LINF)(key, oracle, it.x))(KEY)
    moves = ~np.asarray(it.still)
    assert (np.asarray(info["losses"] - it.losses(KEY, it.x))[moves] > 0).all()
    np.testing.assert_array_equal(np.asarray(delta)[~moves], 0)


def test_transfer_has_the_surrogates_gradient_and_all_else_of_the_victim():
    surrogate = oracles.white_box(lambda key, x: jnp.sum(x, axis=1), where=~WHERE)
    surrogate = surrogate._replace(grad_queries=9)
    victim = linear(where=WHERE, box=(-1.0, 1.0), labels=jnp.arange(3))
    oracle = oracles.transfer(surrogate, victim)
    assert oracle.grad is not None
    assert oracle.scores is not None
    np.testing.assert_array_equal(oracle.grad(KEY, X), jnp.ones_like(X))
    np.testing.assert_array_equal(oracle.losses(KEY, X), victim.losses(KEY, X))
    np.testing.assert_array_equal(oracle.scores(KEY, X), X)
    assert oracle.labels is victim.labels
    assert oracle.where is WHERE
    assert oracle.box == (-1.0, 1.0)
    assert oracle.grad_queries == 0
    with pytest.raises(ValueError, match="oracle with a gradient"):
        oracles.transfer(oracles.black_box(surrogate), victim)


def test_a_black_box_has_no_gradient():
    oracle = oracles.black_box(oracles.spsa(linear()))
    assert (oracle.grad, oracle.grad_queries) == (None, 0)
    with pytest.raises(ValueError, match="oracle with a gradient"):
        perturbations.check_gradient(oracle)


def test_lists_lose_what_is_no_longer_in_them():
    """Users: one of two items stays; both stay; none of one; without items; an empty place matches nothing."""
    items = jnp.array([[3, 4], [1, 2], [7, -1], [-1, -1], [5, -1]])
    lists = jnp.array([[9, 4, 0], [2, 1, 0], [1, 2, 3], [1, 2, 3], [-1, 5, -1]])
    oracle = oracles.lists_only(lambda key, x: lists, items, box=(0.0, 1.0))
    np.testing.assert_allclose(oracle.losses(KEY, X), [1 - (0.5 + 1 + 0 + 1) / 4], rtol=1e-6)
    assert (oracle.grad, oracle.scores, oracle.box) == (None, None, (0.0, 1.0))


def test_nes_climbs_the_steps_of_a_list():
    """One user, a list of one of two items; the loss is a step, and its smoothing has a slope across it."""
    best = lambda key, x: jnp.argmax(x, axis=1, keepdims=True)
    oracle = oracles.nes(oracles.lists_only(best, jnp.array([[0]])), num_samples=64, sigma=1.0)
    assert oracle.grad is not None
    grad = oracle.grad(KEY, jnp.array([[0.5, 0.0]]))
    assert grad[0, 0] < 0 < grad[0, 1]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_that_is_none_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"size={value}"):
        oracles.spsa(linear(), size=value)
    with pytest.raises(ValueError, match=f"sigma={value}"):
        oracles.nes(linear(), sigma=value)


def test_no_samples_are_refused():
    for build in (oracles.spsa, oracles.nes):
        with pytest.raises(ValueError, match="num_samples=0"):
            build(linear(), num_samples=0)
