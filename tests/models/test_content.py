"""What is special to the content-based model: cosines with the mean of what the user has, and features out of texts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import planted_world
import pytest

from jaxrec.models import content
from jaxrec.types import Interactions

FEATURES = np.array([[2, 0, 0], [0, 3, 4], [1, 1, 0], [0, 0, 0]], np.float32)
TRAIN = Interactions(np.array([0, 0, 2], np.int32), np.array([0, 1, 3], np.int32), num_users=3, num_items=4)


def solved():
    model = content.model(num_users=3, num_items=4, features=FEATURES)
    return model, model.solve(TRAIN, jax.random.key(0))


def test_scores_are_cosines_with_the_profile():
    model, params = solved()
    profile = np.array([1 + 0, 0.6, 0.8])  # of user 0: (1, 0, 0) and (0, .6, .8)
    length = math.sqrt(1 + 0.6**2 + 0.8**2)
    expected = [1 / length, (0.6**2 + 0.8**2) / length, (profile[0] + profile[1]) / math.sqrt(2) / length, 0]
    np.testing.assert_allclose(model.score_all(params, jnp.arange(3)), [expected, [0] * 4, [0] * 4], atol=1e-6)


def test_features_are_where_an_adversary_may_change_them():
    """A user without history and an item without features have finite gradients too; items in no profile have some."""
    model, params = solved()

    def total(features):
        given = {**params["given"], "features": features}
        return jnp.sum(jnp.square(model.score_all({**params, "given": given}, jnp.arange(3)) - 1))

    gradient = np.asarray(jax.jit(jax.grad(total))(params["given"]["features"]))
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient[:3]).max(axis=1) > 0).all()


def test_the_planted_groups_are_found():
    features = np.repeat(np.eye(3, dtype=np.float32), (4, 4, 1), axis=0)
    model = content.model(num_users=planted_world.NUM_USERS, num_items=planted_world.NUM_ITEMS, features=features)
    params = model.solve(planted_world.interactions(), jax.random.key(0))
    assert planted_world.share_found(np.asarray(model.score_all(params, jnp.arange(planted_world.NUM_USERS)))) == 1.0


def test_words_that_few_texts_share_count_for_more_and_labels_as_much_as_the_text():
    texts = ["robot wedding", "robot war", "robot war", "robot wedding", "robot zebra"]
    found = content.describe(texts, np.array([[1, 1], [0, 1], [0, 1], [0, 0], [1, 0]]))
    robot, war, wedding = found[:, :3].T  # in the order of the alphabet; one text has "zebra"
    idf = lambda num: math.log((1 + 5) / (1 + num)) + 1  # scikit-learn's, smooth
    assert robot[1] / war[1] == pytest.approx(idf(5) / idf(2))
    assert found.shape == (5, 3 + 2)
    np.testing.assert_array_equal(wedding > 0, [True, False, False, True, False])
    np.testing.assert_allclose(np.linalg.norm(found[:, :3], axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found[:, 3:], axis=1), [1, 1, 1, 0, 1], rtol=1e-6)


@pytest.mark.parametrize("features", [np.zeros((3, 2)), np.zeros(4), np.full((4, 2), np.nan)])
def test_wrong_features_are_refused(features):
    with pytest.raises(ValueError, match=r"features of shape \(4, F\)|finite features"):
        content.model(num_users=3, num_items=4, features=features)


def test_labels_of_another_number_of_items_are_refused():
    with pytest.raises(ValueError, match="labels of 2 items, got 3"):
        content.describe(["robot", "robot"], np.zeros((3, 2)))
