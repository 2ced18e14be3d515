"""Spectral: how little of a user's profile lies in the main directions of the graph of users and items. Ours.

Like PCA variable selection (`pca`) it takes fakes for those who share no taste, but after degrees of users and items
have been divided out, and relative to the size of the profile, so that neither popular items nor long profiles decide.
"""

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from jaxrec import checks, profiles
from jaxrec.types import Detector, Interactions

linalg: Any = scipy.sparse.linalg  # whose types say less than it takes


def detector(*, num_components: int = 3) -> Detector:
    """Builds the detector, which needs no labels.

        A = D_users^-1/2 R D_items^-1/2;    suspicion(u) = 1 - |A_u V|^2 / |A_u|^2

    where R are the ratings, or ones of implicit feedback, D the sums of its rows and columns, and V [I, components] the
    right singular vectors of A with the largest singular values.

    Args:
        num_components: At most one fewer than users and items. Of more than a few, one may be the fakes' own: no rule
            without labels is the default, since those that were tried count that one as well (docs/poisoning.md). The
            default was chosen by looking at known fakes: what it finds of those kinds flatters it.

    Returns:
        `interactions -> suspicion` [U] in [0, 1]: the share of the profile outside the main directions. A user without
        interactions has no profile to suspect: 0. Fakes that are many and agree make a direction of their own, and are
        not seen.

    Raises:
        ValueError: If `num_components < 1`; the detector itself if there are no more users or items than that.
    """
    checks.counts(num_components=num_components)

    def spectral(interactions: Interactions) -> np.ndarray:
        shape = (interactions.num_users, interactions.num_items)
        if num_components >= min(shape):
            raise ValueError(f"Expected num_components < users and items {shape}, got {num_components}.")
        raw = profiles.ratings(interactions)
        left, right = (_inverse_root(np.abs(raw).sum(axis=axis)) for axis in (1, 0))
        scaled: Any = scipy.sparse.diags_array(left) @ raw @ scipy.sparse.diags_array(right)
        start = np.random.default_rng(0).normal(size=min(shape))  # ARPACK's own would differ from call to call
        main = linalg.svds(scaled, k=num_components, v0=start, return_singular_vectors="vh")[2]
        whole = scaled.multiply(scaled).sum(axis=1)
        inside = np.square(scaled @ main.T).sum(axis=1)
        return np.clip(1 - np.divide(inside, whole, out=np.ones_like(whole), where=whole > 0), 0, 1)

    return spectral


def _inverse_root(sums: np.ndarray) -> np.ndarray:
    """1 / sqrt, and 0 where there is nothing."""
    return np.divide(1, np.sqrt(sums), out=np.zeros_like(sums, dtype=float), where=sums > 0)
