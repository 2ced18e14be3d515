"""Segment: the items that the targets' own audience likes, rated highest, all others lowest.

Mobasher, Burke, Bhaumik and Williams, "Toward Trustworthy Recommender Systems: An Analysis of Attack Models and
Algorithm Robustness", ACM TOIT 2007, https://doi.org/10.1145/1278366.1278372.
"""

import numpy as np

from jaxrec import fake_profiles, profiles
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
    """Builds the attack that knows what users of a segment like; the paper has it for pushing.

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.
        num_selected: Items nearest to the targets, which every fake has beside its fillers. Where the paper takes
            items of one genre by hand, these have the largest cosines with the targets, by the users they share,
            summed over targets; then, as for targets that nobody has, the most popular ones.

    Returns:
        `(key, interactions, targets) -> fakes`; selected items get the highest rating, fillers the lowest. A nuke on
        implicit feedback has the nearest items without the targets: it pushes what competes with them.

    Raises:
        ValueError: As `fake_profiles.Budget`; the attack itself as `fake_profiles.know`.
    """
    budget = Budget(num_fakes, num_fillers, direction, allowed)

    def segment(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        known = fake_profiles.know(key, interactions, targets, budget, num_selected=num_selected)
        nearest = np.lexsort((-known.popularity, -_nearness(known)))
        selected = fake_profiles.first(known, nearest, num_selected)
        fillers = fake_profiles.fillers(known, without=selected)
        return fake_profiles.fakes(
            known,
            fake_profiles.all_rated(known, selected, "highest"),
            fake_profiles.all_rated(known, fillers, "lowest"),
        )

    return segment


def _nearness(known: fake_profiles.Known) -> np.ndarray:
    """Each item's cosines with the targets, summed: [I]."""
    pairs = profiles.matrix(known.interactions)
    common = (pairs.T @ pairs[:, known.targets]).toarray()
    lengths = np.sqrt(np.maximum(known.popularity, 1))
    return (common / (lengths[:, None] * lengths[known.targets])).sum(axis=1)
