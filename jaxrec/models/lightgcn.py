"""LightGCN: embeddings averaged over the user-item graph, layer by layer, and nothing else; dot products of them.

He, Deng, Wang, Li, Zhang and Wang, "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
SIGIR 2020, arXiv:2002.02126.

It is trained by `objectives.pairwise(model=, l2=)`: BPR with the L2 of the embeddings before propagation.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, profiles
from jaxrec.models import mf
from jaxrec.types import Array, Interactions, Model, Params, PyTree

WIDTH = 4  # neighbours that are added up before one row is written: fewer writes against more padding


def model(
    *,
    num_users: int,
    num_items: int,
    dimension: int = 64,
    num_layers: int = 3,
    init_scale: float = 0.1,
    chunk_size: int = 1024,
) -> Model:
    """Builds the model: with E [U + I, D] the rows of both tables and A the normalised adjacency of users and items,

        score = row of the user . row of the item, in (E + A E + ... + A^K E) / (K + 1)        (eqs. 3, 4, 8)

    Args:
        num_users, num_items, dimension: As in `mf.model`.
        num_layers: K; 0 is matrix factorisation.
        init_scale: As in `mf.model`, where the paper's code draws a normal that is not cut.
        chunk_size: Groups of `WIDTH` neighbours that are gathered at a time. 1,024 fit a CPU's cache; a GPU takes more.

    Returns:
        A `Model` with tables "user" [U, D] and "item" [I, D], the embeddings before propagation. What is given is the
        graph of the interactions that are known. The published protocol keeps the graph of training for the test:
        `model.knowing(params, split.train)`. A node without an edge has its own embedding, divided by K + 1; a user of
        whom items are known all the same is served beside the graph by `solve_users`, which is `with_newcomers`. Every
        score depends on every row, so `reads` is None. Gradients are reverse-mode only. `score_all` propagates at each
        call; in `evaluate` XLA moves that out of the loop over chunks of users.

    Raises:
        ValueError: As in `mf.model`, and if `num_layers < 0` or `chunk_size < 1`.
    """
    if num_layers < 0:
        raise ValueError(f"Expected num_layers >= 0, got num_layers={num_layers}.")
    checks.counts(chunk_size=chunk_size)
    plain = mf.model(num_users=num_users, num_items=num_items, dimension=dimension, init_scale=init_scale)

    def after_propagation(scores: Callable[..., PyTree]) -> Callable[..., PyTree]:
        return lambda params, *ids: scores(propagated(params, num_layers=num_layers), *ids)

    return dataclasses.replace(
        plain,
        score=after_propagation(plain.score),
        score_all=after_propagation(plain.score_all),
        score_pairs=after_propagation(plain.score_pairs) if plain.score_pairs else None,
        score_rows=None,
        reads=None,
        canonical=None,
        given=functools.partial(graph, chunk_size=chunk_size),
        solve_users=functools.partial(with_newcomers, num_layers=num_layers),
    )


def propagated(params: Params, *, num_layers: int) -> Params:
    """The params of the matrix factorisation (`mf.model`) that scores as LightGCN with these params does."""
    user, item = params["tables"]["user"], params["tables"]["item"]
    mean: Array = _mean_of_layers(num_layers, jnp.concatenate([user, item]), params["given"])
    return {**params, "tables": {"user": mean[: len(user)], "item": mean[len(user) :]}}


def with_newcomers(params: Params, known: Interactions, *, num_layers: int) -> Params:
    """The params with rows for users without an edge in the graph of whom items are known; nobody else is served other.

    Their layers are what their history makes of the items' layers, in which they have no part, beside a layer 0 of
    nothing, for they have no embedding that was trained:

        layer k + 1 of u = sum over u's items i of  (layer k of i) / sqrt(items of u * degree of i)

    As they are in nobody's propagation, the sum of these layers as an embedding gives the same scores. It is 0 where
    no item of theirs has an edge, or `num_layers` is 0.
    """
    user, item, scale = params["tables"]["user"], params["tables"]["item"], np.asarray(params["given"]["scale"])
    layer, of_items = jnp.concatenate([user, item]), np.zeros(item.shape, item.dtype)
    for _ in range(num_layers):
        of_items = of_items + layer[len(user) :]
        layer = propagate(params["given"], layer)
    history = profiles.matrix(known)
    counts = np.diff(history.indptr)
    new = np.flatnonzero((scale[: len(user)] == 0) & (counts > 0))
    rows = history[new] @ (scale[len(user) :, None] * np.asarray(of_items)) / np.sqrt(counts[new])[:, None]
    return {**params, "tables": {**params["tables"], "user": user.at[new].set(rows.astype(user.dtype))}}


def graph(known: Interactions, *, chunk_size: int = 1024) -> dict[str, Array]:
    """The edges of the known interactions, in both directions, an edge once however often it is known.

    A node's neighbours are cut into groups of `WIDTH`, the last filled up, and all nodes' groups follow one another in
    chunks. Nodes are the users, then the items; the place after them, U + I, stands for none.

    Returns:
        `neighbours` int32 [chunks, C, WIDTH], `nodes` int32 [chunks, C], to whose sums they add, and `scale` float32
        [U + I], 1 / sqrt(degree), 0 of a node without neighbours.
    """
    num_nodes = known.num_users + known.num_items
    pairs = np.sort(known.users.astype(np.int64) * known.num_items + known.items)
    users, items = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], known.num_items)
    items = items + known.num_users
    nodes, neighbours = np.concatenate([users, items]), np.concatenate([items, users])
    order = np.argsort(nodes, kind="stable")
    nodes, neighbours = nodes[order], neighbours[order]
    degrees = np.bincount(nodes, minlength=num_nodes)

    num_groups = -(-degrees // WIDTH)
    place = np.arange(len(nodes)) - (np.cumsum(degrees) - degrees)[nodes]
    group = (np.cumsum(num_groups) - num_groups)[nodes] + place // WIDTH
    total = max(int(num_groups.sum()), 1)
    size = min(chunk_size, total)
    padded = -(-total // size) * size
    grouped, owners = np.full((padded, WIDTH), num_nodes, np.int32), np.full(padded, num_nodes, np.int32)
    grouped[group, place % WIDTH] = neighbours
    owners[: num_groups.sum()] = np.repeat(np.arange(num_nodes), num_groups)
    scale = np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1)), 0)
    return {
        "neighbours": jnp.asarray(grouped.reshape(-1, size, WIDTH)),
        "nodes": jnp.asarray(owners.reshape(-1, size)),
        "scale": jnp.asarray(scale, jnp.float32),
    }


def propagate(graph: dict[str, Array], x: Array) -> Array:
    """A x, [U + I, D] -> [U + I, D]: each node's sum over its neighbours x, each divided by the root of both degrees.

    Groups of neighbours are gathered and added up in one pass, and written once, in the order of the nodes.
    """
    scaled = jnp.pad(graph["scale"][:, None] * x, ((0, 1), (0, 0)))  # the last row is that of no node

    def add(sums, chunk):
        neighbours, nodes = chunk
        group = sum(scaled.at[neighbours[:, i]].get(mode="promise_in_bounds") for i in range(WIDTH))
        return sums.at[nodes].add(group, mode="promise_in_bounds"), None

    sums, _ = jax.lax.scan(add, jnp.zeros_like(scaled), (graph["neighbours"], graph["nodes"]))
    return graph["scale"][:, None] * sums[:-1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mean_of_layers(num_layers: int, x: Array, graph: dict[str, Array]) -> Array:
    """(x + A x + ... + A^K x) / (K + 1). It is symmetric in x, as A is, so it is its own gradient."""
    total = layer = x
    for _ in range(num_layers):
        layer = propagate(graph, layer)
        total = total + layer
    return total / (num_layers + 1)


def _forward(num_layers, x, graph):
    return _mean_of_layers(num_layers, x, graph), graph


def _backward(num_layers, graph, cotangent):
    return _mean_of_layers(num_layers, cotangent, graph), None


_mean_of_layers.defvjp(_forward, _backward)
