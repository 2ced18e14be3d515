"""What stands for the room that a list has: its gap, in the norms that a relative epsilon is measured in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import evaluate, robustness, types
from jaxrec.models import biased_mf, ease, mf
from jaxrec.studies import model_robustness, model_table, study

USER = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], np.float32)
ITEM = np.array([[3.0, 0.0], [2.0, 1.0], [1.0, 4.0], [0.0, 2.0]], np.float32)


def listing(known):
    """Of three users over four items, who know these (user, item) pairs."""
    users, items = np.array(known, np.int32).reshape(-1, 2).T
    return evaluate.prepare_lists([types.Interactions(users, items, num_users=3, num_items=4)])


def gap(tables, known, length=1, depth=100):
    model = mf.model(num_users=3, num_items=4, dimension=2)
    params = {"tables": {name: jnp.asarray(table) for name, table in tables.items()}, "weights": {}, "given": {}}
    return model_robustness.list_gap(model, params, listing(known), length=length, depth=depth)


def test_the_gap_is_that_of_means_of_scores_in_norms_of_the_canonical_gauge():
    user, item = mf.balanced(jnp.asarray(USER), jnp.asarray(ITEM))
    scores = np.sort(USER @ ITEM.T, axis=1)[:, ::-1]
    unit = np.linalg.norm(user, axis=1) * np.linalg.norm(item, axis=1).mean()
    expected = [(row[:2].mean() - row[2:].mean()) / size for row, size in zip(scores[:2], unit[:2], strict=True)]
    np.testing.assert_allclose(gap({"user": USER, "item": ITEM}, [], 2), [*expected, 0], rtol=1e-5)


def test_it_does_not_depend_on_the_gauge_of_training():
    change = np.array([[2.0, 1.0], [0.5, 3.0]], np.float32)
    turned = {"user": USER @ change, "item": ITEM @ np.linalg.inv(change).T}
    np.testing.assert_allclose(gap(turned, []), gap({"user": USER, "item": ITEM}, []), rtol=1e-4)


def test_a_bias_of_a_user_which_changes_no_list_does_not_change_the_gap():
    model = biased_mf.model(num_users=3, num_items=4, dimension=2)

    def gaps(bias):
        tables = {"user": jnp.asarray(np.c_[USER, np.full(3, bias)]), "item": jnp.asarray(np.c_[ITEM, np.arange(4)])}
        params = {"tables": jax.tree.map(jnp.float32, tables), "weights": {}, "given": {}}
        return model_robustness.list_gap(model, params, listing([]), length=1)

    np.testing.assert_allclose(gaps(0), gaps(-4), rtol=1e-5, atol=1e-6)
    assert gaps(0)[2] > 0, "a user whose embedding is 0 still has a list, by the items' biases"


def test_known_items_take_no_part_and_a_user_with_too_few_left_has_none():
    tables = {"user": USER, "item": ITEM}
    scores, without = USER[0] @ ITEM.T, gap(tables, [(0, 0)], depth=2)[0]
    assert without / gap(tables, [], depth=2)[0] == pytest.approx((scores[1] - scores[2]) / (scores[0] - scores[1]))
    assert gap(tables, [(1, 2)], length=3)[1] == 0, "nothing comes after the three items that are left"
    assert gap(tables, [(1, 2)], length=1)[1] > 0


def test_a_model_without_a_gauge_or_a_catalogue_without_a_rest_is_refused():
    with pytest.raises(ValueError, match="canonical gauge"):
        gap({"user": USER, "item": ITEM}, [], length=4)
    solved = ease.model(num_users=3, num_items=4)
    with pytest.raises(ValueError, match="canonical gauge"):
        model_robustness.list_gap(solved, {}, listing([]), length=1)


def test_of_one_user_a_record_has_no_interval():
    interactions = types.Interactions(np.array([0], np.int32), np.array([1], np.int32), 1, 12)
    data = study.Data(types.Split(interactions, interactions, interactions), "drawn", "drawn", "drawn", {"sha256": "x"})
    clean = robustness.Measurement(
        attack="none", epsilon=0.0, unit="relative", oracle="none", achieved_norm=0.0, loss=0.1, queries=1,
        ranks=evaluate.Ranks(users=np.array([0]), ranks=np.array([1.0]), num_candidates=np.array([11]), num_left_out=0),
        lists=np.array([[0, 2]]), target_scores=np.zeros(1, np.float32), gradient_evaluations=0, mean_norms={},
    )  # fmt: skip
    attacked = [dataclasses.replace(clean, attack="FGSM", epsilon=0.1)]
    row = model_table.Row("MF", mf.model(num_users=1, num_items=12, dimension=2), "drawn")
    gaps = {"MF": np.array([0.5])}
    made = model_robustness.records_of({"MF": [clean, *attacked]}, [row], data, gaps, seed=0, white_box=["FGSM"])
    assert {record.metric for record in made} >= {"ndcg", "list_overlap", "list_gap"}
    assert {record.interval for record in made} == {None}
