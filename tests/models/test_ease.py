"""What is special to EASE: the closed form, the optimum it is, and that no item recommends itself."""

import jax
import jax.numpy as jnp
import numpy as np
import planted_world
import pytest

from jaxrec.models import ease
from jaxrec.types import Interactions

RNG = np.random.default_rng(0)
PAIRS = RNG.random((9, 7)) < 0.4
PAIRS[4] = False  # a user without history
PAIRS[:, 3] = False  # an item never seen
TRAIN = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(PAIRS)), num_users=9, num_items=7)
MODEL = ease.model(num_users=9, num_items=7, l2=0.7)


def solved(model=MODEL, train=TRAIN):
    return model.solve(train, jax.random.key(0))


def test_weights_are_the_constrained_least_squares_of_each_item():
    """Item by item: ridge regression of its column on all other columns, which are what EASE's one inverse solves."""
    x = PAIRS.astype(float)
    expected = np.zeros((7, 7))
    for item in range(7):
        others = np.delete(np.arange(7), item)
        left = x[:, others].T @ x[:, others] + 0.7 * np.eye(6)
        expected[item, others] = np.linalg.solve(left, x[:, others].T @ x[:, item])
    np.testing.assert_allclose(solved()["tables"]["item"], expected, atol=1e-5)
    np.testing.assert_allclose(MODEL.score_all(solved(), jnp.arange(9)), x @ expected.T, atol=1e-5)


def test_no_item_recommends_itself_and_the_unseen_score_zero():
    params = solved()
    np.testing.assert_array_equal(np.diag(params["tables"]["item"]), 0)
    scores = np.asarray(MODEL.score_all(params, jnp.arange(9)))
    np.testing.assert_array_equal(scores[4], 0)
    np.testing.assert_array_equal(scores[:, 3], 0)


def test_scores_read_what_is_known_now():
    more = Interactions(np.append(TRAIN.users, 4).astype(np.int32), np.append(TRAIN.items, 2).astype(np.int32), 9, 7)
    params = MODEL.knowing(solved(), more)
    np.testing.assert_allclose(MODEL.score_all(params, jnp.array([4]))[0], params["tables"]["item"][:, 2], atol=1e-6)


def test_the_planted_groups_are_found():
    model = ease.model(num_users=planted_world.NUM_USERS, num_items=planted_world.NUM_ITEMS, l2=1.0)
    params = solved(model, planted_world.interactions())
    assert planted_world.share_found(model.score_all(params, jnp.arange(planted_world.NUM_USERS))) == 1.0


@pytest.mark.parametrize(("name", "value"), [("num_users", 0), ("num_items", 0), ("l2", 0.0), ("l2", float("inf"))])
def test_wrong_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        ease.model(**{"num_users": 2, "num_items": 2, name: value})
