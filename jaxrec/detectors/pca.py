"""PCA variable selection: fakes are made alike, so they share little with any principal direction of real users.

Mehta and Nejdl, "Unsupervised Strategies for Shilling Detection and Robust Collaborative Filtering", User Modeling and
User-Adapted Interaction 19, 2009, https://doi.org/10.1007/s11257-008-9050-4.
"""

from typing import Any

import numpy as np
import scipy.sparse.linalg

from jaxrec import checks, profiles
from jaxrec.types import Detector, Interactions

linalg: Any = scipy.sparse.linalg  # whose types say less than it takes


def detector(*, num_components: int = 3) -> Detector:
    """Builds the detector, which needs no labels.

        suspicion(u) = - sum over the first components c of (loading of user u on c)^2

    of the covariance between users, whose rows [I] of ratings (0 where there is none; ones of implicit feedback) are
    brought to mean 0 and variance 1.

    Args:
        num_components: Components; at most one fewer than users and items.

    Returns:
        `interactions -> suspicion` [U], at most 0. A user without interactions, or with the same rating of every item,
        has no loading: 0, the most suspicious.

    Raises:
        ValueError: If `num_components < 1`; the detector itself if there are no more users or items than that.
    """
    checks.counts(num_components=num_components)

    def pca(interactions: Interactions) -> np.ndarray:
        shape = (interactions.num_users, interactions.num_items)
        if num_components >= min(shape):
            raise ValueError(f"Expected num_components < users and items {shape}, got {num_components}.")
        raw = profiles.ratings(interactions)
        mean = raw.sum(axis=1) / shape[1]
        spread = np.sqrt(np.maximum(raw.multiply(raw).sum(axis=1) / shape[1] - mean**2, 0))
        scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        standard = linalg.LinearOperator(  # of the rows; no [U, I] array is made
            shape,
            matvec=lambda x: scale * (raw @ x.ravel() - mean * x.sum()),
            rmatvec=lambda y: raw.T @ (scale * y.ravel()) - (scale * mean * y.ravel()).sum(),
            dtype=np.float64,
        )
        start = np.random.default_rng(0).normal(size=min(shape))  # ARPACK's own would differ from call to call
        loadings = linalg.svds(standard, k=num_components, v0=start, return_singular_vectors="u")[0]
        return -np.square(loadings).sum(axis=1)

    return pca
