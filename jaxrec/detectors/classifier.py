"""A classifier of profile statistics that learns from fakes of the defender's own making.

Burke, Mobasher, Williams and Bhaumik, "Classification Features for Attack Detection in Collaborative Recommender
Systems", KDD 2006, https://doi.org/10.1145/1150402.1150465, train on attacks whose fakes are labelled. Nobody gives a
defender such labels, so here (`detector`) every user there is counts as real, also one who is not, and the fakes are
crafted for the purpose, for targets drawn at random.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import sklearn.base
import sklearn.ensemble
import sklearn.model_selection

from jaxrec import fake_profiles, profile_statistics
from jaxrec.poisoning import average, random_ratings
from jaxrec.types import Detector, Interactions, Poison

OWN_SHARE = 0.1  # of the users: fakes that a defender makes of each kind
OWN_KEY = 0x0DEF  # folded into the seed's key, for fakes that no attacker who counts seeds up from 0 makes too


def forest() -> Any:
    """A random forest of scikit-learn, its classes weighed by how rare they are."""
    return sklearn.ensemble.RandomForestClassifier(
        n_estimators=50, min_samples_leaf=3, class_weight="balanced", random_state=0
    )


def detector(
    *,
    make: Callable[[int], Sequence[Poison]] | None = None,
    estimator: Any = None,
    num_targets: int = 5,
    num_folds: int = 3,
    seed: int = 0,
) -> Detector:
    """Builds the detector that makes its own fakes, and scores each user by trees that have not seen the user.

    Args:
        make: Number of fakes -> the attacks they are made by; random and average, at half the median length of a
            profile and at all of it, by default.
        estimator: A scikit-learn classifier with `predict_proba`; `forest` by default.
        num_targets: Random targets of each attack; fewer where there are fewer items.
        num_folds: Of cross-validation: a user's suspicion comes from the others alone.
        seed: Of the fakes, their targets and the folds.

    Returns:
        `interactions -> suspicion` [U] in [0, 1], the probability of being one of the defender's fakes.

    Raises:
        ValueError: If `num_targets < 1` or `num_folds < 2`.
    """
    if num_targets < 1 or num_folds < 2:
        raise ValueError(f"Expected num_targets >= 1 and num_folds >= 2, got {num_targets} and {num_folds}.")

    def classifier(interactions: Interactions) -> np.ndarray:
        num_users = interactions.num_users
        joined, is_fake = with_own_fakes(interactions, make=make, num_targets=num_targets, seed=seed)
        found = profile_statistics.statistics(joined)
        folds = sklearn.model_selection.StratifiedKFold(num_folds, shuffle=True, random_state=seed)
        learner: Any = sklearn.base.clone(forest() if estimator is None else estimator)
        chance: Any = sklearn.model_selection.cross_val_predict(
            learner, found, is_fake, cv=folds, method="predict_proba"
        )
        return chance[:num_users, 1]

    return classifier


def with_own_fakes(
    interactions: Interactions,
    *,
    make: Callable[[int], Sequence[Poison]] | None = None,
    num_targets: int = 5,
    seed: int = 0,
) -> tuple[Interactions, np.ndarray]:
    """What `detector` learns from, its arguments as there: all users, then fakes; and bool [U], which are the fakes."""
    joined = interactions
    own_key = jax.random.fold_in(jax.random.key(seed), OWN_KEY)
    num_own = max(2, round(OWN_SHARE * interactions.num_users))
    for place, poison in enumerate((make or _usual(interactions, num_targets))(num_own)):
        rng = np.random.default_rng((seed, OWN_KEY, place))
        targets = rng.permutation(interactions.num_items)[:num_targets]
        fakes = poison(jax.random.fold_in(own_key, place), interactions, targets)
        joined = fake_profiles.contaminate(joined, fakes)
    return joined, np.arange(joined.num_users) >= interactions.num_users


def fit(labelled: Interactions, is_fake: np.ndarray, *, estimator: Any = None) -> Detector:
    """The detector that has learned from labels, for where there are some: an attack that was found out.

    Args:
        labelled: Interactions of real users and fakes.
        is_fake: bool [U], which of them are fakes; some must be, and some not.
        estimator: As in `detector`.

    Returns:
        `interactions -> suspicion` [U] in [0, 1], of these or of other data.

    Raises:
        ValueError: If `is_fake` has another length, or only one kind of user.
    """
    if is_fake.shape != (labelled.num_users,) or is_fake.all() or not is_fake.any():
        raise ValueError(f"Expected is_fake of {labelled.num_users} users of both kinds, got {is_fake.sum()} fakes.")
    learner: Any = sklearn.base.clone(forest() if estimator is None else estimator)
    learner.fit(profile_statistics.statistics(labelled), is_fake)
    return lambda interactions: learner.predict_proba(profile_statistics.statistics(interactions))[:, 1]


def _usual(interactions: Interactions, num_targets: int) -> Callable[[int], list[Poison]]:
    """Pushes by the two attacks that need least, of lengths that are usual in the data."""
    lengths = np.bincount(interactions.users, minlength=interactions.num_users)
    most = min(interactions.num_items // 2, max(0, interactions.num_items - num_targets))  # a target is no filler
    median = min(max(2, int(np.median(lengths))), most)
    return lambda num_fakes: [
        method.attack(num_fakes=num_fakes // 2, num_fillers=num)
        for method in (random_ratings, average)
        for num in (median // 2, median)
    ]
