"""Small data with fakes in them, for detectors to find."""

import jax
import numpy as np

from jaxrec import fake_profiles
from jaxrec.poisoning import random_ratings
from jaxrec.types import Interactions

NUM_USERS, NUM_ITEMS, NUM_FAKES = 80, 150, 5


def real(kind):
    """Users with tastes for three kinds of items, who have popular ones more often, and rate by the items' quality.

    User 7 has nothing, and user 8 one item.
    """
    rng = np.random.default_rng(0)
    quality = rng.integers(2, 6, NUM_ITEMS)
    taste = rng.dirichlet([0.4] * 3, NUM_USERS)[:, np.arange(NUM_ITEMS) % 3]
    odds = np.minimum(0.02 + 2 * taste * np.exp(-np.arange(NUM_ITEMS) / 40), 0.9)
    users, items = np.nonzero(rng.random((NUM_USERS, NUM_ITEMS)) < odds)
    kept = (users != 7) & ((users != 8) | (items == 0))
    users, items = users[kept], items[kept]
    ratings = np.clip(quality[items] + rng.integers(-1, 2, len(items)), 1, 5).astype(np.float32)
    columns = (users.astype(np.int32), items.astype(np.int32), NUM_USERS, NUM_ITEMS)
    return Interactions(*columns, ratings=ratings if kind == "ratings" else None)


def write_u_data(folder, num_items=70):
    """A file like MovieLens-100K's: 60 users with 12 of the items each, popular ones more often, all rated 3."""
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, num_items + 1)
    lines = [
        f"{user + 1}\t{item + 1}\t3\t{time}\n"
        for user in range(60)
        for time, item in enumerate(rng.choice(num_items, 12, replace=False, p=odds / odds.sum()))
    ]
    (folder / "u.data").write_text("".join(lines))


def contaminated(kind):
    known = real(kind)
    poison = random_ratings.attack(num_fakes=NUM_FAKES, num_fillers=40)
    fakes = poison(jax.random.key(0), known, np.array([120, 140]))
    both = fake_profiles.contaminate(known, fakes)
    return both, fake_profiles.is_fake(both, fakes)
