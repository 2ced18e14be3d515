"""Norms of rows against NumPy's, and the conditions that make a step steepest and a projection nearest."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import norms

ORDER = {norms.L2: 2, norms.LINF: np.inf, norms.L1: 1}
DUAL = {norms.L2: 2, norms.LINF: 1, norms.L1: np.inf}
SHAPES = [(7, 5), (6,), (3, 28, 28)]

every_norm = pytest.mark.parametrize("norm", list(ORDER), ids=lambda norm: norm.name)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def flat(x):
    return np.asarray(x, np.float64).reshape(len(x), -1)


def size(x, order):
    """NumPy's norm of each row, in float64."""
    return np.linalg.norm(flat(x), ord=order, axis=1)


@functools.cache
def compiled(norm):
    """(x, radius) -> size, steepest, direction and projection, in one program."""

    @jax.jit
    def everything(x, radius):
        return {
            "size": norm.size(x),
            "steepest": norm.steepest(x),
            "direction": norm.direction(x),
            "project": norm.project(x, radius),
        }

    return lambda x, radius=1.0: {k: np.asarray(v) for k, v in everything(jnp.asarray(x), jnp.float32(radius)).items()}


@every_norm
@every_shape
def test_size_is_numpys(norm, shape):
    x = draw(shape)
    np.testing.assert_allclose(compiled(norm)(x)["size"], size(x, ORDER[norm]), rtol=1e-5)


@every_norm
@every_shape
def test_steepest_has_size_1_and_reaches_the_dual_norm(norm, shape):
    grad = draw(shape)
    step = compiled(norm)(grad)["steepest"]
    assert step.shape == shape
    np.testing.assert_allclose(size(step, ORDER[norm]), 1, rtol=1e-6)
    np.testing.assert_allclose((flat(grad) * flat(step)).sum(axis=1), size(grad, DUAL[norm]), rtol=1e-5)


@every_norm
def test_steepest_beats_random_directions(norm):
    grad, others = draw((7, 5)), draw((300, 7, 5), seed=1)
    unit = others / np.linalg.norm(others, ord=ORDER[norm], axis=2, keepdims=True)
    best = (grad * compiled(norm)(grad)["steepest"]).sum(axis=1)
    assert ((grad * unit).sum(axis=2) <= best * (1 + 1e-6)).all()


@every_norm
@pytest.mark.parametrize("radius", [0.0, 0.5])
def test_zero_rows_stay_and_disturb_no_other(norm, radius):
    x = draw((7, 5))
    expected = compiled(norm)(x, radius)
    x[1] = 0
    for name, result in compiled(norm)(x, radius).items():
        np.testing.assert_array_equal(result[1], np.zeros_like(result[1]), err_msg=name)
        np.testing.assert_array_equal(result[2:], expected[name][2:], err_msg=name)


@every_norm
def test_gradients_of_size_and_direction_are_finite_at_a_zero_row(norm):
    x = jnp.asarray(draw((3, 4))).at[1].set(0)
    for fn in (norm.size, norm.direction):
        grad = jax.jit(jax.grad(lambda x, fn=fn: jnp.sum(jnp.square(fn(x) - 1))))(x)
        assert jnp.isfinite(grad).all(), fn
        assert (grad[2] != 0).any(), fn


def test_the_gradient_of_the_l2_size_is_the_direction():
    x = jnp.asarray(draw((7, 5)))
    grad = jax.jit(jax.grad(lambda x: jnp.sum(norms.L2.size(x))))(x)
    np.testing.assert_allclose(grad, norms.L2.direction(x), rtol=1e-5)


@every_norm
@every_shape
def test_projection_leaves_the_inside_alone_and_puts_the_outside_on_the_sphere(norm, shape):
    x = draw(shape)
    sizes = size(x, ORDER[norm])
    radius = float(np.sort(sizes)[1])
    inside = sizes < radius * (1 - 1e-6)
    projected = compiled(norm)(x, radius)["project"]
    assert 0 < inside.sum() < len(x)
    np.testing.assert_array_equal(projected[inside], x[inside])
    np.testing.assert_allclose(size(projected, ORDER[norm])[~inside], radius, rtol=1e-5)
    np.testing.assert_allclose(compiled(norm)(projected, radius)["project"], projected, rtol=1e-6, atol=1e-7)


@every_norm
@pytest.mark.parametrize("radius", [0.0, 0.1, 1.0, 3.0])
def test_projection_is_the_nearest_point_of_the_ball(norm, radius):
    """p is nearest to x in a convex set if and only if no point y of it has <x - p, y - p> > 0.

    The largest <x - p, y> over the ball is the radius times the dual norm of x - p.
    """
    x = draw((7, 5), seed=3)
    p = compiled(norm)(x, radius)["project"]
    rest = flat(x) - flat(p)
    np.testing.assert_allclose((rest * p).sum(axis=1), radius * size(rest, DUAL[norm]), atol=1e-5)


def test_projection_on_the_l1_ball_by_hand():
    x = np.array([[3.0, -2, 0.5], [1, 1, -1], [5, 0, 0], [0, -1, 2]], np.float32)
    expected = [[2, -1, 0], [1, 1, -1], [3, 0, 0], [0, -1, 2]]
    np.testing.assert_allclose(compiled(norms.L1)(x, 3)["project"], expected, rtol=1e-6)


@hypothesis.given(
    x_scale=st.floats(-30, 30), radius_scale=st.floats(-30, 30), seed=st.integers(0, 99), equal=st.booleans()
)
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
@pytest.mark.parametrize("norm", list(ORDER), ids=lambda norm: norm.name)
def test_no_row_leaves_the_ball_whatever_the_scales(norm, x_scale, radius_scale, seed, equal):
    radius = float(np.float32(10**radius_scale))
    x = (draw((7, 5), seed) * 10**x_scale).astype(np.float32)
    x[0] = 0
    if equal:
        x[1:] = np.abs(x).max()
    sizes = size(x, ORDER[norm])
    result = compiled(norm)(x, radius)
    # To 1e-5 on the sphere, from however far outside: a ball that a row leaves or shrinks into shows either way.
    np.testing.assert_allclose(size(result["project"], ORDER[norm]), np.minimum(sizes, radius), rtol=1e-5)
    for unit in ("direction", "steepest"):
        np.testing.assert_allclose(size(result[unit], ORDER[norm]), (sizes > 0).astype(float), rtol=1e-5)


@every_norm
@pytest.mark.parametrize("dimensions", [(3, 1), ()], ids=str)
def test_samples_are_uniform_in_the_ball_of_radius_1(norm, dimensions):
    x = jnp.zeros((4000, *dimensions))
    sample = jax.jit(norm.sample)(jax.random.key(0), x)
    sizes = size(sample, ORDER[norm])
    assert sample.shape == x.shape
    assert sizes.max() <= 1 + 1e-6
    volume = sizes ** np.prod(dimensions, dtype=int)  # uniform in [0, 1]: the share of the ball within that radius
    np.testing.assert_allclose(np.quantile(volume, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    np.testing.assert_allclose(flat(sample).mean(axis=0), 0, atol=0.05)
    assert (flat(sample).std(axis=0) > 0.2).all()


@every_norm
@every_shape
def test_direction_keeps_where_a_row_points_and_gives_it_size_1(norm, shape):
    x = draw(shape)
    direction = compiled(norm)(x)["direction"]
    np.testing.assert_allclose(size(direction, ORDER[norm]), 1, rtol=1e-6)
    np.testing.assert_allclose(flat(direction) * size(x, ORDER[norm])[:, None], flat(x), rtol=1e-5)


@every_norm
@every_shape
def test_a_whole_array_is_one_row(norm, shape):
    x = jnp.asarray(draw(shape))
    row, whole = x.reshape(1, -1), norms.whole(norm)
    np.testing.assert_allclose(whole.size(x), size(row, ORDER[norm]), rtol=1e-5)
    radius = float(whole.size(x)[0]) / 3

    @functools.partial(jax.jit, static_argnums=0)
    def everything(norm, x):
        return norm.steepest(x), norm.direction(x), norm.project(x, radius), norm.sample(jax.random.key(0), x)

    for actual, expected in zip(everything(whole, x), everything(norm, row), strict=True):
        assert actual.shape == shape
        np.testing.assert_allclose(actual.reshape(row.shape), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(whole.vectors(x), row)


def test_whole_norms_have_names_of_their_own():
    assert norms.whole(norms.L2).name == "whole L2"


@every_norm
def test_the_vectors_of_an_array_are_its_rows(norm):
    np.testing.assert_array_equal(norm.vectors(jnp.asarray(draw((3, 2, 2)))), flat(draw((3, 2, 2))))
