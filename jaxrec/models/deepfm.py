"""DeepFM: a factorisation machine and a multi-layer perceptron on the same embeddings, added.

    score = FM + h . MLP([all fields])

Guo, Tang, Ye, Li and He, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017,
arXiv:1703.04247. The paper's sigmoid is left to the loss. Its dropout (.5) and wide layers (3 of 400, for Criteo) are
not ours: MovieLens is small.
"""

import jax
import jax.numpy as jnp

from jaxrec import fields
from jaxrec.models import fm, gmf, mlp
from jaxrec.types import Array, Key, Model, Params, PyTree


def model(
    *,
    num_users: int,
    num_items: int,
    dimension: int = 16,
    widths: tuple[int, ...] = (64, 32),
    init_scale: float = 0.01,
    side: fields.Side | None = None,
    num_buckets: int = 2**14,
) -> Model:
    """Builds the model.

    Args:
        num_users, num_items, dimension, init_scale, side, num_buckets: As in `fm.model`.
        widths: Of the hidden layers.

    Returns:
        A `Model` with the tables of `fm.model` and weights "bias", "layers" and "output".

    Raises:
        ValueError: As in `fields.embedded`, and if there is no hidden layer.
    """
    embedded = fields.embedded(
        num_users=num_users,
        num_items=num_items,
        dimension=dimension + 1,
        init_scale=init_scale,
        side=side,
        num_buckets=num_buckets,
    )
    if not widths or min(widths) < 1:
        raise ValueError(f"Expected widths of at least one hidden layer, got widths={widths}.")
    tower = mlp.Tower(widths)

    def init(key: Key) -> Params:
        field_key, layer_key, output_key = jax.random.split(key, 3)
        inputs = [jnp.zeros(num * dimension) for num in (embedded.num_users, embedded.num_items, embedded.num_both)]
        layers = tower.init(layer_key, *inputs)["params"]
        weights = {"bias": jnp.zeros(()), "layers": layers, "output": gmf.output_layer(output_key, widths[-1])}
        return {**embedded.init(field_key), "weights": weights}

    def of_fields(params: Params, *groups: Array) -> Array:
        weights = params["weights"]
        vectors = [fields.flat(group[..., :-1]) for group in groups]
        hidden: PyTree = tower.apply({"params": weights["layers"]}, *vectors)
        deep = weights["output"]["bias"] + hidden @ weights["output"]["kernel"]
        return weights["bias"] + fm.pairwise(*groups) + deep

    return of_both_fields(embedded, init, of_fields, num_items)


def of_both_fields(embedded: fields.Fields, init, of_fields, num_items: int) -> Model:
    """The model whose scores are `of_fields(params, fields of users, of items, of both)`, [..., F, D] each.

    All items are scored for one user after another, as in `mlp.of_parts`.
    """

    def score(params: Params, users: Array, items: Array) -> Array:
        users, items = jnp.asarray(users), jnp.asarray(items)
        both = embedded.of_both(params, users, items)
        return of_fields(params, embedded.of_users(params, users), embedded.of_items(params, items), both)

    def score_all(params: Params, users: Array) -> Array:
        everything = jnp.arange(num_items)
        of_items = embedded.of_items(params, everything)

        def of_user(user):
            both = embedded.of_both(params, user[None], everything)
            return of_fields(params, embedded.of_users(params, user[None]), of_items, both)

        return jax.lax.map(of_user, users)

    return Model(init=init, score=score, score_all=score_all, reads=embedded.reads, given=lambda known: embedded.given)
