"""Isolation forest on profile statistics: fakes are few and different, and few random cuts part them from the rest.

Liu, Ting and Zhou, "Isolation Forest", ICDM 2008, https://doi.org/10.1109/ICDM.2008.17, as scikit-learn has it, on the
statistics of Chirita et al. and Burke et al. (`profile_statistics`).
"""

import numpy as np
import sklearn.ensemble

from jaxrec import checks, profile_statistics
from jaxrec.types import Detector, Interactions


def detector(*, num_trees: int = 100, num_neighbours: int = 25, seed: int = 0) -> Detector:
    """Builds the detector, which needs no labels.

    Args:
        num_trees: Of the forest.
        num_neighbours: As in `profile_statistics.statistics`.
        seed: Of the forest.

    Returns:
        `interactions -> suspicion` [U] in (0, 1], scikit-learn's anomaly score: above .5 where a user is parted from
        the others by fewer cuts than is usual. Unusual real users, such as those with most ratings, are suspicious
        too: it asks who is rare, not who is alike.

    Raises:
        ValueError: If `num_trees` or `num_neighbours` is below 1.
    """
    checks.counts(num_trees=num_trees, num_neighbours=num_neighbours)

    def isolation_forest(interactions: Interactions) -> np.ndarray:
        found = profile_statistics.statistics(interactions, num_neighbours=num_neighbours)
        forest = sklearn.ensemble.IsolationForest(n_estimators=num_trees, random_state=seed)
        return -forest.fit(found).score_samples(found)

    return isolation_forest
