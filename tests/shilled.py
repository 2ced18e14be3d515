"""Small data with fakes in them, for detectors to find."""

import jax
import numpy as np

from jaxrec import fake_profiles
from jaxrec.poisoning import random_ratings
from jaxrec.types import Interactions

NUM_USERS, NUM_ITEMS, NUM_FAKES = 80, 60, 5


def real(kind):
    """Users who have popular items more often than rare ones, and rate by the items' quality.

    User 7 has nothing, and user 8 one item.
    """
    rng = np.random.default_rng(0)
    quality = rng.integers(2, 6, NUM_ITEMS)
    odds = 0.03 + 0.92 * np.exp(-np.arange(NUM_ITEMS) / 20)
    users, items = np.nonzero(rng.random((NUM_USERS, NUM_ITEMS)) < odds)
    kept = (users != 7) & ((users != 8) | (items == 0))
    users, items = users[kept], items[kept]
    ratings = np.clip(quality[items] + rng.integers(-1, 2, len(items)), 1, 5).astype(np.float32)
    columns = (users.astype(np.int32), items.astype(np.int32), NUM_USERS, NUM_ITEMS)
    return Interactions(*columns, ratings=ratings if kind == "ratings" else None)


def contaminated(kind):
    known = real(kind)
    poison = random_ratings.attack(num_fakes=NUM_FAKES, num_fillers=20)
    fakes = poison(jax.random.key(0), known, np.array([50, 55]))
    both = fake_profiles.contaminate(known, fakes)
    return both, fake_profiles.is_fake(both, fakes)
