"""The lowest prediction against searches in float64, its closed forms, and the radii against it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.certificates import rating

NUM_CASES, NUM_STARTS, NUM_STEPS = 60, 30, 200
DIMENSION = 3

every_form = pytest.mark.parametrize("biases", [False, True])


def cases():
    """float64 p, q [N, D], radii [N]: rows of three sizes, of opposite, equal and no direction; radii of 0 too."""
    rng = np.random.default_rng(0)
    size = lambda: rng.choice([0.1, 1.0, 3.0], size=(NUM_CASES, 1))
    user, item = (rng.normal(size=(NUM_CASES, DIMENSION)) * size() for _ in range(2))
    item[:4], item[4:8], user[8:10], item[10:12] = -2 * user[:4], user[4:8] / 2, 0, 0
    epsilon_user, epsilon_item = (rng.choice([0.0, 0.01, 0.3, 1.0, 4.0], size=NUM_CASES) for _ in range(2))
    return user, item, epsilon_user, epsilon_item


def pairs():
    user, item, *_ = cases()
    return rating.pairs_of(jnp.full(NUM_CASES, 4.0), jnp.asarray(user, jnp.float32), jnp.asarray(item, jnp.float32))


lowest = jax.jit(rating.lowest, static_argnames="biases")
radii = jax.jit(rating.radii, static_argnames=("biases", "target", "largest"))


@functools.cache
def searched_fall(weight):
    """The largest fall [N] that ascent from many starts finds in float64, z = (a, alpha) on its sphere."""
    user, item, epsilon_user, epsilon_item = cases()
    rng = np.random.default_rng(1)
    z = rng.normal(size=(NUM_STARTS, NUM_CASES, DIMENSION + 1))
    z[..., -1] *= weight
    to_sphere = lambda z: z * (epsilon_user / np.maximum(np.linalg.norm(z, axis=-1), 1e-30))[..., None]
    length = lambda z: np.sqrt(np.square(user + z[..., :-1]).sum(axis=-1) + weight)
    z = to_sphere(z)
    for _ in range(NUM_STEPS):
        pull = (epsilon_item / np.maximum(length(z), 1e-30))[..., None]
        last = np.full((NUM_STARTS, NUM_CASES, 1), -float(weight))
        z = to_sphere(np.concatenate([pull * (user + z[..., :-1]) - item, last], axis=-1))
    falls = epsilon_item * length(z) - (z[..., :-1] * item).sum(axis=-1) - weight * z[..., -1]
    return falls.max(axis=0)


@every_form
def test_it_is_the_lowest_that_a_search_finds(biases):
    """To 1e-4 of the fall: p and q of one direction, where many a are worst, take the search for r longest."""
    _, _, epsilon_user, epsilon_item = cases()
    found = 4.0 - np.asarray(lowest(pairs(), epsilon_user, epsilon_item, biases=biases))
    np.testing.assert_allclose(found, searched_fall(int(biases)), rtol=1e-4, atol=1e-4)


def test_without_biases_it_is_within_the_triangle_inequality_which_opposite_rows_attain():
    user, item, epsilon_user, epsilon_item = cases()
    fall = 4.0 - np.asarray(lowest(pairs(), epsilon_user, epsilon_item, biases=False))
    sizes = np.linalg.norm(user, axis=1), np.linalg.norm(item, axis=1)
    bound = sizes[0] * epsilon_item + sizes[1] * epsilon_user + epsilon_user * epsilon_item
    assert (fall <= bound * (1 + 1e-5) + 1e-5).all()
    np.testing.assert_allclose(fall[:4], bound[:4], rtol=1e-5, atol=1e-5)
    assert (fall[12:] < bound[12:] - 0.01).any()


def test_no_radius_moves_nothing():
    zero = jnp.zeros(NUM_CASES)
    for biases in (False, True):
        np.testing.assert_allclose(lowest(pairs(), zero, zero, biases=biases), 4.0, atol=1e-5)


@every_form
def test_at_the_radius_the_target_is_reached_and_just_below_it_is_not(biases):
    scale = {"biases": biases}
    found = np.asarray(radii(pairs(), 2.0, 0.5, target=1.5, largest=8.0, **scale))
    assert (np.isfinite(found)).all()
    at = lambda epsilon: np.asarray(lowest(pairs(), 2.0 * epsilon, 0.5 * epsilon, **scale))
    assert (at(found.astype(np.float32)) <= 1.5 + 1e-4).all()
    assert (at((0.999 * found).astype(np.float32)) > 1.5).all()


def test_what_is_there_has_radius_zero_and_what_cannot_be_reached_an_infinite_one():
    low = pairs()._replace(predictions=jnp.full(NUM_CASES, 1.2))
    np.testing.assert_array_equal(radii(low, 1.0, 1.0, target=1.5, biases=True, largest=1.0), 0)
    np.testing.assert_array_equal(radii(pairs(), 0.0, 0.0, target=1.5, biases=True, largest=1.0), np.inf)
