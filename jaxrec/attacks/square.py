"""Square attack: random search over windows of entries, with losses alone and no gradient.

Andriushchenko, Croce, Flammarion and Hein, "Square Attack: A Query-Efficient Black-Box Adversarial Attack via Random
Search", ECCV 2020, arXiv:1912.00049. A row here is a vector (an embedding, features), so its windows are runs of
contiguous entries and not squares of an image, and what was found is reported only if it beats no perturbation at all.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, norms, perturbations
from jaxrec.norms import Norm
from jaxrec.types import Array, Attack, Key, Scalar

# Of 10,000 queries, those after which the share of entries that a proposal changes is halved (the authors' code).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def attack(*, epsilon: Scalar, norm: Norm = norms.LINF, num_queries: int = 5000, initial_share: float = 0.8) -> Attack:
    """Builds an attack that proposes `num_queries` changes of random windows and keeps those that raise the loss.

    It starts at a random corner of the ball. With Linf a proposal sets a window of each row to +epsilon or -epsilon,
    one sign for a window. With L2 and L1 it turns what two windows together hold into a random direction of the same
    length (the paper moves it from one window into the other, in the shape of a bump, which suits images), and scales
    a row that the mask or box has cut back to length epsilon. Where each row has a loss, a window has a share p of its
    entries; where one loss stands for whole tables, a proposal changes a share sqrt(p) of each table's rows (random
    ones) in a share sqrt(p) of their entries.

    Args:
        epsilon: Radius of the ball around each row. May be traced.
        norm: The norm of the ball.
        num_queries: Questions in all, three of them at delta = 0, at the start and at the end.
        initial_share: p at the start. It is halved after .1, .5, 2, 5, 10, 20, 40, 60 and 80 % of the proposals; a
            window has at least one entry, and a proposal at least one row of each table.

            The defaults are those of AutoAttack (Croce and Hein, ICML 2020, arXiv:2003.01690); the paper has 10,000
            queries and, on ImageNet, p = .05.

    Returns:
        `(key, oracle, x) -> (delta, info)`. Rows lie in the ball, the oracle's mask and box are kept, and no unit ends
        with a lower loss than it had at delta = 0. A row on which its own loss does not depend stays; of tables with
        one loss a search cannot tell which rows matter.

    Raises:
        ValueError: If `epsilon` is negative or not finite, `num_queries < 3`, or `initial_share` is not in (0, 1].
    """
    checks.non_negative(epsilon=epsilon)
    checks.counts(num_queries=num_queries)
    if num_queries < 3:
        raise ValueError(f"Expected num_queries >= 3, got num_queries={num_queries}.")
    if not 0 < initial_share <= 1:
        raise ValueError(f"Expected initial_share in (0, 1], got initial_share={initial_share}.")
    shares = _shares(num_queries - 3, initial_share)
    change = _set_window if norm.name.endswith("LINF") else _turn_windows

    def square(key, oracle, x):
        start_key, search_key, loss_key = jax.random.split(key, 3)

        def ask(delta):
            delta = perturbations.legal(oracle, x, perturbations.masked(oracle, delta))
            return perturbations.candidate(loss_key, oracle, x, delta)

        def corner(key, x):
            return epsilon * norm.steepest(norm.sample(key, x))

        nothing = ask(jax.tree.map(jnp.zeros_like, x))
        start = ask(perturbations.map_with_keys(corner, start_key, x))
        shared = len(start[0]) == 1

        def search(best, proposal):
            key, share = proposal
            share = jnp.sqrt(share) if shared else share

            def propose(key, delta):
                rows_key, change_key = jax.random.split(key)
                rows = _some_rows(rows_key, share, delta) if shared else jnp.ones_like(delta, bool)
                return change(change_key, norm, epsilon, share, rows, delta)

            return perturbations.better(best, ask(perturbations.map_with_keys(propose, key, best[1]))), None

        keys = jax.random.split(search_key, num_queries - 3)
        best, _ = jax.lax.scan(search, start, (keys, jnp.asarray(shares)))
        _, delta = perturbations.better(nothing, best)
        return perturbations.outcome(loss_key, oracle, norm, x, delta, gradient_evaluations=0, queries=num_queries)

    return square


def _shares(num_proposals: int, initial: float) -> np.ndarray:
    """The share p of each proposal: halved at the authors' places, whatever the number of proposals."""
    places = np.arange(num_proposals) * 10_000 // max(num_proposals, 1)
    return np.asarray(initial * 0.5 ** np.searchsorted(_HALVINGS, places), np.float32)


def _some_rows(key: Key, share: Scalar, x: Array) -> Array:
    """A share of the rows of x, at least one, at random: bool [N, 1, ...]."""
    count = jnp.maximum(jnp.round(share * len(x)), 1)
    chosen = jax.random.permutation(key, len(x)) < count
    return chosen.reshape(-1, *(1,) * (x.ndim - 1))


def _window(key: Key, share: Scalar, x: Array) -> Array:
    """In each row of x a run of contiguous entries at a random place, a share of the row and at least one: bool."""
    size = x[0].size
    width = jnp.clip(jnp.round(share * size), 1, size).astype(jnp.int32)
    first = jax.random.randint(key, (len(x), 1), 0, size - width + 1)
    place = jnp.arange(size)[None]
    return ((place >= first) & (place < first + width)).reshape(x.shape)


def _set_window(key: Key, norm: Norm, epsilon: Scalar, share: Scalar, rows: Array, delta: Array) -> Array:
    """delta with one window of each of `rows` at +epsilon or -epsilon."""
    del norm
    window_key, sign_key = jax.random.split(key)
    sign = jax.random.rademacher(sign_key, (len(delta), *(1,) * (delta.ndim - 1)), delta.dtype)
    return jnp.where(rows & _window(window_key, share, delta), epsilon * sign, delta)


def _turn_windows(key: Key, norm: Norm, epsilon: Scalar, share: Scalar, rows: Array, delta: Array) -> Array:
    """delta of length epsilon, with what two windows of each of `rows` hold turned into a random direction."""
    first_key, second_key, direction_key = jax.random.split(key, 3)
    inside = rows & (_window(first_key, share, delta) | _window(second_key, share, delta))
    mass = norm.size(jnp.where(inside, delta, 0))
    mass = jnp.where(mass > 0, mass, epsilon).reshape(-1, *(1,) * (delta.ndim - 1))
    drawn = norm.steepest(jnp.where(inside, jax.random.normal(direction_key, delta.shape, delta.dtype), 0))
    return epsilon * norm.direction(jnp.where(inside, mass * drawn, delta))
