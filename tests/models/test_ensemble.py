"""What is special to ensembles: each scale by hand, weights, and members that know their own parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import planted_world
import pytest

from jaxrec.models import ease, ensemble, ials, item_knn, mf, popularity
from jaxrec.types import Interactions

SIZES = {"num_users": 4, "num_items": 5}
TRAIN = Interactions(
    np.array([0, 0, 1, 1, 2, 2], np.int32), np.array([0, 1, 1, 2, 1, 3], np.int32), num_users=4, num_items=5
)
COUNTS = np.array([1, 3, 1, 1, 0])
SCALED = {  # of COUNTS, by hand: items 0, 2 and 3 tie behind item 1 and before item 4
    "zscore": (COUNTS - 1.2) / np.sqrt(((COUNTS - 1.2) ** 2).mean()),
    "borda": np.array([2, 4, 2, 2, 0]) / 4,
    "rrf": 1 / (60 + np.array([3, 1, 3, 3, 5])),
    "none": COUNTS,
}


def counted(scale, weights=(1.0, 2.0)):
    """Popularity and EASE, which has no scores at all for user 3."""
    members = {"popularity": popularity.model(**SIZES), "ease": ease.model(**SIZES, l2=1.0)}
    model = ensemble.model(**SIZES, members=members, weights=weights, scale=scale)
    assert model.solve is not None
    return members, model, model.solve(TRAIN, jax.random.key(0))


@pytest.mark.parametrize("scale", SCALED)
def test_scores_are_brought_to_one_scale(scale):
    _, model, params = counted(scale, weights=(3.0, 0.0))
    np.testing.assert_allclose(model.score_all(params, jnp.array([2]))[0], 3 * SCALED[scale], rtol=1e-5, atol=1e-6)


def test_scores_are_the_weighted_sum_of_the_members():
    members, model, params = counted("none")
    users = jnp.arange(4)
    parts = [member.score_all(ensemble.part(params, name), users) for name, member in members.items()]
    np.testing.assert_allclose(model.score_all(params, users), parts[0] + 2 * parts[1], rtol=1e-5)
    params = ensemble.reweighted(params, [0.5, -1.0])
    np.testing.assert_allclose(model.score_all(params, users), 0.5 * parts[0] - parts[1], rtol=1e-5)


def test_a_member_that_scores_all_items_alike_says_nothing():
    """User 3 has no history: EASE scores 0 everywhere, and the z-score's slope is finite there."""
    _, model, params = counted("zscore")
    scores = model.score_all(params, jnp.array([3]))[0]
    np.testing.assert_allclose(scores, SCALED["zscore"], rtol=1e-5)
    total = lambda tables: jnp.sum(jnp.square(model.score_all({**params, "tables": tables}, jnp.arange(4)) - 1))
    for gradient in jax.tree.leaves(jax.jit(jax.grad(total))(params["tables"])):
        assert np.isfinite(gradient).all()


def test_trained_members_are_joined_and_what_is_known_reaches_them():
    members = {"mf": mf.model(**SIZES, dimension=2), "knn": item_knn.model(**SIZES)}
    model = ensemble.model(**SIZES, members=members)
    assert model.solve is None
    knn_params = members["knn"].solve(TRAIN, jax.random.key(0))
    params = ensemble.joined({"mf": members["mf"].init(jax.random.key(1)), "knn": knn_params})
    assert set(params["tables"]) == {"mf/user", "mf/item", "knn/similarity"}
    more = Interactions(np.append(TRAIN.users, 3).astype(np.int32), np.append(TRAIN.items, 1).astype(np.int32), 4, 5)
    known = ensemble.part(model.knowing(params, more), "knn")
    np.testing.assert_array_equal(known["given"]["neighbours"], knn_params["given"]["neighbours"])
    assert known["given"]["profiles"].starts[-1] == len(TRAIN) + 1


def test_who_was_left_out_gets_rows_from_the_members_that_have_some_to_solve():
    members = {"ials": ials.model(**SIZES, dimension=2), "knn": item_knn.model(**SIZES)}
    model = ensemble.model(**SIZES, members=members, weights=(1.0, 2.0))
    params = model.solve(TRAIN, jax.random.key(0))
    more = Interactions(np.append(TRAIN.users, 3).astype(np.int32), np.append(TRAIN.items, 1).astype(np.int32), 4, 5)
    served = model.solve_users(params, more)
    alone = members["ials"].solve_users(ensemble.part(params, "ials"), more)["tables"]["user"]
    np.testing.assert_array_equal(served["tables"]["ials/user"], alone)
    assert np.abs(alone[3]).max() > 0.01 > np.abs(params["tables"]["ials/user"][3]).max()
    np.testing.assert_array_equal(served["tables"]["knn/similarity"], params["tables"]["knn/similarity"])
    np.testing.assert_array_equal(served["weights"]["members"], [1, 2])


def test_the_planted_groups_are_found_by_the_default_hybrid():
    model = ensemble.model(num_users=planted_world.NUM_USERS, num_items=planted_world.NUM_ITEMS, dimension=3)
    params = model.solve(planted_world.interactions(), jax.random.key(0))
    assert planted_world.share_found(np.asarray(model.score_all(params, jnp.arange(planted_world.NUM_USERS)))) == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": {}}, "at least one member"),
        ({"members": {"a/b": popularity.model(**SIZES)}}, "no name with"),
        ({"weights": (1.0,)}, "2 finite weights"),
        ({"rrf_offset": 0.0}, "rrf_offset=0.0"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        ensemble.model(**SIZES, **settings)
