"""Bandwagon: the most popular items, rated highest, tie the fakes to as many users as can be; fillers are random.

Mobasher, Burke, Bhaumik and Williams, "Toward Trustworthy Recommender Systems: An Analysis of Attack Models and
Algorithm Robustness", ACM TOIT 2007, https://doi.org/10.1145/1278366.1278372.
"""

import numpy as np

from jaxrec import fake_profiles
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.types import Interactions, Key, Poison


def attack(
    *,
    num_fakes: int,
    num_fillers: int = 50,
    direction: Direction = "push",
    allowed: np.ndarray | None = None,
    num_selected: int = 5,
) -> Poison:
    """Builds the attack that knows which items are popular; the paper has it for pushing.

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.
        num_selected: The items with the most users, which every fake has beside its fillers; of equally popular ones
            the lower number.

    Returns:
        `(key, interactions, targets) -> fakes`; selected items get the highest rating, fillers those of
        `random_ratings`.

    Raises:
        ValueError: As `fake_profiles.Budget`; the attack itself as `fake_profiles.know`.
    """
    budget = Budget(num_fakes, num_fillers, direction, allowed)

    def bandwagon(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        known = fake_profiles.know(key, interactions, targets, budget, num_selected=num_selected)
        selected = fake_profiles.first(known, np.argsort(-known.popularity, kind="stable"), num_selected)
        fillers = fake_profiles.fillers(known, without=selected)
        return fake_profiles.fakes(
            known,
            fake_profiles.all_rated(known, selected, "highest"),
            (fillers, fake_profiles.around_mean(known, fillers)),
        )

    return bandwagon
