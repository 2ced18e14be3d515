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
from jaxrec.types import Interactions

METHODS = {
    name: module.model
    for name in (info.name for info in pkgutil.iter_modules(models.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.models.{name}"), "model")
}
SIZES = {"num_users": 6, "num_items": 7, "dimension": 4, "max_length": 9, "window": 4}
USERS, ITEMS = jnp.arange(6, dtype=jnp.int32), jnp.arange(7, dtype=jnp.int32)

TRAIN = Interactions(  # user 5 has none and user 4 one; item 4 nobody has
    users=np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2, 0], np.int32),
    items=np.array([3, 0, 6, 2, 5, 1, 3, 0, 6, 0, 2, 5, 6], np.int32),
    num_users=6,
    num_items=7,
    ratings=np.array([5, 3, 4, 1, 2, 4, 5, 3, 2, 1, 4, 5, 3], np.float32),
    timestamps=np.arange(13, dtype=np.int64),
)

every_model = pytest.mark.parametrize("method", METHODS)


@functools.cache
def built(method, seed=0):
    """A model and parameters that know TRAIN: solved, or tables large enough that every score counts."""
    names = inspect.signature(METHODS[method]).parameters
    model = METHODS[method](**{name: size for name, size in SIZES.items() if name in names})
    if model.solve is not None:
        return model, model.knowing(model.solve(TRAIN, jax.random.key(seed)), TRAIN)
    params = model.init(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    spread = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype)
    return model, model.knowing({**params, "tables": jax.tree.map(spread, params["tables"])}, TRAIN)


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
    first, second = (model.init(jax.random.key(seed)) for seed in (0, 1))
    traced = jax.make_jaxpr(model.init)(jax.random.key(0)).out_avals
    assert [(x.dtype, x.shape) for x in jax.tree.leaves(first)] == [(x.dtype, x.shape) for x in traced]
    assert set(first) == {"tables", "weights", "given"}
    if model.solve is not None:
        return
    first, second = (jax.tree.leaves(jax.device_get(params["tables"])) for params in (first, second))
    assert all((a != b).any() for a, b in zip(first, second, strict=True))


@every_model
def test_score_all_agrees_with_score(method):
    score, score_all = compiled(method)
    _, params = built(method)
    users = jnp.array([4, 0, 4, 5, 2, 1], jnp.int32)
    everything = np.asarray(score_all(params, users))
    assert everything.shape == (6, 7)
    scale = np.abs(everything).max()  # a ridge that suits a thousand users makes scores of six users tiny
    scores = score(params, users[:, None], ITEMS[None])
    np.testing.assert_allclose(scores, everything, rtol=1e-4, atol=1e-5 * scale)
    assert np.std(everything) > 0.02 * scale


@every_model
@pytest.mark.parametrize(("users", "items"), [(3, 5), ([3], [5, 0]), ([[3], [1]], [[5, 0], [2, 2]])], ids=str)
def test_users_and_items_broadcast_against_each_other(method, users, items):
    """Each score is that of its pair among all of them."""
    score, score_all = compiled(method)
    _, params = built(method)
    users, items = np.array(users, np.int32), np.array(items, np.int32)
    scores, everything = score(params, users, items), np.asarray(score_all(params, USERS))
    expected = everything[users, items]
    assert scores.shape == expected.shape
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * np.abs(everything).max())


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

    trained, slope = {"tables": params["tables"], "weights": params["weights"]}, jax.jit(jax.grad(loss))
    for zeros in (False, True):
        at = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), trained) if zeros else trained
        for grad in jax.tree.leaves(jax.device_get(slope(at))):
            assert np.isfinite(grad).all()
            assert zeros or (grad != 0).any()


@every_model
def test_jit_changes_nothing(method):
    """To all scores, which `score` agrees with: without jit each operation is compiled by itself."""
    model, params = built(method)
    _, score_all = compiled(method)
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
        touched = np.flatnonzero(np.abs(np.asarray(grad)).max(axis=1))
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


def sequence_of(method):
    model, params = built(method)
    if model.sequence is None:
        pytest.skip("not a model of item sequences")
    return model.sequence, params


def state_after(method, *items):
    """The state after items in the newest places of a history of eight, with weights large enough that all count."""
    sequence, params = sequence_of(method)
    rng = np.random.default_rng(0)
    params = params | {
        "weights": jax.tree.map(lambda x: x + jnp.asarray(rng.normal(size=x.shape), x.dtype), params["weights"])
    }
    ids = jnp.array([-1] * (8 - len(items)) + list(items), jnp.int32)
    return jax.jit(lambda ids: sequence.state(params, jnp.int32(0), sequence.embed(params, ids), ids >= 0))(ids)


@every_model
def test_a_sequence_model_never_looks_ahead(method):
    """By gradient: the state after place p has none with respect to the rows after p, and some with respect to p's."""
    sequence, params = sequence_of(method)
    if sequence.states is None:
        pytest.skip("the model reads a history from both ends")
    ids = jnp.array([-1, -1, 3, 0, 5, 1], jnp.int32)
    states = lambda rows: sequence.states(params, jnp.int32(0), rows, ids >= 0, None)
    by_row = jax.jit(jax.jacrev(states))(sequence.embed(params, ids))  # [L, E, L, D]
    reached = np.abs(np.asarray(by_row)).sum(axis=(1, 3))
    assert (reached[np.triu_indices(6, 1)] == 0).all()
    assert (np.diag(reached)[2:] > 0).all()


@every_model
def test_the_state_of_a_history_is_that_after_its_last_place(method):
    sequence, params = sequence_of(method)
    if sequence.states is None:
        pytest.skip("the model reads a history from both ends")
    ids = jnp.array([-1, -1, 3, 0, 5, 1], jnp.int32)
    rows, user = sequence.embed(params, ids), jnp.int32(2)
    last = jax.jit(sequence.states, static_argnums=4)(params, user, rows, ids >= 0, None)[-1]
    np.testing.assert_allclose(jax.jit(sequence.state)(params, user, rows, ids >= 0), last, rtol=1e-5, atol=1e-6)


@every_model
def test_dropout_of_a_history_is_that_of_the_key(method):
    sequence, params = sequence_of(method)
    ids, hidden = jnp.array([-1, -1, 3, 0, 5, 1], jnp.int32), [jnp.arange(6) == 3] * (sequence.masked is not None)
    states = sequence.masked or sequence.states
    run = jax.jit(lambda key: states(params, jnp.int32(0), sequence.embed(params, ids), ids >= 0, *hidden, key))
    one, same, other, plain = (run(key) for key in (*map(jax.random.key, (0, 0, 1)), None))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - plain).max() > 1e-3


@every_model
def test_rows_in_empty_places_do_not_matter(method):
    sequence, params = sequence_of(method)
    ids = jnp.array([-1, -1, -1, -1, -1, 3, 0, 5], jnp.int32)
    rows = sequence.embed(params, ids)
    state = jax.jit(lambda rows: sequence.state(params, jnp.int32(0), rows, ids >= 0))
    other = rows.at[:5].set(7.0)
    np.testing.assert_allclose(state(rows), state(other), rtol=1e-5, atol=1e-6)
    assert (np.asarray(state(rows.at[6, 0].add(1.0))) != np.asarray(state(rows))).any()


@every_model
def test_the_state_of_an_empty_history_is_finite_and_so_is_its_gradient(method):
    sequence, params = sequence_of(method)
    ids = jnp.full(8, -1, jnp.int32)
    total = lambda rows: jnp.sum(sequence.state(params, jnp.int32(0), rows, ids >= 0))
    assert all(np.isfinite(x).all() for x in jax.jit(jax.value_and_grad(total))(sequence.embed(params, ids)))


@every_model
def test_the_order_of_a_history_matters(method):
    assert np.abs(np.asarray(state_after(method, 3, 0, 5)) - np.asarray(state_after(method, 0, 3, 5))).max() > 1e-4
