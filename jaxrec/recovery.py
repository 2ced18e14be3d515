"""What a defender does with suspicion: leaves users out of the training, or lets them count for less.

A user who is left out keeps their number, so that ids fit, and is served all the same: `Model.knowing(params, all)`
gives models that score by histories theirs back. Users of a factorisation have no row but the one they trained.
"""

import jax
import numpy as np

from jaxrec.types import Interactions, Key


def remove(interactions: Interactions, suspicion: np.ndarray, *, share: float) -> Interactions:
    """Without the interactions of the `share` of users who are most suspicious; of equal ones the later are taken.

    Args:
        suspicion: [U], from a `Detector`.
        share: In [0, 1], rounded to whole users. A defender does not know how many fakes there are.

    Raises:
        ValueError: If `share` lies outside [0, 1], or `suspicion` is not one finite number a user.
    """
    _check(interactions, suspicion)
    if not 0 <= share <= 1:
        raise ValueError(f"Expected share in [0, 1], got share={share}.")
    last = np.argsort(suspicion, kind="stable")[interactions.num_users - round(share * interactions.num_users) :]
    kept = np.ones(interactions.num_users, bool)
    kept[last] = False
    return interactions.take(kept[interactions.users])


def down_weight(key: Key, interactions: Interactions, suspicion: np.ndarray) -> Interactions:
    """Keeps each interaction with a chance that falls with its user's rank by suspicion, from 1 to 0.

        chance(u) = 1 - (share of users who are less suspicious than u)^8

    A victim's interactions then weigh, on average, that much, whatever kind of model it is: the median user's 99.6 %,
    those of the most suspicious twentieth 18 %.

    Args:
        key: Decides which interactions stay.
        suspicion: [U].

    Raises:
        ValueError: If `suspicion` is not one finite number a user.
    """
    _check(interactions, suspicion)
    below = np.searchsorted(np.sort(suspicion), suspicion) / max(len(suspicion), 1)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    return interactions.take(rng.random(len(interactions)) < (1 - below**8)[interactions.users])


def _check(interactions: Interactions, suspicion: np.ndarray) -> None:
    """Raises a ValueError unless there is one finite number a user."""
    if suspicion.shape != (interactions.num_users,) or not np.isfinite(suspicion).all():
        raise ValueError(f"Expected a finite suspicion of {interactions.num_users} users, got {suspicion.shape}.")
