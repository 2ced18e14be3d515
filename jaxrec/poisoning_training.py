"""Adversarial poisoning training: a defender adds users of its own, beside whom a recommender fits its data better.

After Wu, Lian, Ge, Zhu, Chen and Yuan, "Fight Fire with Fire: Towards Robust Recommender Systems via Adversarial
Poisoning Training", SIGIR 2021. Where an attacker's fakes raise a loss that training lowers, these lower it too:

    min over added rows F  of  risk(theta(F)),      theta(F) the training on the data and F

The paper adds ratings by influence functions while one factorisation is trained. Here the feedback is implicit, rows
walk along the exact gradient of a surrogate's training (`jaxrec.inner`), as a learned attack's do, and are rounded, so
that any recommender can be trained on them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import fake_profiles, fake_rows, injection, packed
from jaxrec.injection import Surrogate
from jaxrec.inner import ease
from jaxrec.types import InputError, Interactions, Key


def add(
    key: Key,
    interactions: Interactions,
    *,
    num_added: int,
    num_items: int | None = None,
    surrogate: Surrogate | None = None,
    num_steps: int = 20,
    step_size: float = 1.0,
) -> Interactions:
    """The interactions with the defender's users after all others, whose rows stay first, as they are.

    The defender knows no fake and no target: all users that are there count in the risk, those of an attack as well.
    Added users have items that somebody has, and times drawn from those of the data. They are for training alone: a
    caller leaves them out of what is served and of every average.

    Args:
        key: Decides where the rows start.
        interactions: Of implicit feedback, with whatever fakes are among them.
        num_added: Users to add; none gives back the interactions themselves.
        num_items: Of each; the median user's by default.
        surrogate: Trained at each step; `inner.ease.surrogate()` by default.
        num_steps, step_size: Of the walk, as in `fake_rows.attack`.

    Raises:
        InputError: If somebody is to have more items than anybody has among all.
        ValueError: If there are ratings, a number is negative, or `step_size` is not above 0 and finite.
    """
    fake_rows.check(num_steps=num_steps, step_size=step_size)
    if interactions.ratings is not None:
        raise ValueError("Expected implicit feedback, got ratings.")
    if num_added < 0:
        raise ValueError(f"Expected num_added >= 0, got num_added={num_added}.")
    counts = np.bincount(interactions.users, minlength=interactions.num_users)
    had = np.bincount(interactions.items, minlength=interactions.num_items) > 0
    size = int(np.median(counts)) if num_items is None else num_items
    if not 0 <= size <= had.sum():
        raise InputError(f"Expected num_items in [0, {int(had.sum())}], the items that users have, got {size}.")
    if not num_added:
        return interactions
    noise_key, start_key, time_key = jax.random.split(key, 3)
    hull = fake_rows.Hull(jnp.asarray(had), jnp.zeros(len(had)), size)
    outer = jax.tree_util.Partial(injection.empirical_risk, packed.rows(interactions, injection.CHUNK))
    begin = fake_rows.noise(noise_key, num_added, hull)
    recommender = ease.surrogate() if surrogate is None else surrogate
    rows = fake_rows.walk(start_key, recommender, interactions, outer, hull, begin, num_steps, step_size)
    items = fake_rows.fillers(rows, hull).astype(np.int32)
    return fake_profiles.contaminate(interactions, _users(interactions, items, time_key))


def _users(interactions: Interactions, items: np.ndarray, key: Key) -> Interactions:
    """Users with the items [M, n]."""
    times = interactions.timestamps
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    return Interactions(
        users=np.repeat(np.arange(len(items), dtype=np.int32), items.shape[1]),
        items=items.ravel(),
        num_users=len(items),
        num_items=interactions.num_items,
        timestamps=None if times is None else rng.choice(times, items.size),
    )
