"""Mult-VAE: a variational autoencoder of all that a user has, with a multinomial likelihood and a weaker prior.

Liang, Krishnan, Hoffman and Jebara, "Variational Autoencoders for Collaborative Filtering", WWW 2018,
arXiv:1802.05814. An example is a user: `sequences.examples(known, at_least=1)`.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, layers
from jaxrec.models import mult_dae
from jaxrec.types import Array, Key, Model, Objective, Params


def model(*, num_users: int, num_items: int, dimension: int = 600, latent_dimension: int = 200) -> Model:
    """Builds the model: with x the items of the user, 1 or 0, and |x| their norm,

        mean, log variance = W2 tanh(W1 x / |x| + b1) + b2,    score = output . tanh(W3 mean + b3) + bias of the item

    Args:
        num_users, num_items: U and I.
        dimension: H, of the two hidden layers.
        latent_dimension: Z, of mean and variance.

    Returns:
        A `Model` with tables "item" [I, H], whose rows the encoder adds up, and "output" [I, H + 1], whose last column
        is the biases. What is given are the items of each user, as in `mult_dae.model`. A score is that of the mean.

    Raises:
        ValueError: If a size is below 1.
    """
    checks.counts(num_users=num_users, num_items=num_items, dimension=dimension, latent_dimension=latent_dimension)

    def init(key: Key) -> Params:
        item_key, latent_key, decoder_key, output_key = jax.random.split(key, 4)
        weights = {
            "bias": jnp.zeros(dimension),
            "latent": layers.dense_layer(latent_key, dimension, 2 * latent_dimension),
            "decoder": layers.dense_layer(decoder_key, latent_dimension, dimension),
        }
        item, vectors = (layers.glorot(key, num_items, dimension) for key in (item_key, output_key))
        tables = {"item": item, "output": layers.with_biases(vectors)}
        return {"tables": tables, "weights": weights, "given": {}}

    def hidden(params: Params, users: Array) -> Array:
        mean, _ = _encode(params, mult_dae.normalised(mult_dae.multi_hot(params, users)))
        return _decode(params, mean)

    return mult_dae.of_hidden(init, hidden)


def objective(*, dropout: float = 0.5, max_beta: float = 0.2, anneal_steps: int = 200_000) -> Objective:
    """Builds the negative evidence lower bound with a weight beta on its second term:

        sum over users of -(sum over the user's items of log softmax(scores)) + beta * KL(q(z | x) || N(0, 1))

    with one draw of z. beta grows with the steps, min(max_beta, step / anneal_steps): .2 after 40,000, as in the
    paper's code on ML-20M, of which an epoch has 233.

    Args:
        dropout: As in `mult_dae.objective`.
        max_beta: The largest beta; the paper's is found on validation users, .2 on ML-20M.
        anneal_steps: Steps in which beta would reach 1; 0 has it at `max_beta` from the start.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `step` (`train.parallel` adds it), a sum
        over users. The metrics are sums too: `loss`, `kl` and `examples`. What is random depends on the step and the
        user. There is no L2, as in the paper's code.

    Raises:
        ValueError: If `dropout` is not in [0, 1), or `max_beta` or `anneal_steps` is negative.
    """
    checks.rates(dropout=dropout)
    checks.non_negative(max_beta=max_beta, anneal_steps=anneal_steps)

    def bound(params, batch, key, reduce):
        del reduce  # a sum over users needs nothing from other devices
        noise_key, dropout_key = jax.random.split(key)
        x = mult_dae.multi_hot(params, batch["users"])
        seen = mult_dae.dropped(dropout_key, mult_dae.normalised(x), batch["users"], dropout)
        mean, log_variance = _encode(params, seen)
        draw = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))
        z = mean + jnp.exp(log_variance / 2) * draw(mult_dae.user_keys(noise_key, batch["users"]))
        beta = jnp.minimum(max_beta, batch["step"] / anneal_steps) if anneal_steps else max_beta
        kl = divergence(mean, log_variance)
        losses = beta * kl - mult_dae.log_likelihood(mult_dae.scores(params, _decode(params, z)), x)
        counted = lambda values: jnp.sum(jnp.where(batch["where"], values, 0))
        total = counted(losses)
        return total, {"loss": total, "kl": counted(kl), "examples": jnp.sum(batch["where"])}

    return bound


def divergence(mean: Array, log_variance: Array) -> Array:
    """KL(N(mean, variance) || N(0, 1)) of independent coordinates: [B, Z] and [B, Z] -> [B]."""
    return jnp.sum(jnp.exp(log_variance) + jnp.square(mean) - 1 - log_variance, axis=1) / 2


def _encode(params: Params, x: Array) -> tuple[Array, Array]:
    """x [B, I] -> the mean and the logarithm of the variance of z, [B, Z] each."""
    mean, log_variance = jnp.split(layers.dense(params["weights"]["latent"], mult_dae.hidden(params, x)), 2, axis=1)
    return mean, log_variance


def _decode(params: Params, z: Array) -> Array:
    """z [B, Z] -> [B, H]."""
    return jnp.tanh(layers.dense(params["weights"]["decoder"], z))
