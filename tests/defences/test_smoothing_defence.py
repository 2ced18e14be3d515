"""Smoothed models: what they average, attacks through it, what the certificate counts, what noise in training gains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_every_defence as laws
import toys

from jaxrec import evaluate, loop, objectives, oracles, surfaces
from jaxrec.attacks import pgd
from jaxrec.certificates import smoothing as certificate
from jaxrec.defences import smoothing
from jaxrec.models import mf, mlp
from jaxrec.types import Interactions

SURFACE, SIGMA, SEED = surfaces.tables("user", "item"), 0.5, 3
NONLINEAR = mlp.model(num_users=4, num_items=6)
USERS = jnp.arange(4)


def noisy_scores(model, params, num_samples):
    """[draws, U, I]"""
    draw = lambda index: certificate.noisy(params, SURFACE, SIGMA, jax.random.key(SEED), index)
    return jnp.stack([model.score_all(draw(index), USERS) for index in range(num_samples)])


def test_scores_are_means_over_the_draws_of_the_certificate():
    params = NONLINEAR.init(jax.random.key(0))
    wrapped = smoothing.wrap(NONLINEAR, surface=SURFACE, sigma=SIGMA, num_samples=3, seed=SEED)
    expected = noisy_scores(NONLINEAR, params, 3).mean(axis=0)
    np.testing.assert_allclose(wrapped.score_all(params, USERS), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(expected - NONLINEAR.score_all(params, USERS))).max() > 1e-3


def test_an_attack_goes_through_the_average():
    """The gradient is that of the mean of all draws, written out; ascending it raises the loss."""
    wrapped = smoothing.wrap(NONLINEAR, surface=SURFACE, sigma=SIGMA, num_samples=4, seed=SEED)
    params, clean = NONLINEAR.init(jax.random.key(0)), objectives.pairwise(model=wrapped)
    users, pos, neg, where = (toys.BATCH[name] for name in ("users", "pos", "neg", "where"))

    def of_mean(x):
        mean = noisy_scores(NONLINEAR, SURFACE.put(params, x), 4).mean(axis=0)
        return jnp.sum(jnp.where(where, jax.nn.softplus(mean[users, neg] - mean[users, pos]), 0))

    def losses(key, x):
        return clean(SURFACE.put(params, x), toys.BATCH, key, lambda tree: tree)[0][None]

    @jax.jit
    def run():
        x, oracle = SURFACE.get(params), oracles.white_box(losses)
        _, info = pgd.attack(epsilon=0.2, num_steps=5)(jax.random.key(1), oracle, x)
        return jax.value_and_grad(of_mean)(x), oracle.grad(jax.random.key(0), x), info["losses"][0]

    (loss, expected), grad, reached = run()
    laws.assert_close(grad, expected)
    assert float(reached) > float(loss) + 0.01


@pytest.mark.parametrize("num_known", [0, 2])
def test_the_share_of_lists_is_what_the_certificate_counts(num_known):
    """At a temperature near 0; items that are known are no candidates."""
    nothing, users = np.zeros(0, np.int32), np.arange(4, dtype=np.int32)
    known = Interactions(
        *((np.repeat(users, 2), np.tile(np.int32([1, 4]), 4)) if num_known else (nothing, nothing)), 4, 6
    )
    plan = evaluate.prepare([known], Interactions(users, np.int32([0, 2, 3, 5]), 4, 6))
    counted = certificate.certify(
        toys.MODEL, toys.params(), plan,
        surface=SURFACE, sigma=SIGMA, key=jax.random.key(SEED), k=2, num_samples=20,
    )  # fmt: skip
    value = smoothing.in_first(k=2, temperature=1e-5, known=known if num_known else None)
    wrapped = smoothing.wrap(toys.MODEL, surface=SURFACE, sigma=SIGMA, num_samples=20, seed=SEED, value=value)
    shares = jax.jit(wrapped.score)(toys.params(), USERS, jnp.array([0, 2, 3, 5]))
    np.testing.assert_allclose(20 * shares, counted.num_hits, atol=1e-2)
    assert len({*counted.num_hits.tolist()}) > 1
    everything = jax.jit(wrapped.score_all)(toys.params(), USERS)
    np.testing.assert_allclose(everything.sum(axis=1), 2, atol=1e-2)
    assert not num_known or float(jnp.abs(everything[:, jnp.array([1, 4])]).max()) == 0


@functools.cache
def certified():
    """Mean radius of the held-out items of a model trained with noise, and of one trained without."""
    users, items = np.divmod(np.arange(80, dtype=np.int32), 10)
    own, held_out = users % 2 == items % 2, items // 2 == users // 2
    part = lambda rows: Interactions(users[rows], items[rows], 8, 10)
    train_pairs, test_pairs = part(own & ~held_out), part(own & held_out)
    model = mf.model(num_users=8, num_items=10, dimension=4, init_scale=0.1)
    clean, plan = objectives.pairwise(model=model), evaluate.prepare([train_pairs], test_pairs)
    noisy = smoothing.objective(clean=clean, surface=SURFACE, sigma=SIGMA)

    def radius(objective):
        params = loop.fit_in_memory(
            model, objective, train_pairs, num_epochs=150, batch_size=16, optimizer=optax.sgd(0.1)
        )
        found = certificate.certify(
            model, params, plan, surface=SURFACE, sigma=SIGMA, key=jax.random.key(0), k=1, num_samples=400
        )
        return float(found.radii.mean())

    return radius(noisy), radius(clean)


def test_training_with_noise_raises_the_certified_radius():
    with_noise, without = certified()
    assert with_noise > without + 0.1


def test_the_objective_is_the_clean_one_at_the_certificates_noise():
    objective = smoothing.objective(clean=laws.CLEAN, surface=SURFACE, sigma=SIGMA)
    loss, metrics = objective(toys.params(), toys.BATCH, jax.random.key(0), lambda tree: tree)
    noise_key, *_ = jax.random.split(jax.random.key(0), 3)
    there = certificate.noisy(toys.params(), SURFACE, SIGMA, noise_key, 0)
    expected, _ = laws.CLEAN(there, toys.BATCH, noise_key, lambda tree: tree)
    assert float(loss) == float(metrics["adv_loss"]) == pytest.approx(float(expected), rel=1e-6)
    assert abs(float(loss) - float(metrics["loss"])) > 0.01


@pytest.mark.parametrize(
    ("wrong", "message"), [({"sigma": -1.0}, "sigma >= 0"), ({"num_samples": 0}, "num_samples >= 1")]
)
def test_bad_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        smoothing.wrap(toys.MODEL, surface=SURFACE, **wrong)


def test_lists_as_long_as_the_catalogue_and_temperature_0_are_refused():
    with pytest.raises(ValueError, match="temperature > 0"):
        smoothing.in_first(k=2, temperature=0.0)
    with pytest.raises(ValueError, match="k < 6"):
        smoothing.in_first(k=6, temperature=1.0)(USERS, jnp.zeros((4, 6)))
