"""A multi-layer perceptron on both embeddings, the other half of NeuMF.

    score = bias + h . relu(W_L ... relu(W_1 [p; q] + b_1) ... + b_L)

He, Liao, Zhang, Nie, Hu and Chua, "Neural Collaborative Filtering", WWW 2017, arXiv:1708.05031, eq. 10. The sigmoid is
left to the loss. The first layer is two products, of p and of q, added: the same function, but a user's is computed
once for all of its items.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrec import checks
from jaxrec.models import gmf, mf
from jaxrec.types import Array, Key, Model, Params, PyTree


class Tower(nn.Module):
    """Rows [..., W] of a user, an item and perhaps both -> relu layers of `widths` on all of them, [..., widths[-1]].

    The rows broadcast against each other, and may be of different widths, 0 too. Glorot's uniform initialiser, zero
    biases.
    """

    widths: tuple[int, ...]

    def setup(self) -> None:
        layer = functools.partial(nn.Dense, kernel_init=nn.initializers.glorot_uniform())
        self.user, self.both = (layer(self.widths[0], use_bias=False) for _ in range(2))
        self.item = layer(self.widths[0])
        for number, width in enumerate(self.widths[1:], 1):
            setattr(self, f"layer_{number}", layer(width))

    def part(self, name: str, rows: Array) -> Array:
        """What the rows of "user", "item" or "both" add to the first layer, [..., widths[0]]."""
        return getattr(self, name)(rows)

    def rest(self, parts: Array) -> Array:
        """The sum of the parts [..., widths[0]] -> the last layer [..., widths[-1]]."""
        for number in range(1, len(self.widths)):
            parts = getattr(self, f"layer_{number}")(nn.relu(parts))
        return nn.relu(parts)

    def __call__(self, *rows: Array) -> Array:
        named = zip(("user", "item", "both"), rows, strict=False)
        return self.rest(jnp.asarray(sum(self.part(name, x) for name, x in named if x.shape[-1])))


def model(
    *, num_users: int, num_items: int, dimension: int = 8, num_layers: int = 3, init_scale: float = 0.01
) -> Model:
    """Builds the model.

    Args:
        num_users, num_items, init_scale: As in `mf.model`.
        dimension: Width of the last hidden layer, D (paper: 8 to 64 predictive factors).
        num_layers: Hidden layers, each half as wide as the one before; an embedding is as wide as the first (paper: 3).

    Returns:
        A `Model` with tables "user" [U, W] and "item" [I, W], W = `width(dimension, num_layers)`, and weights "layers"
        and "output" (kernel [D] and bias).

    Raises:
        ValueError: As in `mf.model`, and if `num_layers < 1`.
    """
    checks.counts(num_layers=num_layers)
    own = width(dimension, num_layers)
    embeddings = mf.model(num_users=num_users, num_items=num_items, dimension=own, init_scale=init_scale)
    tower = Tower(widths(dimension, num_layers))

    def init(key: Key) -> Params:
        table_key, layer_key, output_key = jax.random.split(key, 3)
        layers = tower.init(layer_key, jnp.zeros(own), jnp.zeros(own))["params"]
        weights = {"layers": layers, "output": gmf.output_layer(output_key, dimension)}
        return {**embeddings.init(table_key), "weights": weights}

    def part(params: Params, name: str, rows: Array) -> Array:
        return jnp.asarray(tower.apply({"params": params["weights"]["layers"]}, name, rows, method="part"))

    def joined(params: Params, user: Array, item: Array) -> Array:
        weights = params["weights"]
        hidden: PyTree = tower.apply({"params": weights["layers"]}, user + item, method="rest")
        return weights["output"]["bias"] + hidden @ weights["output"]["kernel"]

    return of_parts(embeddings, init, part, joined)


def width(dimension: int, num_layers: int) -> int:
    """Length of an embedding: that of the first hidden layer."""
    return dimension * 2 ** (num_layers - 1)


def widths(dimension: int, num_layers: int) -> tuple[int, ...]:
    """Of the hidden layers, each half the one before, the last `dimension`."""
    return tuple(width(dimension, number) for number in range(num_layers, 0, -1))


def of_parts(embeddings: Model, init, part, joined) -> Model:
    """The model with the tables of `embeddings` whose scores are `joined(params, user's part, item's part)`, where
    `part(params, "user" or "item", rows)` is what depends on one row alone.

    All items are scored for one user after another: their hidden layers [B, I, W] would not fit a cache, and a gradient
    computes them again rather than keep them. The items' parts are computed once for all users.
    """

    def score_rows(params: Params, users: Array, items: Array) -> Array:
        return joined(params, part(params, "user", users), part(params, "item", items))

    def score(params: Params, users: Array, items: Array) -> Array:
        return score_rows(params, params["tables"]["user"][users], params["tables"]["item"][items])

    def score_all(params: Params, users: Array) -> Array:
        of_users = part(params, "user", params["tables"]["user"][users][:, None])
        of_items = part(params, "item", params["tables"]["item"])
        return jax.lax.map(jax.checkpoint(lambda user: joined(params, user, of_items)), of_users)

    return Model(init=init, score=score, score_all=score_all, score_rows=score_rows, reads=embeddings.reads)
