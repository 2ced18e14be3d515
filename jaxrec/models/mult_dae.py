"""Mult-DAE: a denoising autoencoder of all that a user has, with a multinomial likelihood.

Liang, Krishnan, Hoffman and Jebara, "Variational Autoencoders for Collaborative Filtering", WWW 2018,
arXiv:1802.05814. An example is a user: `sequences.examples(known, at_least=1)`.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, layers, profiles
from jaxrec.types import Array, Interactions, Key, Model, Objective, Params, Scalar


def model(*, num_users: int, num_items: int, dimension: int = 200) -> Model:
    """Builds the model: with x the items of the user, 1 or 0, and |x| their norm,

        score = output . tanh(W x / |x| + b) + bias of the item

    Args:
        num_users, num_items: U and I.
        dimension: H, of the hidden layer; the paper's code has 200 too.

    Returns:
        A `Model` with tables "item" [I, H], whose rows the encoder adds up, and "output" [I, H + 1], whose last column
        is the biases; weights and biases start as Glorot and 0. What is given are the items of each user. Users are not
        in the tables, so a new one needs no training; the score of one without items is that of an empty history.

    Raises:
        ValueError: If a size is below 1.
    """
    checks.counts(num_users=num_users, num_items=num_items, dimension=dimension)

    def init(key: Key) -> Params:
        item_key, output_key = jax.random.split(key)
        item, vectors = (layers.glorot(key, num_items, dimension) for key in (item_key, output_key))
        tables = {"item": item, "output": layers.with_biases(vectors)}
        return {"tables": tables, "weights": {"bias": jnp.zeros(dimension)}, "given": {}}

    return of_hidden(init, lambda params, users: hidden(params, normalised(multi_hot(params, users))))


def objective(*, dropout: float = 0.5, l2: Scalar = 0.0) -> Objective:
    """Builds the negative log-likelihood of a user's items, of which the encoder sees some:

        sum over users of -(sum over the user's items of log softmax(scores)) + l2 * |all parameters|^2

    Args:
        dropout: Share of the user's items that the encoder does not see, in steps of 1 / 256; the others count 1 / (1 -
            dropout) times as much.
        l2: The paper's code has .01 / 500, of all parameters but biases. May be traced.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`, a sum over users, where the paper's code has the mean. The
        metrics are sums too: `loss` and `examples`. What is random depends on the step and the user.

    Raises:
        ValueError: If `dropout` is not in [0, 1) or `l2` is negative.
    """
    checks.rates(dropout=dropout)
    checks.non_negative(l2=l2)

    def denoising(params, batch, key, reduce):
        del reduce  # a sum over users needs nothing from other devices
        x = multi_hot(params, batch["users"])
        seen = dropped(key, normalised(x), batch["users"], dropout)
        losses = -log_likelihood(scores(params, hidden(params, seen)), x)
        item, vectors = params["tables"]["item"], params["tables"]["output"][:, :-1]
        losses += l2 * (jnp.sum(jnp.square(item)) + jnp.sum(jnp.square(vectors)))
        total = jnp.sum(jnp.where(batch["where"], losses, 0))
        return total, {"loss": total, "examples": jnp.sum(batch["where"])}

    return denoising


def hidden(params: Params, x: Array) -> Array:
    """The first layer of x [B, I], as products of the multi-hot rows with the table: [B, H]."""
    return jnp.tanh(x @ params["tables"]["item"] + params["weights"]["bias"][None])


def of_hidden(init, hidden) -> Model:
    """The recommender of an autoencoder.

    Args:
        init: key -> params.
        hidden: (params, users [B]) -> [B, H], what the rows of the table "output" are multiplied with.
    """

    def score(params: Params, users: Array, items: Array) -> Array:
        users = jnp.asarray(users)
        rows = params["tables"]["output"][jnp.asarray(items)]
        found = hidden(params, users.reshape(-1)).reshape(*users.shape, -1)
        return jnp.sum(found * rows[..., :-1], axis=-1) + rows[..., -1]

    score_all = lambda params, users: scores(params, hidden(params, users))
    return Model(init=init, score=score, score_all=score_all, given=given)


def scores(params: Params, hidden: Array) -> Array:
    """[B, H] -> [B, I]."""
    output = params["tables"]["output"]
    return hidden @ output[:, :-1].T + output[None, :, -1]


def given(known: Interactions) -> dict[str, profiles.Profiles]:
    """The items of each user."""
    return {"profiles": profiles.prepare(known)}


def multi_hot(params: Params, users: Array) -> Array:
    """1 where the user has the item, 0 elsewhere: [B, I]. However often the user has it."""
    return profiles.multi_hot(params["given"]["profiles"], users)


def normalised(x: Array) -> Array:
    """x of 1 and 0 [B, I], each row divided by its L2 norm; zeros stay."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x, axis=1, keepdims=True), 1))


def user_keys(key: Key, users: Array) -> Key:
    """A key for each user [B], whatever device has them."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, users)


def dropped(key: Key, x: Array, users: Array, rate: float) -> Array:
    """`layers.dropout` of x [B, I], by a key of each user's own."""
    return jax.vmap(lambda key, row: layers.dropout(key, row, rate))(user_keys(key, users), x)


def log_likelihood(scores: Array, x: Array) -> Array:
    """Of a multinomial over items with these logits [B, I], up to what does not depend on them: [B]."""
    return jnp.sum(x * jax.nn.log_softmax(scores, axis=1), axis=1)
