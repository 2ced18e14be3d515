"""Lists are those of the evaluation, with their scores; reasons are what brute force says that they are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import evaluate, recommendations
from jaxrec.models import ease, item_knn, mf, mult_dae, mult_vae, popularity, sasrec, user_knn
from jaxrec.types import InputError, Interactions, Model

USERS, ITEMS = 5, 7
PAIRS = [(0, 1), (0, 3), (0, 5), (1, 1), (1, 3), (2, 5), (2, 1), (2, 6), (3, 3), (3, 5), (3, 0)]  # user 4 has none
KNOWN = Interactions(*np.array(PAIRS, np.int32).T, num_users=USERS, num_items=ITEMS)
OF_USER_0 = np.array([1, 3, 5])


def drawn(model, seed=0):
    params = model.init(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    tables = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), params["tables"])
    return model.knowing({**params, "tables": tables}, KNOWN)


def solved(model):
    return model.knowing(model.solve(KNOWN, jax.random.key(0)), KNOWN)


MF = mf.model(num_users=USERS, num_items=ITEMS, dimension=3)
PARAMS = drawn(MF)


def test_lists_are_those_of_the_evaluation_with_their_scores():
    users = np.array([0, 3, 4])
    lists = evaluate.lists(MF, PARAMS, evaluate.prepare_lists([KNOWN], users=users), 5)
    found = recommendations.best(MF, PARAMS, users, evaluate.relevant_items(KNOWN, users), 5)
    np.testing.assert_array_equal(found.items, lists)
    scores = np.asarray(PARAMS["tables"]["user"])[users] @ np.asarray(PARAMS["tables"]["item"]).T
    listed = np.asarray(found.items)
    expected = np.where(listed < 0, -np.inf, np.take_along_axis(scores, np.maximum(listed, 0), axis=1))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)
    assert (listed[0] == -1).sum() == 1, "user 0 has three of seven items: four are left"


def test_scores_that_are_not_finite_are_not_listed():
    user = PARAMS["tables"]["user"]
    item = PARAMS["tables"]["item"].at[2].set(jnp.nan).at[6].set(jnp.inf)
    found = recommendations.best(
        MF, {**PARAMS, "tables": {"user": user, "item": item}}, np.array([0]), np.array([[-1, 0]]), ITEMS
    )
    assert set(np.asarray(found.items)[0].tolist()) == {1, 3, 4, 5, -1}


@pytest.mark.parametrize("k", [0, ITEMS + 1])
def test_a_length_that_no_list_has_is_refused(k):
    with pytest.raises(InputError, match="k"):
        recommendations.best(MF, PARAMS, np.array([0]), np.array([[-1]]), k)


def without(item):
    return KNOWN.take(~((KNOWN.users == 0) & (KNOWN.items == item)))


@pytest.mark.parametrize("method", [ease, item_knn, mult_dae, mult_vae])
def test_a_profile_rests_on_what_its_score_loses_without_the_item(method):
    """By brute force: the weights stay, and the history that is given is made anew without it."""
    model = method.model(num_users=USERS, num_items=ITEMS)
    params, items = drawn(model) if model.solve is None else solved(model), np.array([0, 6])
    reasons = recommendations.by_history(model, params, 0, items, OF_USER_0)
    score = lambda params: np.asarray(model.score(params, jnp.zeros(2, jnp.int32), jnp.asarray(items)))
    expected = [score(params) - score(model.knowing(params, without(item))) for item in OF_USER_0]
    np.testing.assert_allclose(reasons.weights, np.stack(expected, axis=1), atol=1e-5)
    assert np.abs(reasons.weights).max() > 0.001
    assert reasons.kind == "loss of score without it"


def test_the_loss_of_ease_is_its_weight():
    model = ease.model(num_users=USERS, num_items=ITEMS, l2=1.0)
    params, items = solved(model), np.array([0, 2, 6])
    weights = np.asarray(params["tables"]["item"])[items][:, OF_USER_0]
    found = recommendations.by_history(model, params, 0, items, OF_USER_0).weights
    np.testing.assert_allclose(found, weights, atol=1e-6)


def test_a_model_of_users_neighbours_names_no_item():
    model = user_knn.model(num_users=USERS, num_items=ITEMS)
    assert not recommendations.by_history(model, solved(model), 0, np.array([6]), OF_USER_0).weights.any()


def cosines(vectors, items):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit[items] @ unit[OF_USER_0].T


def test_item_rows_are_compared_by_their_cosine():
    items = np.array([0, 2])
    reasons = recommendations.by_history(MF, PARAMS, 0, items, OF_USER_0)
    np.testing.assert_allclose(reasons.weights, cosines(np.asarray(PARAMS["tables"]["item"]), items), atol=1e-6)
    assert reasons.kind == "similarity"


def test_a_row_of_zeros_is_like_nothing():
    item = PARAMS["tables"]["item"].at[2].set(0)
    params = {**PARAMS, "tables": {**PARAMS["tables"], "item": item}}
    assert not recommendations.by_history(MF, params, 0, np.array([2]), OF_USER_0).weights.any()


def test_sequence_models_are_asked_for_their_vectors():
    """Which need not be rows of a table: here they are doubled and turned round."""
    model = sasrec.model(num_items=ITEMS, dimension=4, max_length=5)
    vectors = lambda params, items: -2 * params["tables"]["item"][items][..., ::-1] + 1
    model = dataclasses.replace(model, sequence=model.sequence._replace(vectors=vectors))
    params = drawn(model)
    found = recommendations.by_history(model, params, 0, np.array([0, 2]), OF_USER_0)
    expected = cosines(np.asarray(vectors(params, np.arange(ITEMS))), np.array([0, 2]))
    np.testing.assert_allclose(found.weights, expected, atol=1e-6)


def test_a_model_with_neither_gives_no_reason():
    model = popularity.model(num_users=USERS, num_items=ITEMS)
    assert recommendations.by_history(model, solved(model), 0, np.array([2]), OF_USER_0) is None


def test_someone_without_history_has_no_reasons():
    by_profiles = ease.model(num_users=USERS, num_items=ITEMS)
    for model, params in ((by_profiles, solved(by_profiles)), (MF, PARAMS)):
        reasons = recommendations.by_history(model, params, 4, np.array([2, 3]), np.zeros(0, int))
        assert reasons.weights.shape == (2, 0)


def of_features():
    """A score that is linear in the user's two numbers and quadratic in the item's three; one array is ids."""
    rng = np.random.default_rng(0)
    given = {
        "user": rng.normal(size=(USERS, 2)),
        "item": rng.normal(size=(ITEMS, 3)),
        "genres": np.ones((ITEMS, 2), np.int32),
    }
    given = {name: jnp.asarray(x, None if x.dtype == np.int32 else jnp.float32) for name, x in given.items()}

    def score(params, users, items):
        user, item = params["given"]["user"][users], params["given"]["item"][items]
        return user @ params["weights"] + jnp.sum(jnp.square(item), axis=-1) + params["given"]["genres"][items, 0]

    params = {"tables": {}, "weights": jnp.array([2.0, -3.0]), "given": given}
    return Model(init=lambda key: params, score=score, score_all=lambda params, users: None), params


def test_features_have_their_gradient_times_input():
    model, params = of_features()
    items = np.array([4, 0])
    found = recommendations.by_features(model, params, 2, items, num_users=USERS, num_items=ITEMS)
    assert set(found) == {"user user", "item item"}
    user, item = (np.asarray(params["given"][name]) for name in ("user", "item"))
    np.testing.assert_allclose(found["user user"], np.tile(user[2] * np.array([2, -3]), (2, 1)), rtol=1e-5)
    np.testing.assert_allclose(found["item item"], 2 * item[items] ** 2, rtol=1e-5)


def test_profiles_and_graphs_are_no_features():
    model = ease.model(num_users=USERS, num_items=ITEMS)
    assert recommendations.by_features(model, solved(model), 0, np.array([2]), num_users=USERS, num_items=ITEMS) == {}


def test_the_strongest_reasons_are_the_largest_above_nothing():
    weights = np.array([0.2, -3, 0.0, 0.5, 0.2, 0.1])
    assert recommendations.strongest(weights, 3).tolist() == [3, 0, 4]
    assert recommendations.strongest(weights, 9).tolist() == [3, 0, 4, 5]
