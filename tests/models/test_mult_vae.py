"""What is special to Mult-VAE: the terms of its bound against NumPy, the annealing, the noise."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import two_groups

from jaxrec import evaluate, loop, sequences
from jaxrec.models import mult_vae
from jaxrec.types import Interactions

KNOWN = Interactions(np.array([0, 0, 1, 1, 1], np.int32), np.array([3, 0, 4, 2, 1], np.int32), num_users=3, num_items=5)
HAS = np.array([[1, 0, 0, 1, 0], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0]], float)
BATCH = {"users": jnp.array([1, 0, 1]), "where": jnp.array([True, True, False]), "step": jnp.array([30, 30, 30])}
KEY = jax.random.key(0)


def made(log_variance=None):
    """A model with random parameters; the logarithm of its variance may be a constant."""
    model = mult_vae.model(num_users=3, num_items=5, dimension=3, latent_dimension=2)
    params = jax.jit(model.init)(KEY)
    rng = np.random.default_rng(0)
    trained = {name: params[name] for name in ("tables", "weights")}
    trained = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), trained)
    if log_variance is not None:
        latent = trained["weights"]["latent"]
        latent["kernel"] = latent["kernel"].at[:, 2:].set(0)
        latent["bias"] = latent["bias"].at[2:].set(log_variance)
    return model, model.knowing({**params, **trained}, KNOWN)


def terms(params):
    """In NumPy: mean and log variance [U, Z], and the scores [U, I] that the mean gives."""
    weights, tables = jax.tree.map(lambda x: np.asarray(x, float), (params["weights"], params["tables"]))
    x = HAS / np.maximum(np.linalg.norm(HAS, axis=1, keepdims=True), 1)
    hidden = np.tanh(x @ tables["item"] + weights["bias"])
    latent = hidden @ weights["latent"]["kernel"] + weights["latent"]["bias"]
    mean, log_variance = latent[:, :2], latent[:, 2:]
    decoded = np.tanh(mean @ weights["decoder"]["kernel"] + weights["decoder"]["bias"])
    return mean, log_variance, decoded @ tables["output"][:, :3].T + tables["output"][:, 3]


def bound(params, **hyperparameters):
    return mult_vae.objective(dropout=0.0, **hyperparameters)(params, BATCH, KEY, lambda tree: tree)


def test_scores_are_those_of_the_mean():
    model, params = made()
    np.testing.assert_allclose(jax.jit(model.score_all)(params, jnp.arange(3)), terms(params)[2], rtol=1e-5, atol=1e-6)


def test_the_divergence_is_that_of_two_normals():
    mean, variance = np.array([[0.5, -1.0], [0.0, 0.0]]), np.array([[2.0, 0.25], [1.0, 1.0]])
    expected = [(2 + 0.25 - 1 - math.log(2) + 0.25 + 1 - 1 - math.log(0.25)) / 2, 0]
    found = mult_vae.divergence(jnp.asarray(mean, jnp.float32), jnp.asarray(np.log(variance), jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("anneal_steps", "beta"), [(0, 0.2), (1000, 0.03), (100, 0.2)])
def test_the_bound_without_variance_is_likelihood_and_weighted_divergence(anneal_steps, beta):
    """The variance is so small that the draw is the mean; a user twice, once where it does not count."""
    _, params = made(log_variance=-40.0)
    mean, log_variance, scores = terms(params)
    likelihood = (HAS * (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))).sum(axis=1)
    kl = (np.exp(log_variance) + np.square(mean) - 1 - log_variance).sum(axis=1) / 2
    total, metrics = bound(params, anneal_steps=anneal_steps)
    assert float(total) == pytest.approx((beta * kl - likelihood)[:2].sum(), rel=1e-5)
    assert float(metrics["kl"]) == pytest.approx(kl[:2].sum(), rel=1e-5)
    assert int(metrics["examples"]) == 2


def test_the_draw_has_the_mean_and_the_variance_of_the_encoder(monkeypatch):
    """The latent vectors of many draws, seen where the decoder takes them."""
    _, params = made(log_variance=math.log(4.0))
    seen = []
    monkeypatch.setattr(mult_vae, "_decode", lambda params, z: seen.append(z) or jnp.zeros((3, 3)))
    for seed in range(100):
        mult_vae.objective(dropout=0.0)(params, BATCH, jax.random.key(seed), lambda tree: tree)
    draws = np.stack(seen)[:, :2]
    np.testing.assert_allclose(draws.mean(axis=0), terms(params)[0][[1, 0]], atol=4 * 2 / math.sqrt(100))
    np.testing.assert_allclose(draws.std(axis=0), 2, rtol=0.3)


def test_it_learns_two_groups_where_popularity_is_chance():
    """By the driver, which hands each step its number."""
    model = mult_vae.model(num_users=20, num_items=20, dimension=8, latent_dimension=4)
    split = two_groups()
    params = loop.fit_in_memory(
        dataclasses.replace(model, init=lambda key: model.knowing(model.init(key), split.train)),
        mult_vae.objective(anneal_steps=1000),
        sequences.examples(split.train, at_least=1),
        num_epochs=60,
        batch_size=10,
        optimizer=optax.adam(0.02),
    )
    ranks = evaluate.evaluate(model, params, evaluate.prepare([split.train, split.valid], split.test)).ranks
    assert np.mean(ranks) < 2.5


@pytest.mark.parametrize(("name", "value"), [("dropout", 1.5), ("max_beta", -0.1), ("anneal_steps", -1)])
def test_wrong_hyperparameters_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        mult_vae.objective(**{name: value})


def test_a_wrong_size_is_refused_by_name():
    with pytest.raises(ValueError, match="latent_dimension=0"):
        mult_vae.model(num_users=2, num_items=2, latent_dimension=0)
