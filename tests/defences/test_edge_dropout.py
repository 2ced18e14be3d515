"""What is special to edge dropout: whole edges go, at the rate, and what is left is normalised anew."""

import functools

import jax
import numpy as np
import pytest
import test_every_defence as laws
import toys

from jaxrec.defences import edge_dropout
from jaxrec.models import lightgcn
from jaxrec.types import Interactions

RATE = 0.3


@functools.cache
def large():
    """A graph of 60 users and 40 items with about 1,200 edges."""
    users, items = np.nonzero(np.random.default_rng(0).uniform(size=(60, 40)) < 0.5)
    return lightgcn.graph(Interactions(users.astype(np.int32), items.astype(np.int32), 60, 40), chunk_size=64)


thinned = jax.jit(functools.partial(edge_dropout.thinned, rate=RATE))


def adjacency(graph, num=100):
    """The edges as they are laid out, [U + I, U + I]; the place of no node is left out."""
    nodes = np.broadcast_to(np.asarray(graph["nodes"])[..., None], graph["neighbours"].shape)
    matrix = np.zeros((num + 1, num + 1), int)
    np.add.at(matrix, (nodes.ravel(), np.asarray(graph["neighbours"]).ravel()), 1)
    return matrix[:num, :num]


def test_edges_go_in_both_directions_at_the_rate():
    before, shares = adjacency(large()), []
    for seed in range(20):
        after = adjacency(thinned(large(), jax.random.key(seed)))
        assert (after == after.T).all()
        assert (after <= before).all()
        shares.append(1 - after.sum() / before.sum())
    num_draws = 20 * before.sum() / 2
    assert abs(np.mean(shares) - RATE) < 4 * np.sqrt(RATE * (1 - RATE) / num_draws)
    assert np.std(shares) < 2 * np.sqrt(RATE * (1 - RATE) / (before.sum() / 2)), "edges are drawn one by one"


def test_the_key_alone_decides_which():
    first, again, other = (adjacency(thinned(large(), jax.random.key(seed))) for seed in (0, 0, 1))
    assert (first == again).all()
    edges = adjacency(large()) > 0
    assert abs(np.mean(first[edges] == other[edges]) - (RATE**2 + (1 - RATE) ** 2)) < 0.08


def test_what_is_left_is_normalised_by_its_own_degrees():
    graph = thinned(large(), jax.random.key(3))
    matrix = adjacency(graph).astype(float)
    degrees = matrix.sum(axis=1)
    assert degrees.min() > 0
    x = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    expected = matrix / np.sqrt(np.outer(degrees, degrees)) @ x
    np.testing.assert_allclose(jax.jit(lightgcn.propagate)(graph, x), expected, rtol=1e-4, atol=1e-5)


def test_a_node_without_edges_left_keeps_its_own_row():
    params = laws.params_of("edge_dropout")
    for seed in range(30):
        graph = edge_dropout.thinned(params["given"], jax.random.key(seed), 0.9)
        alone = np.asarray(graph["scale"])[:4] == 0
        if alone[:3].any() and not alone[:3].all():
            break
    moved = lightgcn.propagated({**params, "given": graph}, num_layers=3)["tables"]["user"]
    own = np.asarray(params["tables"]["user"]) / 4
    same = np.isclose(moved, own, rtol=1e-5).all(axis=1)
    assert (same == alone).all()


def test_at_rate_0_it_is_the_clean_objective_and_rate_1_is_refused():
    model, clean = laws.OTHERS["edge_dropout"]
    del model
    objective, params = edge_dropout.objective(clean=clean, rate=0.0), laws.params_of("edge_dropout")
    found, expected = (
        jax.jit(lambda each=each: laws.differentiated(each, params, toys.BATCH))() for each in (objective, clean)
    )
    laws.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"Expected rate in \[0, 1\), got rate=1"):
        edge_dropout.objective(clean=clean, rate=1.0)


def test_the_loss_is_that_of_the_thinned_graph():
    _, clean = laws.OTHERS["edge_dropout"]
    params, key = laws.params_of("edge_dropout"), jax.random.key(0)
    objective = edge_dropout.objective(clean=clean, rate=0.5)
    loss, _ = jax.jit(lambda: objective(params, toys.BATCH, key, lambda tree: tree))()
    graph = edge_dropout.thinned(params["given"], jax.random.split(key)[0], 0.5)
    expected, _ = jax.jit(lambda: clean({**params, "given": graph}, toys.BATCH, key, lambda tree: tree))()
    whole, _ = jax.jit(lambda: clean(params, toys.BATCH, key, lambda tree: tree))()
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert abs(float(loss) - float(whole)) > 1e-3
