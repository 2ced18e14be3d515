"""What is special to Mult-DAE: scores and likelihood against NumPy, and what of its input an example hides."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import two_groups

from jaxrec import evaluate, loop, sequences
from jaxrec.models import mult_dae
from jaxrec.types import Interactions

# User 1 has item 4 twice, user 2 one item, user 3 none.
KNOWN = Interactions(
    np.array([1, 0, 0, 1, 1, 2, 0], np.int32), np.array([4, 3, 0, 4, 2, 1, 4], np.int32), num_users=4, num_items=5
)
HAS = np.array([[1, 0, 0, 1, 1], [0, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], float)
BATCH = {"users": jnp.array([2, 0, 1]), "where": jnp.array([True, True, False])}
KEY = jax.random.key(0)


def made():
    model = mult_dae.model(num_users=4, num_items=5, dimension=3)
    params = jax.jit(model.init)(KEY)
    rng = np.random.default_rng(0)
    trained = {name: params[name] for name in ("tables", "weights")}
    trained = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), trained)
    return model, model.knowing({**params, **trained}, KNOWN)


def expected_scores(params):
    item, output = (np.asarray(params["tables"][name], float) for name in ("item", "output"))
    x = HAS / np.maximum(np.linalg.norm(HAS, axis=1, keepdims=True), 1)
    hidden = np.tanh(x @ item + np.asarray(params["weights"]["bias"], float))
    return hidden @ output[:, :3].T + output[:, 3]


def test_scores_are_those_of_the_sum_of_the_users_rows_over_its_norm():
    model, params = made()
    scores = jax.jit(model.score_all)(params, jnp.arange(4))
    np.testing.assert_allclose(scores, expected_scores(params), rtol=1e-5, atol=1e-6)


def test_the_objective_is_the_multinomial_likelihood_and_the_l2():
    _, params = made()
    scores = expected_scores(params)
    log_softmax = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    tables = params["tables"]
    size = sum(np.square(np.asarray(table, float)).sum() for table in (tables["item"], tables["output"][:, :3]))
    expected = sum(0.1 * size - (HAS[user] * log_softmax[user]).sum() for user in (2, 0))
    total, metrics = mult_dae.objective(dropout=0.0, l2=0.1)(params, BATCH, KEY, lambda tree: tree)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["loss"]) == float(total)
    assert int(metrics["examples"]) == 2


def test_dropout_hides_its_share_and_scales_the_rest():
    left = np.asarray(mult_dae.dropped(KEY, jnp.full((40, 100), 3.0), jnp.arange(40), 0.25))
    assert set(np.unique(left)) == {0.0, 4.0}
    assert np.mean(left == 0) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 4000))


def test_what_is_hidden_of_a_user_depends_on_the_key_and_the_user_alone():
    objective, params = mult_dae.objective(), made()[1]

    @jax.jit
    def of_batch(users, key):
        batch = {"users": users, "where": jnp.ones(len(users), bool)}
        return objective(params, batch, key, lambda tree: tree)[0]

    loss = lambda key, *users: of_batch(jnp.array(users), key)
    assert float(loss(KEY, 0, 1)) == pytest.approx(float(loss(KEY, 1)) + float(loss(KEY, 0)), rel=1e-5)
    assert float(loss(KEY, 0, 1)) != float(loss(jax.random.key(1), 0, 1))


def test_it_learns_two_groups_where_popularity_is_chance():
    split = two_groups()
    model = mult_dae.model(num_users=20, num_items=20, dimension=8)
    params = loop.fit_in_memory(
        dataclasses.replace(model, init=lambda key: model.knowing(model.init(key), split.train)),
        mult_dae.objective(),
        sequences.examples(split.train, at_least=1),
        num_epochs=60,
        batch_size=10,
        optimizer=optax.adam(0.02),
    )
    ranks = evaluate.evaluate(model, params, evaluate.prepare([split.train, split.valid], split.test)).ranks
    assert np.mean(ranks) < 2.5


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_wrong_dropout_is_refused(dropout):
    with pytest.raises(ValueError, match=f"dropout={dropout}"):
        mult_dae.objective(dropout=dropout)


@pytest.mark.parametrize("name", ["num_users", "num_items", "dimension"])
def test_wrong_sizes_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        mult_dae.model(**{"num_users": 2, "num_items": 2, name: 0})
