"""Balls for perturbations, row by row: L2, LINF and L1; and `whole`, the same balls for whole arrays.

A row is one entry of an array's leading axis (a user's embedding, an item's features, an image); everything after that
axis is one vector. An attack moves each row inside its own ball, and these functions are all it needs to know.

The projection on the L1 ball follows Duchi, Shalev-Shwartz, Singer and Chandra, "Efficient Projections onto the
l1-Ball for Learning in High Dimensions", ICML 2008, figure 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrec import rows
from jaxrec.types import Array, Key, Scalar


def _rows(x: Array) -> Array:
    """x as [N, M]: one vector a row."""
    return x.reshape(x.shape[0], -1)


class Norm(NamedTuple):
    """A norm of rows.

    Attributes:
        name: As it stands in a record.
        size: x [N, ...] -> [N], the norm of each row.
        steepest: grad [N, ...] -> like grad, the row of size 1 with the largest inner product with grad; a zero row
            stays zero.
        project: (x [N, ...], radius) -> like x, the nearest point (in Euclidean distance) of the ball of that radius.
        sample: (key, x [N, ...]) -> like x, each row uniform in the ball of radius 1.
        vectors: x [N, ...] -> [N, M], the vectors that have a ball each.
    """

    name: str
    size: Callable[[Array], Array]
    steepest: Callable[[Array], Array]
    project: Callable[[Array, Scalar], Array]
    sample: Callable[[Key, Array], Array]
    vectors: Callable[[Array], Array] = _rows

    def direction(self, x: Array) -> Array:
        """Each row of x scaled to size 1; a zero row stays zero."""
        return _divide(x, self.size(x))


def _like_rows(values: Array, x: Array) -> Array:
    """values [N] with as many trailing axes of length 1 as x has."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def _divide(x: Array, size: Array) -> Array:
    """Each row over its size; zero where the size is zero."""
    return x * _like_rows(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0), x)


def _radial(key: Key, direction: Array) -> Array:
    """Rows on the unit sphere of a norm, drawn inward so that they are uniform in the ball."""
    dimensions = _rows(direction).shape[1]
    radius = jax.random.uniform(key, direction.shape[:1], direction.dtype) ** (1 / dimensions)
    return direction * _like_rows(radius, direction)


def _l2_size(x: Array) -> Array:
    # In units of the row's mean absolute entry, because the squares of gradients near 1e-23 are zero in float32.
    unit = rows.sums(jnp.abs(_rows(x)) / _rows(x).shape[1])
    # The sum is at least the number of entries but for rounding, and 0 for a zero row, where the square root has no
    # finite slope.
    return unit * jnp.sqrt(jnp.maximum(rows.sums(jnp.square(_rows(_divide(x, unit)))), 1))


def _l2_steepest(grad: Array) -> Array:
    return _divide(grad, _l2_size(grad))


def _l2_project(x: Array, radius: Scalar) -> Array:
    size = _l2_size(x)
    return jnp.where(_like_rows(size <= radius, x), x, _divide(x, size) * radius)


def _l2_sample(key: Key, x: Array) -> Array:
    normal_key, radius_key = jax.random.split(key)
    return _radial(radius_key, _l2_steepest(jax.random.normal(normal_key, x.shape, x.dtype)))


def _linf_size(x: Array) -> Array:
    return jnp.max(jnp.abs(_rows(x)), axis=1)


def _linf_project(x: Array, radius: Scalar) -> Array:
    return jnp.clip(x, -radius, radius)


def _linf_sample(key: Key, x: Array) -> Array:
    return jax.random.uniform(key, x.shape, x.dtype, -1, 1)


def _l1_size(x: Array) -> Array:
    return jnp.sum(jnp.abs(_rows(x)), axis=1)


def _l1_steepest(grad: Array) -> Array:
    flat = _rows(grad)
    largest = jax.nn.one_hot(jnp.argmax(jnp.abs(flat), axis=1), flat.shape[1], dtype=flat.dtype)
    return (largest * jnp.sign(flat)).reshape(grad.shape)


def _l1_project(x: Array, radius: Scalar) -> Array:
    flat = _rows(x)
    # Measured from each row's largest entry: sums of the entries themselves round a small radius away.
    below = jnp.abs(flat) - _linf_size(x)[:, None]
    descending = jnp.sort(below, axis=1, descending=True)
    excess = jnp.cumsum(descending, axis=1) - radius
    count = jnp.arange(1, flat.shape[1] + 1, dtype=flat.dtype)[None]
    support = jnp.maximum(jnp.sum(descending * count > excess, axis=1, keepdims=True), 1)
    threshold = jnp.take_along_axis(excess, support - 1, axis=1) / support
    inside = _like_rows(_l1_size(x) <= radius, flat)
    shrunk = jnp.sign(flat) * jnp.maximum(below - threshold, 0)
    return jnp.where(inside, flat, shrunk).reshape(x.shape)


def _l1_sample(key: Key, x: Array) -> Array:
    laplace_key, radius_key = jax.random.split(key)
    laplace = jax.random.laplace(laplace_key, x.shape, x.dtype)
    return _radial(radius_key, _divide(laplace, _l1_size(laplace)))


L2 = Norm("L2", _l2_size, _l2_steepest, _l2_project, _l2_sample)
LINF = Norm("LINF", _linf_size, jnp.sign, _linf_project, _linf_sample)
L1 = Norm("L1", _l1_size, _l1_steepest, _l1_project, _l1_sample)


def cornered(norm: Norm) -> Norm:
    """The same ball, with draws that cost one random bit an entry instead of a number: for random starts in training.

    A row of `sample` is a vector of random signs, of a length uniform in [0, 1] in the norm, so it lies in the ball on
    the way to a corner of a cube. Under LINF each entry has the law that it has in a uniform draw (those of a row are
    of one size); under L2 the directions have no preferred axis (covariance I / D), and the rows are shorter.
    """

    def sample(key, x):
        sign_key, length_key = jax.random.split(key)
        flat = _rows(x)
        words = jax.random.bits(sign_key, (flat.shape[0], -(-flat.shape[1] // 32)), jnp.uint32)
        bits = words[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)[None, None] & 1
        signs = (2 * bits.reshape(flat.shape[0], -1)[:, : flat.shape[1]].astype(x.dtype) - 1).reshape(x.shape)
        return norm.direction(signs) * _like_rows(jax.random.uniform(length_key, x.shape[:1], x.dtype), x)

    return norm._replace(sample=sample)


def whole(norm: Norm) -> Norm:
    """The same ball for a whole array [N, ...] as for a row: all its entries are one vector, and `size` has shape [1].

    In a tree each array has a ball of its own. Rows that share a ball are one unit to an attack, so its oracle gives
    one loss for all of them.
    """
    return Norm(
        name=f"whole {norm.name}",
        size=lambda x: norm.size(x[None]),
        steepest=lambda grad: norm.steepest(grad[None])[0],
        project=lambda x, radius: norm.project(x[None], radius)[0],
        sample=lambda key, x: norm.sample(key, x[None])[0],
        vectors=lambda x: norm.vectors(x[None]),
    )
