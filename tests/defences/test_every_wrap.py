"""The laws of every defence that wraps a model, each found by its file: what it returns is a model like any other.

Its builder is given those parts of `PARTS` that it has arguments for, and of `IDENTITY`, under which it is the model.
"""

import functools
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxrec import defences, surfaces

METHODS = {
    name: module.wrap
    for name in (info.name for info in pkgutil.iter_modules(defences.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.defences.{name}"), "wrap")
}
PARTS = {"surface": surfaces.tables("user", "item"), "num_samples": 3}
IDENTITY = {"sigma": 0.0}
USERS, ITEMS = jnp.array([2, 0, 3]), jnp.array([[5], [1], [0]])

every_wrap = pytest.mark.parametrize("method", METHODS)


def build(method, **others):
    names = inspect.signature(METHODS[method]).parameters
    return METHODS[method](toys.MODEL, **{name: part for name, part in (PARTS | others).items() if name in names})


@functools.cache
def scores(method):
    """Of some pairs, and of all items, compiled."""
    model = build(method)
    both = lambda params: (model.score(params, USERS[:, None], ITEMS), model.score_all(params, USERS))
    return model, jax.jit(both)(toys.params())


def test_the_folder_is_read():
    assert "smoothing" in METHODS


@every_wrap
def test_score_agrees_with_score_all(method):
    _, (pairs, everything) = scores(method)
    assert everything.shape == (3, 6)
    np.testing.assert_allclose(pairs, jnp.take_along_axis(everything, ITEMS, axis=1), rtol=1e-5, atol=1e-6)


@every_wrap
def test_score_broadcasts_users_against_items(method):
    model, (_, everything) = scores(method)
    table = model.score(toys.params(), USERS[:, None], jnp.arange(6)[None])
    np.testing.assert_allclose(table, everything, rtol=1e-5, atol=1e-6)


@every_wrap
def test_jit_is_eager(method):
    model, (_, everything) = scores(method)
    np.testing.assert_allclose(model.score_all(toys.params(), USERS), everything, rtol=1e-5, atol=1e-6)


@every_wrap
def test_gradients_are_finite_and_there(method):
    model, _ = scores(method)
    value = lambda tables: jnp.sum(jnp.square(model.score_all({**toys.params(), "tables": tables}, USERS)))
    for tables in (toys.params()["tables"], jax.tree.map(jnp.zeros_like, toys.params()["tables"])):
        grads = jax.jit(jax.grad(value))(tables)
        assert all(jnp.isfinite(grad).all() for grad in jax.tree.leaves(grads))
    grads = jax.jit(jax.grad(value))(toys.params()["tables"])
    assert all((grad != 0).any() for grad in jax.tree.leaves(grads))


@every_wrap
def test_the_identity_setting_is_the_model(method):
    identity = {
        name: value for name, value in IDENTITY.items() if name in inspect.signature(METHODS[method]).parameters
    }
    if not identity:
        pytest.skip("the wrap has no identity setting")
    found = build(method, **identity).score_all(toys.params(), USERS)
    np.testing.assert_allclose(found, toys.MODEL.score_all(toys.params(), USERS), rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(found - scores(method)[1][1])).max() > 1e-3, "and another setting is not"
