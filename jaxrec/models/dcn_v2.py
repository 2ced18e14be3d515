"""DCN-v2: layers that multiply all fields with a linear map of themselves, beside a multi-layer perceptron.

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l;   score = h . [x_L ; MLP(x_0)]

Wang, Shivanna, Cheng, Jain, Lin, Hong and Chi, "DCN V2: Improved Deep & Cross Network and Practical Lessons for
Web-scale Learning to Rank Systems", WWW 2021, arXiv:2008.13535, eq. 1, the parallel form. W_l is a full matrix, or
one of low rank, U_l V_l (eq. 2); the paper's mixtures of such matrices are not here.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrec import checks, fields
from jaxrec.models import deepfm, gmf, mlp
from jaxrec.types import Array, Key, Model, Params, PyTree


class Crosses(nn.Module):
    """x_0 [..., W] -> x_L [..., W]."""

    num_layers: int
    rank: int | None

    @nn.compact
    def __call__(self, start: Array) -> Array:
        x = start
        for number in range(self.num_layers):
            inner = x if self.rank is None else nn.Dense(self.rank, use_bias=False, name=f"inner_{number}")(x)
            x = start * nn.Dense(start.shape[-1], name=f"cross_{number}")(inner) + x
        return x


def model(
    *,
    num_users: int,
    num_items: int,
    dimension: int = 16,
    num_crosses: int = 2,
    rank: int | None = None,
    widths: tuple[int, ...] = (64, 32),
    init_scale: float = 0.1,
    side: fields.Side | None = None,
    num_buckets: int = 2**14,
) -> Model:
    """Builds the model.

    Args:
        num_users, num_items, dimension, side, num_buckets: As in `fields.embedded`.
        num_crosses: Cross layers, L; scores are polynomials of degree L + 1 in the embeddings, and the perceptron.
        rank: Of the cross layers' matrices; None for full ones, which cost W^2 multiplications a score, W the number of
            fields times D.
        widths: Of the perceptron's hidden layers.
        init_scale: As in `mf.model`; products of small embeddings learn slowly.

    Returns:
        A `Model` with the tables of `fields.Fields` and weights "crosses", "layers" and "output".

    Raises:
        ValueError: As in `fields.embedded`, and if `num_crosses < 1`, `rank < 1` or there is no hidden layer.
    """
    checks.counts(num_crosses=num_crosses, rank=1 if rank is None else rank)
    if not widths or min(widths) < 1:
        raise ValueError(f"Expected widths of at least one hidden layer, got widths={widths}.")
    embedded = fields.embedded(
        num_users=num_users,
        num_items=num_items,
        dimension=dimension,
        init_scale=init_scale,
        side=side,
        num_buckets=num_buckets,
    )
    crosses, tower = Crosses(num_crosses, rank), mlp.Tower(widths)

    def init(key: Key) -> Params:
        field_key, cross_key, layer_key, output_key = jax.random.split(key, 4)
        inputs = [jnp.zeros(num * dimension) for num in (embedded.num_users, embedded.num_items, embedded.num_both)]
        start = jnp.concatenate(inputs)
        weights = {
            "crosses": crosses.init(cross_key, start)["params"],
            "layers": tower.init(layer_key, *inputs)["params"],
            "output": gmf.output_layer(output_key, len(start) + widths[-1]),
        }
        return {**embedded.init(field_key), "weights": weights}

    def of_fields(params: Params, *groups: Array) -> Array:
        weights = params["weights"]
        vectors = [fields.flat(group) for group in groups]
        shape = jnp.broadcast_shapes(*(x.shape[:-1] for x in vectors))
        start = jnp.concatenate([jnp.broadcast_to(x, (*shape, x.shape[-1])) for x in vectors], axis=-1)
        polynomial: PyTree = crosses.apply({"params": weights["crosses"]}, start)
        hidden: PyTree = tower.apply({"params": weights["layers"]}, *vectors)
        of_crosses, of_hidden = jnp.split(weights["output"]["kernel"], [start.shape[-1]])
        return weights["output"]["bias"] + polynomial @ of_crosses + hidden @ of_hidden

    return deepfm.of_both_fields(embedded, init, of_fields, num_items)
