"""The objectives against sums written out, and what does not count in them."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxrec import losses, objectives, train
from jaxrec.models import biased_mf

KEY = jax.random.key(0)


def alone(tree):
    return tree


def evaluate(params, batch, loss=losses.bpr):
    objective = objectives.pairwise(model=toys.MODEL, loss=loss)
    return jax.jit(jax.value_and_grad(lambda params: objective(params, batch, KEY, alone), has_aux=True))(params)


def margins():
    tables = jax.tree.map(lambda table: np.asarray(table, float), toys.params()["tables"])
    rows = zip(*(np.asarray(toys.BATCH[name]) for name in ("users", "pos", "neg", "where")), strict=True)
    return [float(tables["user"][u] @ (tables["item"][i] - tables["item"][j])) for u, i, j, counts in rows if counts]


@pytest.mark.parametrize(
    ("loss", "of_margin"), [(losses.bpr, lambda m: math.log1p(math.exp(-m))), (losses.hinge, lambda m: max(0, 1 - m))]
)
def test_it_is_the_sum_over_the_examples_that_count(loss, of_margin):
    (total, metrics), _ = evaluate(toys.params(), toys.BATCH, loss)
    assert float(total) == pytest.approx(sum(map(of_margin, margins())), rel=1e-5)
    assert float(metrics["loss"]) == float(total)
    assert float(metrics["margin"]) == pytest.approx(sum(margins()), rel=1e-5)
    assert int(metrics["examples"]) == 5


def test_what_a_padded_example_holds_changes_nothing():
    batch = {**toys.BATCH, "users": toys.BATCH["users"].at[5].set(3), "pos": toys.BATCH["pos"].at[5].set(0)}
    (total, _), grads = evaluate(toys.params(), toys.BATCH)
    (other, _), other_grads = evaluate(toys.params(), batch)
    assert float(total) == float(other)
    jax.tree.map(np.testing.assert_array_equal, grads, other_grads)


def test_rows_that_the_batch_does_not_touch_have_gradient_zero():
    _, grads = evaluate(toys.params(), toys.BATCH)
    for name, absent in toys.ABSENT.items():
        np.testing.assert_array_equal(grads["tables"][name][absent], 0)
        assert (jnp.abs(grads["tables"][name][~absent]).max(axis=1) > 0).all()


LISTED = {**toys.BATCH, "neg": jnp.array([[3, 1], [1, 2], [2, 2], [0, 5], [2, 4], [4, 0]])}


def test_a_wrong_l2_and_a_model_without_the_two_tables_are_refused():
    with pytest.raises(ValueError, match="l2=-1"):
        objectives.pairwise(model=toys.MODEL, l2=-1.0)
    model = dataclasses.replace(toys.MODEL, score_pairs=lambda params, users, pos, neg: (pos, neg))
    with pytest.raises(ValueError, match=r"got \['item'\]"):
        objectives.pairwise(model=model, l2=0.1)({"tables": {"item": jnp.ones((6, 2))}}, toys.BATCH, KEY, alone)


RATED = {**toys.BATCH, "ratings": jnp.array([5.0, 3.0, 1.0, 4.0, 2.0, 5.0])}
BIASED = biased_mf.model(num_users=4, num_items=6, dimension=2, mean=3.5)


def test_the_listwise_objective_is_the_sum_of_the_losses_and_of_the_rows_of_all_pairs():
    objective = objectives.listwise(model=BIASED, l2=0.3)
    total, metrics = jax.jit(lambda params: objective(params, LISTED, KEY, alone))(toys.params())
    tables = jax.tree.map(lambda table: np.asarray(table, float), toys.params()["tables"])
    expected = margin = 0.0
    for example in range(5):  # the sixth does not count
        items = [int(LISTED["pos"][example]), *LISTED["neg"][example].tolist()]
        p, scores = tables["user"][int(LISTED["users"][example])], []
        for place, q in enumerate(tables["item"][items]):
            scores.append(3.5 + p[2] + q[2] + p[0] * q[0] + p[1] * q[1])
            expected += math.log1p(math.exp(-scores[-1] if place == 0 else scores[-1])) + 0.15 * (p @ p + q @ q)
        margin += scores[0] - (scores[1] + scores[2]) / 2
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["loss"]) == float(total)
    assert float(metrics["margin"]) == pytest.approx(margin, rel=1e-5)
    assert int(metrics["examples"]) == 5


@pytest.mark.parametrize("neg", [LISTED["neg"], LISTED["neg"][:, 0]], ids=["two negatives", "one"])
def test_listwise_scores_by_rows_are_those_by_ids_and_so_is_the_gradient(neg):
    by_ids = dataclasses.replace(BIASED, score_rows=None)

    def evaluate(model):
        objective = objectives.listwise(model=model, loss=losses.softmax)
        loss = lambda tables: objective({**toys.params(), "tables": tables}, {**LISTED, "neg": neg}, KEY, alone)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(toys.params()["tables"])

    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, evaluate(BIASED), evaluate(by_ids))


def test_listwise_refuses_a_wrong_l2_and_l2_of_more_than_two_rows():
    with pytest.raises(ValueError, match="l2=-1"):
        objectives.listwise(model=BIASED, l2=-1.0)
    graph = dataclasses.replace(BIASED, score_rows=None)
    with pytest.raises(ValueError, match="score_rows"):
        objectives.listwise(model=graph, l2=0.1)(toys.params(), LISTED, KEY, alone)


RATED = {**toys.BATCH, "ratings": jnp.array([5.0, 3.0, 1.0, 4.0, 2.0, 5.0])}


def rated(l2):
    """Loss, metrics and gradients, on tables whose last column is the biases."""
    objective = objectives.rating(model=BIASED, l2=l2)
    both = jax.jit(jax.value_and_grad(lambda params: objective(params, RATED, KEY, alone), has_aux=True))
    return both(toys.params())


def test_among_the_batch_each_item_is_listed_once():
    params = toys.params()
    batch = {
        "users": jnp.array([0, 1, 2]),
        "pos": jnp.array([1, 3, 5]),
        "neg": jnp.array([[3, 2], [2, 2], [4, 4]]),
        "where": jnp.array([True, True, False]),
    }
    scores = np.asarray(toys.MODEL.score_all(params, batch["users"]), float)[:, [1, 2, 3]]  # 4 and 5 do not count
    expected = -sum(scores[row, place] - np.log(np.exp(scores[row]).sum()) for row, place in ((0, 0), (1, 2)))
    objective = objectives.among_batch(model=toys.MODEL)
    loss, metrics = jax.jit(lambda params: objective(params, batch, KEY, alone))(params)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert (float(metrics["loss"]), int(metrics["examples"])) == (float(loss), 2)


def test_the_rating_objective_is_the_sum_of_squared_errors_and_of_both_rows_for_each_rating():
    (total, metrics), _ = rated(0.3)
    tables = jax.tree.map(lambda table: np.asarray(table, float), toys.params()["tables"])
    squared_error = sizes = 0.0
    for row in range(5):  # the sixth does not count
        p, q = tables["user"][int(RATED["users"][row])], tables["item"][int(RATED["pos"][row])]
        predicted = 3.5 + p[2] + q[2] + p[0] * q[0] + p[1] * q[1]
        squared_error += (float(RATED["ratings"][row]) - predicted) ** 2
        sizes += p @ p + q @ q
    assert float(total) == pytest.approx(squared_error + 0.3 * sizes, rel=1e-5)
    assert float(metrics["loss"]) == float(total)
    assert float(metrics["squared_error"]) == pytest.approx(squared_error, rel=1e-5)
    assert int(metrics["examples"]) == 5


def test_ratings_leave_rows_without_one_alone_however_large_the_l2():
    _, grads = rated(10.0)
    np.testing.assert_array_equal(grads["tables"]["user"][3], 0)
    np.testing.assert_array_equal(grads["tables"]["item"][jnp.array([2, 4, 5])], 0)  # negatives are not read
    assert (jnp.abs(grads["tables"]["item"][jnp.array([0, 1, 3])]).max(axis=1) > 0).all()


def test_a_step_on_the_touched_rows_of_ratings_is_the_dense_step():
    objective, optimizer = objectives.rating(model=BIASED, l2=0.1), optax.sgd(0.1)
    batch = {name: x[:2] for name, x in RATED.items()}

    def step(reads):
        state = train.init_state(toys.params(), optimizer, KEY)
        return jax.jit(train.make_step(objective, optimizer, reads=reads))(state, {}, batch, KEY)[0].trained["tables"]

    dense, by_rows = step(None), step({"user": ("users",), "item": ("pos",)})
    assert (dense["item"] != toys.params()["tables"]["item"]).any()
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), dense, by_rows)


def test_a_wrong_l2_and_a_model_of_more_than_two_rows_are_refused():
    with pytest.raises(ValueError, match="l2=-1"):
        objectives.rating(model=BIASED, l2=-1.0)
    graph = dataclasses.replace(BIASED, score_rows=None)
    with pytest.raises(ValueError, match="score_rows"):
        objectives.rating(model=graph)(toys.params(), RATED, KEY, alone)
