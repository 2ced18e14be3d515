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


def test_rounding_puts_it_below_the_truth_where_rows_have_nearly_one_direction():
    """In the plane of p and q the worst a is found in float64; a bound above what is reached would be none."""
    rng, num, dimension = np.random.default_rng(0), 2000, 64
    user, aside = rng.normal(size=(2, num, dimension))
    user /= np.linalg.norm(user, axis=1, keepdims=True)
    aside -= (aside * user).sum(axis=1, keepdims=True) * user
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    angle = rng.choice([0.0, 1e-4, 3e-4, 1e-3], size=(num, 1))
    item = rng.uniform(0.5, 2, size=(num, 1)) * (np.cos(angle) * user + np.sin(angle) * aside)
    user, item = user.astype(np.float32), item.astype(np.float32)
    epsilon_user = rng.uniform(0.3, 1, size=num)
    epsilon_item = epsilon_user * np.linalg.norm(item, axis=1)  # c p, |p| = 1, is near q: little is left
    found = -np.asarray(
        lowest(
            rating.pairs_of(jnp.zeros(num), jnp.asarray(user), jnp.asarray(item)),
            epsilon_user,
            epsilon_item,
            biases=False,
        )
    )
    first = user.astype(np.float64) / np.linalg.norm(user.astype(np.float64), axis=1, keepdims=True)
    rest = item - (item * first).sum(axis=1, keepdims=True) * first
    second = rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-30)
    turns = np.concatenate([np.linspace(-np.pi, np.pi, 2001), np.pi + np.linspace(-2e-3, 2e-3, 2001)])
    along, across = (np.multiply.outer(epsilon_user, each(turns)) for each in (np.cos, np.sin))
    length = np.hypot(np.linalg.norm(user.astype(np.float64), axis=1)[:, None] + along, across)
    inner = along * (item * first).sum(axis=1)[:, None] + across * (item * second).sum(axis=1)[:, None]
    true = (epsilon_item[:, None] * length - inner).max(axis=1)
    scale = epsilon_user * np.linalg.norm(item, axis=1)
    assert (found - true >= -1e-6 * scale).all()
    assert (found - true <= 4e-3 * scale).all()


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
