"""Average: fillers drawn uniformly, each rated around its own mean, so that fakes resemble many users at once.

Lam and Riedl, "Shilling Recommender Systems for Fun and Profit", WWW 2004, https://doi.org/10.1145/988672.988726 (their
AverageBot); Mobasher et al., ACM TOIT 2007.
"""

import numpy as np

from jaxrec import fake_profiles
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.types import Interactions, Key, Poison


def attack(
    *, num_fakes: int, num_fillers: int = 50, direction: Direction = "push", allowed: np.ndarray | None = None
) -> Poison:
    """Builds the attack that knows every item's mean.

        rating of filler i ~ N(mean rating of i, deviation of all ratings), rounded to the scale

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.

    Returns:
        `(key, interactions, targets) -> fakes`. An item without a rating has the mean of all. On implicit feedback,
        where an item's mean over all users is the share who have it, fillers are drawn in proportion to that instead
        (our reading: the papers have ratings only).

    Raises:
        ValueError: As `fake_profiles.Budget`; the attack itself as `fake_profiles.know`.
    """
    budget = Budget(num_fakes, num_fillers, direction, allowed)

    def average(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        known = fake_profiles.know(key, interactions, targets, budget)
        if known.scale is None:
            return fake_profiles.fakes(known, (fake_profiles.fillers(known, weights=known.popularity), None))
        fillers = fake_profiles.fillers(known)
        return fake_profiles.fakes(
            known, (fillers, fake_profiles.around(known, fake_profiles.item_means(known)[fillers]))
        )

    return average
