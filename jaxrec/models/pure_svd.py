"""PureSVD: matrix factorisation of the data with a zero for every pair that is not there, by the truncated SVD.

Cremonesi, Koren and Turrin, "Performance of Recommender Algorithms on Top-N Recommendation Tasks", RecSys 2010,
https://doi.org/10.1145/1864708.1864721, section 3.3.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg

from jaxrec import profiles
from jaxrec.models import mf
from jaxrec.types import InputError, Interactions, Key, Model, Params


def model(*, num_users: int, num_items: int, dimension: int = 64) -> Model:
    """Builds the model, whose tables `solve` finds: P Q^T is the matrix of rank D nearest to the data's ones and zeros.

    Args:
        num_users, num_items, dimension: As in `mf.model`; D must be below the smaller of the two sizes.

    Returns:
        A `Model` with the tables and scores of `mf.model`, already in its gauge: P is U S^(1/2) and Q is V S^(1/2),
        where the paper has U S and V. A user without history and an item never seen have a row of zeros, up to
        rounding.

    Raises:
        ValueError: As in `mf.model`.
        InputError: If `dimension` is not below `num_users` and `num_items`: data may be too small for it.
    """
    embeddings = mf.model(num_users=num_users, num_items=num_items, dimension=dimension)
    if dimension >= min(num_users, num_items):
        raise InputError(
            f"Expected dimension < {min(num_users, num_items)}, the smaller of num_users and num_items, "
            f"got dimension={dimension}."
        )

    def solve(train: Interactions, key: Key) -> Params:
        # The iteration's random start; by default it would be another in every process.
        start = np.asarray(jax.random.normal(key, (min(num_users, num_items),)))
        left, singular, right = scipy.sparse.linalg.svds(profiles.matrix(train), k=dimension, v0=start)
        root = np.sqrt(np.maximum(singular, 0))
        tables = {
            "user": jnp.asarray(np.asarray(left) * root[None]),
            "item": jnp.asarray(np.asarray(right).T * root[None]),
        }
        return {"tables": tables, "weights": {}, "given": {}}

    return dataclasses.replace(embeddings, solve=solve)
