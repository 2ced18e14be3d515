"""What is special to PureSVD: the nearest matrix of its rank, in the gauge of matrix factorisation."""

import jax
import jax.numpy as jnp
import numpy as np
import planted_world
import pytest

from jaxrec.models import mf, pure_svd
from jaxrec.types import Interactions

PAIRS = np.random.default_rng(0).random((9, 7)) < 0.45
PAIRS[4] = False
TRAIN = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(PAIRS)), num_users=9, num_items=7)


def solved(dimension=3, seed=0):
    model = pure_svd.model(num_users=9, num_items=7, dimension=dimension)
    return model, model.solve(TRAIN, jax.random.key(seed))


def test_scores_are_the_truncated_svd_of_the_data():
    model, params = solved()
    left, singular, right = np.linalg.svd(PAIRS.astype(float), full_matrices=False)
    expected = left[:, :3] * singular[:3] @ right[:3]
    scores = np.asarray(model.score_all(params, jnp.arange(9)))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(scores[4], 0, atol=1e-5)


def test_the_key_of_the_start_does_not_change_the_scores():
    (model, first), (_, second) = solved(seed=0), solved(seed=1)
    everyone = jnp.arange(9)
    np.testing.assert_allclose(model.score_all(first, everyone), model.score_all(second, everyone), atol=1e-5)


def test_the_tables_are_balanced_already():
    _, params = solved()
    tables = params["tables"]
    for table, balanced in zip(tables.values(), mf.balanced(tables["user"], tables["item"]), strict=True):
        np.testing.assert_allclose(
            np.linalg.norm(table, axis=1), np.linalg.norm(balanced, axis=1), rtol=1e-4, atol=1e-5
        )


def test_the_planted_groups_are_found():
    model = pure_svd.model(num_users=planted_world.NUM_USERS, num_items=planted_world.NUM_ITEMS, dimension=2)
    params = model.solve(planted_world.interactions(), jax.random.key(0))
    assert planted_world.share_found(np.asarray(model.score_all(params, jnp.arange(planted_world.NUM_USERS)))) == 1.0


def test_a_dimension_as_large_as_the_data_is_refused():
    with pytest.raises(ValueError, match="dimension < 7"):
        pure_svd.model(num_users=9, num_items=7, dimension=7)
