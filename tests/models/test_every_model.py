"""The laws of every model, each model found by its file.

A hyperparameter named in `SIZES` is given as there, and the rest have defaults.
"""

import functools
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import models

METHODS = {
    name: module.model
    for name in (info.name for info in pkgutil.iter_modules(models.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.models.{name}"), "model")
}
SIZES = {"num_users": 6, "num_items": 7, "dimension": 4}
USERS, ITEMS = jnp.arange(6, dtype=jnp.int32), jnp.arange(7, dtype=jnp.int32)

every_model = pytest.mark.parametrize("method", METHODS)


@functools.cache
def built(method, seed=0):
    """A model and parameters, large enough that every score counts."""
    names = inspect.signature(METHODS[method]).parameters
    model = METHODS[method](**{name: size for name, size in SIZES.items() if name in names})
    params = jax.jit(model.init)(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    spread = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype)
    return model, {**params, "tables": jax.tree.map(spread, params["tables"])}


@functools.cache
def compiled(method):
    model, _ = built(method)
    return jax.jit(model.score), jax.jit(model.score_all)


def canonical(method):
    model, params = built(method)
    if model.canonical is None:
        pytest.skip("the model has no canonical gauge")
    return jax.jit(model.canonical), params


def row_norms(params):
    return {name: np.linalg.norm(np.asarray(table, float), axis=1) for name, table in params["tables"].items()}


def test_the_folder_is_read():
    assert "mf" in METHODS


@every_model
def test_params_have_the_three_parts_and_depend_on_the_key(method):
    model, _ = built(method)
    first, second = (jax.jit(model.init)(jax.random.key(seed)) for seed in (0, 1))
    assert set(first) == {"tables", "weights", "given"}
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (first["tables"], second["tables"])), strict=True))


@every_model
def test_score_all_agrees_with_score(method):
    score, score_all = compiled(method)
    _, params = built(method)
    users = jnp.array([4, 0, 4], jnp.int32)
    everything = score_all(params, users)
    assert everything.shape == (3, 7)
    np.testing.assert_allclose(score(params, users[:, None], ITEMS[None]), everything, rtol=1e-4, atol=1e-5)
    assert np.std(everything) > 0.1


@every_model
@pytest.mark.parametrize(
    ("users", "items", "shape"), [([3], [5], ()), ([3, 1], [5, 0], ()), ([[3], [1]], [[5, 0], [2, 2]], (2,))], ids=str
)
def test_users_and_items_broadcast_against_each_other(method, users, items, shape):
    score, _ = compiled(method)
    _, params = built(method)
    users, items = jnp.array(users), jnp.array(items)
    expected_shape = (len(users), *shape)
    scores = score(params, users, items)
    assert scores.shape == expected_shape
    one_by_one = [score(params, u, i) for u, i in zip(*map(np.ravel, np.broadcast_arrays(users, items)), strict=True)]
    np.testing.assert_allclose(np.ravel(scores), one_by_one, rtol=1e-5, atol=1e-6)


@every_model
def test_pair_scores_are_two_scores_and_so_are_their_gradients(method):
    """Repeated users, an item that is positive here and negative there, one pair of an item with itself."""
    model, params = built(method)
    if model.score_pairs is None:
        pytest.skip("the model scores pairs by two calls")
    users, pos, neg = jnp.array([2, 0, 2, 5]), jnp.array([1, 3, 6, 4]), jnp.array([3, 1, 1, 4])

    def by_pairs(trained):
        return model.score_pairs({**params, **trained}, users, pos, neg)

    def by_two(trained):
        return tuple(model.score({**params, **trained}, users, items) for items in (pos, neg))

    def evaluate(scores):
        loss = lambda trained: jnp.sum(jnp.sin(scores(trained)[0])) - jnp.sum(jnp.square(scores(trained)[1]))
        trained = {"tables": params["tables"], "weights": params["weights"]}
        return jax.jit(lambda trained: (scores(trained), jax.grad(loss)(trained)))(trained)

    for actual, wanted in zip(*map(jax.tree.leaves, (evaluate(by_pairs), evaluate(by_two))), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


@every_model
def test_gradients_are_finite_and_reach_every_table(method):
    model, params = built(method)

    def loss(trained):
        return jnp.sum(jnp.square(model.score({**params, **trained}, USERS[:, None], ITEMS[None])))

    trained = {"tables": params["tables"], "weights": params["weights"]}
    for zeros in (False, True):
        grads = jax.jit(jax.grad(loss))(jax.tree.map(jnp.zeros_like, trained) if zeros else trained)
        for grad in jax.tree.leaves(grads):
            assert jnp.isfinite(grad).all()
            assert zeros or (jnp.abs(grad) > 0).any()


@every_model
def test_jit_changes_nothing(method):
    model, params = built(method)
    score, score_all = compiled(method)
    np.testing.assert_allclose(model.score(params, USERS, USERS), score(params, USERS, USERS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.score_all(params, USERS), score_all(params, USERS), rtol=1e-5, atol=1e-6)


@every_model
def test_scoring_reads_the_rows_that_reads_names_and_no_other(method):
    model, params = built(method)
    if model.reads is None:
        pytest.skip("the model reads every row")
    assert set(model.reads) <= set(params["tables"])
    batch = {"users": jnp.array([2, 4]), "pos": jnp.array([1, 0]), "neg": jnp.array([5, 1])}
    items = jnp.stack([batch["pos"], batch["neg"]], axis=1)
    score = lambda tables: jnp.sum(model.score({**params, "tables": tables}, batch["users"][:, None], items))
    for name, grad in jax.jit(jax.grad(score))(params["tables"]).items():
        named = np.unique(np.concatenate([batch[column] for column in model.reads[name]]))
        touched = np.flatnonzero(np.abs(grad).max(axis=1))
        np.testing.assert_array_equal(touched, named)


@every_model
def test_the_canonical_gauge_leaves_scores_and_shapes(method):
    gauge, params = canonical(method)
    _, score_all = compiled(method)
    after = gauge(params)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(score_all(after, USERS), score_all(params, USERS), rtol=1e-4, atol=1e-5)
    again = gauge(after)
    for name, norms in row_norms(after).items():
        np.testing.assert_allclose(row_norms(again)[name], norms, rtol=1e-4)
