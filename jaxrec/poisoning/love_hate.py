"""Love/hate: fillers drawn uniformly at one end of the scale, the targets at the other; nothing need be known.

Mobasher, Burke, Bhaumik and Williams, "Toward Trustworthy Recommender Systems: An Analysis of Attack Models and
Algorithm Robustness", ACM TOIT 2007, https://doi.org/10.1145/1278366.1278372.
"""

import numpy as np

from jaxrec import fake_profiles
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.types import Interactions, Key, Poison


def attack(
    *, num_fakes: int, num_fillers: int = 50, direction: Direction = "nuke", allowed: np.ndarray | None = None
) -> Poison:
    """Builds the attack; the paper has it for nuking.

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.

    Returns:
        `(key, interactions, targets) -> fakes`; fillers get the highest rating in a nuke, the lowest in a push. On
        implicit feedback, which has no ratings to part it from that, it is `random_ratings`.

    Raises:
        ValueError: As `fake_profiles.Budget`; the attack itself as `fake_profiles.know`.
    """
    budget = Budget(num_fakes, num_fillers, direction, allowed)

    def love_hate(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        known = fake_profiles.know(key, interactions, targets, budget)
        loved = "highest" if direction == "nuke" else "lowest"
        return fake_profiles.fakes(known, fake_profiles.all_rated(known, fake_profiles.fillers(known), loved))

    return love_hate
