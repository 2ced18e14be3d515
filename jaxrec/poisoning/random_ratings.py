"""Random: fillers drawn uniformly, rated around the mean of all ratings.

Lam and Riedl, "Shilling Recommender Systems for Fun and Profit", WWW 2004, https://doi.org/10.1145/988672.988726 (their
RandomBot); Mobasher et al., ACM TOIT 2007.
"""

import numpy as np

from jaxrec import fake_profiles
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.types import Interactions, Key, Poison


def attack(
    *, num_fakes: int, num_fillers: int = 50, direction: Direction = "push", allowed: np.ndarray | None = None
) -> Poison:
    """Builds the attack that needs no knowledge but the mean and the deviation of all ratings.

        rating of a filler ~ N(mean of all ratings, their deviation), rounded to the scale

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.

    Returns:
        `(key, interactions, targets) -> fakes`. On implicit feedback the fillers have no ratings, and a nuke does not
        touch the targets (`fake_profiles.fakes`).

    Raises:
        ValueError: As `fake_profiles.Budget`; the attack itself as `fake_profiles.know`.
    """
    budget = Budget(num_fakes, num_fillers, direction, allowed)

    def random_ratings(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        known = fake_profiles.know(key, interactions, targets, budget)
        fillers = fake_profiles.fillers(known)
        return fake_profiles.fakes(known, (fillers, fake_profiles.around_mean(known, fillers)))

    return random_ratings
