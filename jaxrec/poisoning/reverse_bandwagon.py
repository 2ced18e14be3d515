"""Reverse bandwagon: widely known items that nobody likes, rated lowest, put the target into their company.

Mobasher, Burke, Bhaumik and Williams, "Toward Trustworthy Recommender Systems: An Analysis of Attack Models and
Algorithm Robustness", ACM TOIT 2007, https://doi.org/10.1145/1278366.1278372.
"""

import numpy as np

from jaxrec import fake_profiles
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.types import Interactions, Key, Poison

WELL_KNOWN = 0.2  # share of the items, those with most ratings, among which the disliked ones are looked for


def attack(
    *,
    num_fakes: int,
    num_fillers: int = 50,
    direction: Direction = "nuke",
    allowed: np.ndarray | None = None,
    num_selected: int = 5,
) -> Poison:
    """Builds the attack that knows which items many have rated low; the paper has it for nuking.

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.
        num_selected: Items with the lowest mean among the fifth of all items with most users, which every fake has
            beside its fillers; where those do not suffice, the lowest means of the others follow.

    Returns:
        `(key, interactions, targets) -> fakes`; selected items get the lowest rating, fillers those of
        `random_ratings`. On implicit feedback, which knows no dislike, the items that fewest users have are selected
        (our reading).

    Raises:
        ValueError: As `fake_profiles.Budget`; the attack itself as `fake_profiles.know`.
    """
    budget = Budget(num_fakes, num_fillers, direction, allowed)

    def reverse_bandwagon(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        known = fake_profiles.know(key, interactions, targets, budget, num_selected=num_selected)
        selected = fake_profiles.first(known, _by_dislike(known), num_selected)
        fillers = fake_profiles.fillers(known, without=selected)
        return fake_profiles.fakes(
            known,
            fake_profiles.all_rated(known, selected, "lowest"),
            (fillers, fake_profiles.around_mean(known, fillers)),
        )

    return reverse_bandwagon


def _by_dislike(known: fake_profiles.Known) -> np.ndarray:
    """All items, the most disliked of the well-known ones first."""
    if known.scale is None:
        return np.argsort(known.popularity, kind="stable")
    place = np.empty(len(known.free), np.int64)
    place[np.argsort(-known.popularity, kind="stable")] = np.arange(len(place))
    return np.lexsort((fake_profiles.item_means(known), place >= WELL_KNOWN * len(place)))
