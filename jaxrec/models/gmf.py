"""Generalised matrix factorisation: a weighted dot product of embeddings, one half of NeuMF.

    score = bias + h . (p * q)

He, Liao, Zhang, Nie, Hu and Chua, "Neural Collaborative Filtering", WWW 2017, arXiv:1708.05031, eq. 9. The sigmoid is
left to the loss (`losses.bce` takes logits). The paper trains it with `objectives.listwise`, four uniform negatives and
Adam.
"""

import math

import jax
import jax.numpy as jnp

from jaxrec.models import mf
from jaxrec.types import Array, Key, Model, Params


def model(*, num_users: int, num_items: int, dimension: int = 8, init_scale: float = 0.01) -> Model:
    """Builds the model.

    Args:
        num_users, num_items, init_scale: As in `mf.model`.
        dimension: Length D of an embedding (paper: 8 to 64 predictive factors).

    Returns:
        A `Model` with tables "user" [U, D] and "item" [I, D], and weights "output": kernel [D] (h) and bias.

    Raises:
        ValueError: As in `mf.model`.
    """
    embeddings = mf.model(num_users=num_users, num_items=num_items, dimension=dimension, init_scale=init_scale)

    def init(key: Key) -> Params:
        table_key, output_key = jax.random.split(key)
        return {**embeddings.init(table_key), "weights": {"output": output_layer(output_key, dimension)}}

    def score(params: Params, users: Array, items: Array) -> Array:
        return _score_rows(params, params["tables"]["user"][users], params["tables"]["item"][items])

    def score_all(params: Params, users: Array) -> Array:
        output, tables = params["weights"]["output"], params["tables"]
        return output["bias"] + (tables["user"][users] * output["kernel"][None]) @ tables["item"].T

    return Model(init=init, score=score, score_all=score_all, score_rows=_score_rows, reads=embeddings.reads)


def output_layer(key: Key, width: int) -> dict[str, Array]:
    """The weights [width] and the bias of a layer with one output, in the paper's code LeCun's uniform and 0."""
    bound = math.sqrt(3 / width)
    return {"kernel": jax.random.uniform(key, (width,), minval=-bound, maxval=bound), "bias": jnp.zeros(())}


def _score_rows(params: Params, users: Array, items: Array) -> Array:
    output = params["weights"]["output"]
    return output["bias"] + (users * items) @ output["kernel"]
