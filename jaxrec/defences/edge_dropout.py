"""Edge dropout: each step of a graph model sees a graph of which a random share of the edges is missing.

The edge dropout of Wu, Wang, Feng, He, Chen, Lian and Xie, "Self-supervised Graph Learning for Recommendation", SIGIR
2021, arXiv:2010.10783 (SGL-ED): all layers see the same thinned graph, normalised by its own degrees. There two such
graphs are views to be contrasted; here one is what the loss is taken on.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, layers
from jaxrec.types import Array, Key, Objective


def objective(*, clean: Objective, rate: float = 0.1) -> Objective:
    """Builds the clean objective on a thinned graph, another one for each step.

    It changes what is given to the loss of a step and nothing else: evaluation and attacks see the whole graph.

    Args:
        clean: Of a model that is given a graph as `lightgcn.graph` lays it out.
        rate: Of edges that are dropped, in [0, 1). With 0 it is `clean`.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`, the metrics those of `clean` on the thinned graph. All
        devices draw the same graph.

    Raises:
        ValueError: If `rate` is not in [0, 1).
    """
    checks.rates(rate=rate)

    def dropped(params, batch, key, reduce):
        drop_key, clean_key = jax.random.split(key)
        given = {**params["given"], **thinned(params["given"], drop_key, rate)}
        return clean({**params, "given": given}, batch, clean_key, reduce)

    return dropped


def thinned(graph: dict[str, Array], key: Key, rate: float) -> dict[str, Array]:
    """The graph without edges that are drawn, each with chance `rate`, in both directions, and with the degrees left.

    A node that loses all its edges keeps its own embedding, as one that has none. An edge is drawn by a hash of its two
    ends (`layers.hashed`), which both directions share: nothing is looked up, and no shape changes.
    """
    if rate == 0:
        return graph
    neighbours, nodes = graph["neighbours"], graph["nodes"]
    num_nodes = graph["scale"].shape[0]
    owners = jnp.broadcast_to(nodes[..., None], neighbours.shape)
    ends = [end.astype(jnp.uint32) for end in (jnp.minimum(owners, neighbours), jnp.maximum(owners, neighbours))]
    words = jax.random.bits(key, (2,), jnp.uint32)
    bits = layers.hashed(layers.hashed(ends[0] ^ words[0]) + (ends[1] ^ words[1]))
    kept = (neighbours < num_nodes) & (bits >= jnp.uint32(rate * 2**32))
    degrees = jnp.zeros(num_nodes + 1, jnp.int32).at[nodes].add(jnp.sum(kept, axis=-1, dtype=jnp.int32))[:-1]
    scale = jnp.where(degrees > 0, jax.lax.rsqrt(jnp.maximum(degrees, 1).astype(graph["scale"].dtype)), 0)
    return {"neighbours": jnp.where(kept, neighbours, num_nodes), "nodes": nodes, "scale": scale}
