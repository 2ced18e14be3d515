"""Two-tower retrieval: a network of the user's fields and one of the item's; the score is the cosine of their outputs.

    score = <u / |u|, v / |v|> / temperature

Yi, Yang, Hong, Cheng, Heldt, Kumthekar, Zhao, Wei and Chi, "Sampling-Bias-Corrected Neural Modeling for Large Corpus
Item Recommendations", RecSys 2019, doi:10.1145/3298689.3346996. Train it with `objectives.in_batch`. The paper's user
tower reads a video that is being watched and averages the watched ones; here it reads the user's id and side features.
A cross of a user's and an item's feature belongs to neither tower and is refused.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrec import checks, fields
from jaxrec.types import Array, Key, Model, Params, PyTree


class Tower(nn.Module):
    """Fields, flattened, [..., W] -> a unit vector [..., widths[-1]]; the last layer is linear."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for number, width in enumerate(self.widths):
            x = nn.Dense(width, name=f"layer_{number}")(nn.relu(x) if number else x)
        # Inside the root, so that the gradient at a vector of zeros is finite.
        return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


def model(
    *,
    num_users: int,
    num_items: int,
    dimension: int = 32,
    widths: tuple[int, ...] = (64, 32),
    temperature: float = 0.1,
    init_scale: float = 0.1,
    side: fields.Side | None = None,
) -> Model:
    """Builds the model.

    Args:
        num_users, num_items, dimension, side: As in `fields.embedded`, without crosses.
        widths: Of both towers' layers; the last is that of the vectors compared.
        temperature: Divides the cosine; small values make the softmax sharp (the paper finds .05 best for YouTube).
        init_scale: As in `mf.model`.

    Returns:
        A `Model` with the tables of `fields.Fields` and weights "user" and "item", the towers.

    Raises:
        ValueError: As in `fields.embedded`, if `side` has crosses, `temperature` is not above 0, or there is no layer.
    """
    if side is not None and (side.user_crossed is not None or side.item_crossed is not None):
        raise ValueError("Expected no crosses of user and item features: neither tower can read them.")
    checks.positive(temperature=temperature)
    if not widths or min(widths) < 1:
        raise ValueError(f"Expected widths of at least one layer, got widths={widths}.")
    embedded = fields.embedded(
        num_users=num_users,
        num_items=num_items,
        dimension=dimension,
        init_scale=init_scale,
        side=side,
        num_buckets=1,
    )
    tower = Tower(widths)

    def init(key: Key) -> Params:
        field_key, user_key, item_key = jax.random.split(key, 3)
        layers = lambda key, num: tower.init(key, jnp.zeros(num * dimension))["params"]
        weights = {"user": layers(user_key, embedded.num_users), "item": layers(item_key, embedded.num_items)}
        return {**embedded.init(field_key), "weights": weights}

    def vectors(params: Params, who: str, own: Array) -> Array:
        found: PyTree = tower.apply({"params": params["weights"][who]}, fields.flat(own))
        return found

    def score(params: Params, users: Array, items: Array) -> Array:
        user = vectors(params, "user", embedded.of_users(params, jnp.asarray(users)))
        item = vectors(params, "item", embedded.of_items(params, jnp.asarray(items)))
        return jnp.einsum("...d,...d->...", user, item) / temperature

    def score_all(params: Params, users: Array) -> Array:
        user = vectors(params, "user", embedded.of_users(params, users))
        return user @ vectors(params, "item", embedded.of_items(params, jnp.arange(num_items))).T / temperature

    return Model(init=init, score=score, score_all=score_all, reads=embedded.reads, given=lambda known: embedded.given)
