"""Radii against smoothed probabilities that are known: a model whose score along one line is a polynomial."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrec import evaluate, surfaces
from jaxrec.certificates import smoothing
from jaxrec.models import hstu
from jaxrec.types import InputError, Interactions, Model

NUM_CASES, SIGMA, NUM_SAMPLES = 1000, 0.5, 1000


def unused(*arguments):
    raise NotImplementedError


def plan_of(num_users, num_items=2):
    nothing, users = np.zeros(0, np.int32), np.arange(num_users, dtype=np.int32)
    parts = [Interactions(nothing, nothing, num_users, num_items)]
    return evaluate.prepare(parts, Interactions(users, 0 * users, num_users, num_items), chunk_size=1024)


def model_of(score_all):
    return Model(init=unused, score=unused, score_all=score_all)


@pytest.fixture(scope="module")
def cubic():
    """1,000 cases, one a user: the held-out item scores a cubic of x . direction with random roots, the other 0."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(NUM_CASES, 2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    roots = np.sort(rng.normal(size=(NUM_CASES, 3)), axis=1)
    x = np.array([[0.3, -0.2]])

    def score_all(params, users):
        along = jnp.asarray(directions, jnp.float32)[users] @ params["tables"]["x"][0]
        score = jnp.prod(along[:, None] - jnp.asarray(roots, jnp.float32)[users], axis=1)
        return jnp.stack([score, jnp.zeros_like(score)], axis=1)

    params = {"tables": {"x": jnp.asarray(x, jnp.float32)}}
    found = smoothing.certify(
        model_of(score_all), params, plan_of(NUM_CASES),
        surface=surfaces.tables("x"), sigma=SIGMA, k=1, num_samples=NUM_SAMPLES, key=jax.random.key(0),
    )  # fmt: skip

    def probability(shift):
        """That the smoothed item comes first when x moves by `shift` [cases] along each case's direction."""
        below = scipy.stats.norm.cdf((roots - (directions @ x[0] + shift)[:, None]) / SIGMA)
        return below[:, 1] - below[:, 0] + 1 - below[:, 2]

    return found, probability


def test_no_shift_within_the_radius_turns_the_smoothed_recommender(cubic):
    """Only the shift along a case's direction matters to it, so these are all the attacks there are."""
    found, probability = cubic
    assert (found.radii > 0).sum() > 300
    assert (found.radii == 0).sum() > 300
    certain = found.radii > 0
    for share in np.linspace(-1, 1, 41):
        assert (probability(share * found.radii)[certain] > 0.5).all()
    turned = np.min([probability(share * found.radii) for share in np.linspace(-1.6, 1.6, 65)], axis=0)
    assert (turned[certain] < 0.5).any()  # and no radius much larger would do


def test_the_bound_lies_below_the_true_probability_and_close_to_it(cubic):
    found, probability = cubic
    assert (found.probabilities <= probability(0.0)).all()
    assert np.abs(found.num_hits / NUM_SAMPLES - probability(0.0)).max() < 5 * 0.5 / math.sqrt(NUM_SAMPLES)
    assert found.confidence == 0.999
    assert (found.num_samples, found.sigma, found.k) == (NUM_SAMPLES, SIGMA, 1)
    np.testing.assert_array_equal(found.users, np.arange(NUM_CASES))


def test_the_radius_is_the_formula_with_a_union_bound_over_users(cubic):
    found, _ = cubic
    for hits, lower, radius in list(zip(found.num_hits, found.probabilities, found.radii, strict=True))[::25]:
        test = scipy.stats.binomtest(int(hits), NUM_SAMPLES, alternative="greater")
        expected = test.proportion_ci(1 - 0.001 / NUM_CASES, method="exact").low
        assert lower == pytest.approx(expected, rel=1e-6)
        assert radius == pytest.approx(SIGMA * max(scipy.stats.norm.ppf(expected), 0), rel=1e-5, abs=1e-6)


def test_noise_is_not_what_a_training_of_the_same_seed_begins_with():
    """Both are draws of one shape; a row pushed along its own start would be no noise."""
    model, surface = hstu.model(num_items=50, dimension=8, max_length=4, num_blocks=1), surfaces.tables("item")
    params = model.init(jax.random.split(jax.random.key(3))[0])  # as loops and tables begin
    table = params["tables"]["item"]
    for index in range(4):
        noise = smoothing.noisy(params, surface, 1.0, jax.random.key(3), index)["tables"]["item"] - table
        assert abs(np.corrcoef(noise.ravel(), table.ravel())[0, 1]) < 0.2


def test_bounds_at_the_ends():
    lower = smoothing.lower_bounds(np.array([0, 10]), 10, 0.05)
    np.testing.assert_allclose(lower, [0, 0.05**0.1], rtol=1e-9)


def test_on_a_linear_model_the_radius_comes_near_the_exact_distance_and_never_passes_it():
    distances = np.linspace(0.05, 1, 20)

    def score_all(params, users):
        score = jnp.asarray(distances, jnp.float32)[users] + params["tables"]["x"][0, 1]
        return jnp.stack([score, jnp.zeros_like(score)], axis=1)

    found = smoothing.certify(
        model_of(score_all), {"tables": {"x": jnp.zeros((3, 2))}}, plan_of(20),
        surface=surfaces.tables("x"), sigma=SIGMA, k=1, num_samples=2000, key=jax.random.key(1),
    )  # fmt: skip
    assert (found.radii <= distances).all()
    assert (found.radii[distances < 2 * SIGMA] > distances[distances < 2 * SIGMA] - 0.2).all()


def test_in_scaled_units_sigma_and_radii_are_in_those_units():
    def score_all(params, users):
        score = 4 * jnp.ones(len(users)) + params["tables"]["x"][0, 0]
        return jnp.stack([score, jnp.zeros_like(score)], axis=1)

    found = smoothing.certify(
        model_of(score_all), {"tables": {"x": jnp.zeros((1, 1))}}, plan_of(1),
        surface=surfaces.scaled(surfaces.tables("x"), {"x": 10.0}), sigma=SIGMA, k=1, num_samples=2000,
        key=jax.random.key(2),
    )  # fmt: skip
    assert 0.35 < float(found.radii[0]) < 0.4


def test_every_item_is_in_a_list_of_all_items():
    score_all = lambda params, users: jnp.zeros((len(users), 2)) + params["tables"]["x"]
    found = smoothing.certify(
        model_of(score_all), {"tables": {"x": jnp.zeros((1, 2))}}, plan_of(3),
        surface=surfaces.tables("x"), sigma=SIGMA, k=2, num_samples=100, key=jax.random.key(3),
    )  # fmt: skip
    np.testing.assert_array_equal(found.num_hits, 100)
    np.testing.assert_allclose(found.radii, SIGMA * scipy.stats.norm.ppf((0.001 / 3) ** 0.01), rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"sigma": value}, ValueError) for value in (0.0, -1.0, math.nan, math.inf)]
    + [({"num_samples": 0}, ValueError)]
    + [({"alpha": value}, ValueError) for value in (0.0, 1.0, math.nan)]
    + [({"k": value}, InputError) for value in (0, 3)],
)
def test_bad_input_is_refused_by_name(wrong, error):
    (name, value), *_ = wrong.items()
    with pytest.raises(error, match=f"{name}={value}"):
        smoothing.certify(
            model_of(unused), {}, plan_of(2),
            surface=surfaces.tables("x"), key=jax.random.key(0), **{"sigma": 1.0, "k": 1, **wrong},
        )  # fmt: skip
