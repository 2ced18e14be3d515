"""What is special to LightGCN: the propagation against the dense matrix, and what a step of training sees."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import two_groups

from jaxrec import evaluate, loop, objectives
from jaxrec.models import lightgcn, mf
from jaxrec.types import Interactions

# User 0 has more neighbours than a group holds, user 3 none, and neither has item 4; a pair that comes twice.
EDGES = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [0, 5], [0, 6], [1, 0], [1, 2], [2, 6], [2, 6]], np.int32)
KNOWN = Interactions(EDGES[:, 0].copy(), EDGES[:, 1].copy(), num_users=4, num_items=7)
BATCH = {
    "users": jnp.array([2, 0, 3]),
    "pos": jnp.array([6, 3, 1]),
    "neg": jnp.array([4, 4, 0]),
    "where": jnp.array([True, True, False]),
}


def dense():
    """The normalised adjacency [11, 11], written out."""
    matrix = np.zeros((11, 11))
    for user, item in EDGES:
        matrix[user, 4 + item] = matrix[4 + item, user] = 1
    degrees = matrix.sum(axis=1)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        matrix[row, column] = 1 / np.sqrt(degrees[row] * degrees[column])
    return matrix


def made(chunk_size=3, **hyperparameters):
    model = lightgcn.model(num_users=4, num_items=7, dimension=5, chunk_size=chunk_size, **hyperparameters)
    return model, model.knowing(jax.jit(model.init)(jax.random.key(0)), KNOWN)


def rows_of(params):
    return np.concatenate([np.asarray(params["tables"][name], float) for name in ("user", "item")])


@pytest.mark.parametrize("chunk_size", [3, 1000], ids=["chunks", "one chunk"])
def test_propagation_is_the_product_with_the_dense_matrix(chunk_size):
    x = np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32)
    actual = jax.jit(lightgcn.propagate)(lightgcn.graph(KNOWN, chunk_size=chunk_size), x)
    np.testing.assert_allclose(actual, dense() @ x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_layers", [0, 3])
def test_scores_are_dot_products_of_the_mean_over_the_layers(num_layers):
    model, params = made(num_layers=num_layers)
    layers = [rows_of(params)]
    for _ in range(num_layers):
        layers.append(dense() @ layers[-1])
    mean = np.mean(layers, axis=0)
    scores = jax.jit(model.score_all)(params, jnp.arange(4))
    np.testing.assert_allclose(scores, mean[:4] @ mean[4:].T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_a_user_beside_the_graph_has_layers_of_their_items_and_changes_nobodys(num_layers):
    """User 3, who has no edge, is known to have items 0, 4 and 6; item 4 has no edge either."""
    model, params = made(num_layers=num_layers)
    more = Interactions(np.array([3, 3, 3, 1], np.int32), np.array([0, 4, 6, 5], np.int32), num_users=4, num_items=7)
    degrees = {0: 2, 6: 2}
    layers = [rows_of(params)]
    layers[0][3] = 0
    for _ in range(num_layers):
        layers.append(dense() @ layers[-1])
        layers[-1][3] = sum(layers[-2][4 + item] / np.sqrt(3 * degree) for item, degree in degrees.items())
    mean = np.mean(layers, axis=0)
    after = model.solve_users(params, more)
    np.testing.assert_allclose(model.score_all(after, jnp.arange(4)), mean[:4] @ mean[4:].T, rtol=1e-4, atol=1e-6)
    before = model.score_all(params, jnp.arange(3))
    np.testing.assert_array_equal(model.score_all(after, jnp.arange(3)), before)
    np.testing.assert_array_equal(model.solve_users(params, KNOWN)["tables"]["user"], params["tables"]["user"])


def test_the_gradient_is_that_of_the_dense_matrix():
    """Of a loss that is no symmetric function of the nodes, against JAX's gradient through a dense product."""
    model, params = made()
    objective = objectives.pairwise(model=model)
    matrix = jnp.asarray(dense(), jnp.float32)
    plain = mf.model(num_users=4, num_items=7, dimension=5)

    def by_dense(tables):
        x = jnp.concatenate([tables["user"], tables["item"]])
        mean = (x + matrix @ x + matrix @ matrix @ x + matrix @ matrix @ matrix @ x) / 4
        of_mf = {"tables": {"user": mean[:4], "item": mean[4:]}, "weights": {}, "given": {}}
        return objectives.pairwise(model=plain)(of_mf, BATCH, jax.random.key(0), lambda tree: tree)[0]

    def by_model(tables):
        return objective({**params, "tables": tables}, BATCH, jax.random.key(0), lambda tree: tree)[0]

    actual, wanted = jax.jit(lambda tables: (jax.grad(by_model)(tables), jax.grad(by_dense)(tables)))(params["tables"])
    for name in ("user", "item"):
        np.testing.assert_allclose(actual[name], wanted[name], rtol=1e-4, atol=1e-6)


def test_the_l2_of_the_objective_is_that_of_the_embeddings_before_propagation():
    model, params = made()
    loss = lambda l2: objectives.pairwise(model=model, l2=l2)(params, BATCH, jax.random.key(0), lambda tree: tree)[0]
    rows = rows_of(params)
    sizes = sum(np.square(rows[[user, 4 + pos, 4 + neg]]).sum() for user, pos, neg in [(2, 6, 4), (0, 3, 4)])
    assert float(loss(0.3) - loss(0.0)) == pytest.approx(0.15 * sizes, rel=1e-4)


def test_a_node_without_an_edge_keeps_its_embedding_over_the_number_of_layers():
    _, params = made()
    mean = lightgcn.propagated(params, num_layers=3)["tables"]
    np.testing.assert_allclose(mean["user"][3], params["tables"]["user"][3] / 4, rtol=1e-6)
    np.testing.assert_allclose(mean["item"][4], params["tables"]["item"][4] / 4, rtol=1e-6)


def test_a_graph_without_an_edge_is_no_trouble():
    nobody = KNOWN.take(np.zeros(len(KNOWN), bool))
    np.testing.assert_array_equal(lightgcn.propagate(lightgcn.graph(nobody), jnp.ones((11, 5))), 0)


def test_it_learns_two_groups_where_popularity_is_chance():
    split = two_groups()
    model = lightgcn.model(num_users=20, num_items=20, dimension=8, num_layers=2)
    params = loop.fit_in_memory(
        dataclasses.replace(model, init=lambda key: model.knowing(model.init(key), split.train)),
        objectives.pairwise(model=model, l2=1e-4),
        split.train,
        num_epochs=10,
        batch_size=64,
        optimizer=optax.adam(0.02),
    )
    ranks = evaluate.evaluate(model, params, evaluate.prepare([split.train, split.valid], split.test)).ranks
    assert np.mean(ranks) < 1.5


@pytest.mark.parametrize(("name", "value"), [("num_layers", -1), ("chunk_size", 0), ("num_users", 0)])
def test_wrong_sizes_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        lightgcn.model(**{"num_users": 2, "num_items": 2, name: value})
