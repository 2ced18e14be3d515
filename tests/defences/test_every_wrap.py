"""The laws of every defence that makes a model of a model, each found by its file.

`SETTINGS` has what a wrap is built with that has no default, or whose default is too strong for a toy; `IDENTITY` what
it is built with, and the params, that make it the model itself.
"""

import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxrec import defences, layers, surfaces

METHODS = {
    name: module.wrap
    for name in (info.name for info in pkgutil.iter_modules(defences.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.defences.{name}"), "wrap")
}
SETTINGS = {"smoothing": {"surface": surfaces.tables("user", "item"), "num_samples": 3}}
unit_rows = lambda params: params | {"tables": jax.tree.map(layers.unit, params["tables"])}
IDENTITY = {"normalised": ({"temperature": 1.0}, unit_rows), "smoothing": ({"sigma": 0.0}, lambda params: params)}
USERS, ITEMS = jnp.arange(4), jnp.arange(6)

every_wrap = pytest.mark.parametrize("method", METHODS)


def build(method, **others):
    return METHODS[method](toys.MODEL, **SETTINGS.get(method, {}), **others)


built = functools.cache(build)


def params_of(model):
    """Large enough that every score counts; with whatever `init` gives beside the tables of the toy."""
    drawn = jax.jit(model.init)(jax.random.key(0))
    return drawn | {"tables": drawn["tables"] | toys.params()["tables"]}


def test_the_folder_is_read():
    assert {"normalised", "smoothing"} <= {*METHODS}


@every_wrap
def test_score_all_agrees_with_score(method):
    model = built(method)
    params = params_of(model)
    everything = np.asarray(jax.jit(model.score_all)(params, USERS))
    assert everything.shape == (4, 6)
    score = jax.jit(model.score)
    np.testing.assert_allclose(score(params, USERS[:, None], ITEMS[None]), everything, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score(params, jnp.int32(2), jnp.int32(5)), everything[2, 5], rtol=1e-4, atol=1e-5)
    assert np.std(everything) > 0.02 * np.abs(everything).max()


@every_wrap
def test_scores_of_rows_and_of_pairs_agree_with_score_if_there_are_any(method):
    model = built(method)
    params, users, pos, neg = params_of(model), toys.BATCH["users"], toys.BATCH["pos"], toys.BATCH["neg"]
    expected = [jax.jit(model.score)(params, users, items) for items in (pos, neg)]
    if model.score_rows is not None:
        tables = params["tables"]
        of_rows = [model.score_rows(params, tables["user"][users], tables["item"][items]) for items in (pos, neg)]
        np.testing.assert_allclose(of_rows, expected, rtol=1e-5, atol=1e-6)
    if model.score_pairs is not None:
        np.testing.assert_allclose(model.score_pairs(params, users, pos, neg), expected, rtol=1e-5, atol=1e-6)


@every_wrap
def test_scoring_reads_the_rows_that_reads_names_and_no_other(method):
    model = built(method)
    if model.reads is None:
        pytest.skip("the model reads every row")
    params, batch = params_of(model), {name: column[:2] for name, column in toys.BATCH.items()}
    items = jnp.stack([batch["pos"], batch["neg"]], axis=1)
    total = lambda tables: jnp.sum(jnp.sin(model.score({**params, "tables": tables}, batch["users"][:, None], items)))
    for name, grad in jax.jit(jax.grad(total))(params["tables"]).items():
        named = np.unique(np.concatenate([batch[column] for column in model.reads[name]]))
        np.testing.assert_array_equal(np.flatnonzero(np.abs(np.asarray(grad)).max(axis=1)), named)


@every_wrap
def test_gradients_are_finite_and_reach_every_table(method):
    model = built(method)
    params = params_of(model)
    total = lambda tables: jnp.sum(jnp.square(model.score({**params, "tables": tables}, USERS[:, None], ITEMS[None])))
    slope = jax.jit(jax.grad(total))
    for zeros in (False, True):
        at = jax.tree.map(jnp.zeros_like, params["tables"]) if zeros else params["tables"]
        for grad in jax.tree.leaves(jax.device_get(slope(at))):
            assert np.isfinite(grad).all()
            assert zeros or (grad != 0).any()


@every_wrap
def test_jit_changes_nothing(method):
    model = built(method)
    params = params_of(model)
    np.testing.assert_allclose(
        model.score_all(params, USERS), jax.jit(model.score_all)(params, USERS), rtol=1e-5, atol=1e-6
    )


@every_wrap
def test_the_canonical_gauge_leaves_scores_and_is_where_it_leads(method):
    model = built(method)
    if model.canonical is None:
        pytest.skip("the model has no canonical gauge")
    params = params_of(model)
    after = jax.jit(model.canonical)(params)
    np.testing.assert_allclose(model.score_all(after, USERS), model.score_all(params, USERS), rtol=1e-4, atol=1e-5)
    again = jax.jit(model.canonical)(after)
    norms = lambda params: [np.linalg.norm(table, axis=1) for table in jax.tree.leaves(params["tables"])]
    for first, second in zip(norms(after), norms(again), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4)


@every_wrap
def test_the_identity_setting_is_the_model(method):
    settings, change = IDENTITY[method]
    model = build(method, **settings)
    params = change(params_of(model))
    expected = toys.MODEL.score_all(params, USERS)
    np.testing.assert_allclose(model.score_all(params, USERS), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(built(method).score_all(params, USERS) - expected)).max() > 1e-3, "as another is not"
