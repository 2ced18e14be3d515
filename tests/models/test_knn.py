"""What is special to the two models of neighbours: their scores against brute force, and whose similarities count.

The neighbours themselves are tested in `tests/test_neighbours.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import planted_world
import pytest

from jaxrec.models import item_knn, user_knn
from jaxrec.types import Interactions

PAIRS = np.random.default_rng(3).random((9, 7)) < 0.45
PAIRS[4] = False  # a user without history
PAIRS[:, 3] = False  # an item never seen
TRAIN = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(PAIRS)), num_users=9, num_items=7)
K, SHRINKAGE, ASYMMETRY = 2, 1.5, 0.3


def nearest(vectors):
    """[N, N]: similarities of each row to its K nearest other rows, 0 to all others."""
    lengths = np.linalg.norm(vectors, axis=1)
    below = lengths[:, None] ** (2 * ASYMMETRY) * lengths[None] ** (2 - 2 * ASYMMETRY) + SHRINKAGE
    similarity = vectors @ vectors.T / below
    np.fill_diagonal(similarity, 0)
    for row in similarity:
        row[np.argsort(-np.round(row, 6), kind="stable")[K:]] = 0
    return similarity


def solved(method):
    settings = {"num_neighbours": K, "shrinkage": SHRINKAGE, "asymmetry": ASYMMETRY}
    model = method.model(num_users=9, num_items=7, **settings)
    return model, model.solve(TRAIN, jax.random.key(0))


def expected(method):
    x = PAIRS.astype(float)
    return nearest(x) @ x if method is user_knn else x @ nearest(x.T).T


@pytest.mark.parametrize("method", [user_knn, item_knn])
def test_scores_are_those_of_brute_force(method):
    model, params = solved(method)
    scores = np.asarray(model.score_all(params, jnp.arange(9)))
    assert len(np.unique(np.round(scores, 4))) > 5
    np.testing.assert_allclose(scores, expected(method), rtol=1e-5, atol=1e-6)
    one_by_one = model.score(params, jnp.arange(9)[:, None], jnp.arange(7)[None])
    np.testing.assert_allclose(one_by_one, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [user_knn, item_knn])
def test_users_without_history_and_items_never_seen_score_zero(method):
    model, params = solved(method)
    scores = np.asarray(model.score_all(params, jnp.arange(9)))
    np.testing.assert_array_equal(scores[4], 0)
    np.testing.assert_array_equal(scores[:, 3], 0)


@pytest.mark.parametrize("method", [user_knn, item_knn])
def test_neighbours_stay_and_histories_change_when_more_is_known(method):
    model, params = solved(method)
    more = Interactions(np.append(TRAIN.users, 4).astype(np.int32), np.append(TRAIN.items, 2).astype(np.int32), 9, 7)
    after = model.knowing(params, more)
    np.testing.assert_array_equal(after["given"]["neighbours"], params["given"]["neighbours"])
    assert after["given"]["profiles"].starts[-1] == len(TRAIN) + 1
    scores = np.asarray(model.score_all(after, jnp.array([4])))
    # Item-kNN reads the user's own history; user-kNN the neighbours', and user 4 has none.
    assert (scores > 0).any() == (method is item_knn)


@pytest.mark.parametrize("method", [user_knn, item_knn])
def test_a_place_without_a_neighbour_counts_for_nothing(method):
    model, params = solved(method)
    empty = params["given"]["neighbours"] < 0
    assert empty.any()
    table = jnp.where(empty, 7.0, params["tables"]["similarity"])
    other = {**params, "tables": {"similarity": table}}
    for scores in (
        lambda params: model.score_all(params, jnp.arange(9)),
        lambda params: model.score(params, jnp.arange(9)[:, None], jnp.arange(7)[None]),
    ):
        np.testing.assert_array_equal(scores(other), scores(params))


@pytest.mark.parametrize("method", [user_knn, item_knn])
def test_the_planted_groups_are_found(method):
    model = method.model(num_users=planted_world.NUM_USERS, num_items=planted_world.NUM_ITEMS)
    params = model.solve(planted_world.interactions(), jax.random.key(0))
    assert planted_world.share_found(np.asarray(model.score_all(params, jnp.arange(planted_world.NUM_USERS)))) == 1.0


@pytest.mark.parametrize("method", [user_knn, item_knn])
@pytest.mark.parametrize(("name", "value"), [("num_users", 0), ("num_items", 0), ("num_neighbours", 0)])
def test_wrong_settings_are_refused_by_name(method, name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        method.model(**{"num_users": 2, "num_items": 2, name: value})
