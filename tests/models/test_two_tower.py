"""Two towers: unit vectors, the in-batch softmax and its correction, a planted structure."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import planted_groups
import pytest
import sides

from jaxrec import objectives, sampling
from jaxrec.models import mf, two_tower

SIZES = {"num_users": 6, "num_items": 7, "dimension": 3, "widths": (5, 4)}
MODEL = two_tower.model(**SIZES, side=sides.WITHOUT_CROSSES, temperature=0.25)


def tower(layers, rows):
    hidden = rows.reshape(-1)
    for number in range(2):
        layer = layers[f"layer_{number}"]
        hidden = np.maximum(hidden, 0) if number else hidden
        hidden = hidden @ np.asarray(layer["kernel"], float) + np.asarray(layer["bias"], float)
    return hidden / np.linalg.norm(hidden)


def test_a_score_is_the_cosine_of_both_towers_over_the_temperature():
    params = sides.drawn(MODEL)
    user, item = np.split(sides.rows_of(params, 4, 2, 1), [4])
    expected = tower(params["weights"]["user"], user) @ tower(params["weights"]["item"], item) / 0.25
    assert float(MODEL.score(params, jnp.array(4), jnp.array(2))) == pytest.approx(expected, rel=1e-4)
    assert np.abs(MODEL.score_all(params, jnp.arange(6))).max() <= 4 * (1 + 1e-5)


@pytest.mark.parametrize("corrected", [True, False])
def test_the_in_batch_objective_is_a_softmax_over_the_other_items_less_their_log_frequency(corrected):
    model = mf.model(num_users=6, num_items=7, dimension=3)
    params = sides.drawn(model)
    log_q = np.log(np.array([0.3, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1], np.float32))
    users, items = [3, 0, 5, 1, 2], [2, 0, 2, 6, 4]  # item 2 twice: neither is the other's negative
    where = [True, True, True, True, False]
    scores = np.asarray(model.score_all(params, jnp.array(users)), float) - (log_q if corrected else 0)
    expected = 0.0
    for row in range(4):
        others = [items[place] for place in range(4) if items[place] != items[row]]
        total = sum(math.exp(scores[row, item]) for item in [items[row], *others])
        expected -= math.log(math.exp(scores[row, items[row]]) / total)
    objective = objectives.in_batch(model=model, log_q=jnp.asarray(log_q) if corrected else None)
    batch = {"users": jnp.array(users), "pos": jnp.array(items), "where": jnp.array(where)}
    loss, metrics = jax.jit(lambda params: objective(params, batch, jax.random.key(0), lambda x: x))(params)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert (float(metrics["loss"]), int(metrics["examples"])) == (float(loss), 4)


def test_the_correction_refuses_a_step_on_the_touched_rows():
    model = mf.model(num_users=6, num_items=4, dimension=3)
    batch = {"users": jnp.arange(4), "pos": jnp.arange(4), "where": jnp.ones(4, bool)}
    objective = objectives.in_batch(model=model, log_q=np.zeros(7, np.float32))
    with pytest.raises(ValueError, match="Expected 7 rows of the table item, got 4"):
        objective(sides.drawn(model), batch, jax.random.key(0), lambda x: x)


def test_log_frequency_is_of_training_rows_and_finite_for_items_without_one():
    train, _ = planted_groups.groups()
    counts = np.bincount(train.items, minlength=planted_groups.NUM_ITEMS)
    np.testing.assert_allclose(sampling.log_frequency(train), np.log(counts / 120), rtol=1e-6)
    first = train.take(np.arange(5))
    assert sampling.log_frequency(first)[int(np.setdiff1d(np.arange(16), first.items)[0])] == pytest.approx(
        math.log(1 / 5)
    )


def test_two_planted_groups_are_learned():
    train, _ = planted_groups.groups()
    model = two_tower.model(
        num_users=planted_groups.NUM_USERS, num_items=planted_groups.NUM_ITEMS, dimension=8, widths=(8, 4)
    )
    objective = objectives.in_batch(model=model, log_q=sampling.log_frequency(train))
    assert planted_groups.learned(model, objective, num_epochs=30) > 0.95


def test_crosses_and_wrong_hyperparameters_are_refused():
    with pytest.raises(ValueError, match="no crosses"):
        two_tower.model(**SIZES, side=sides.SIDE)
    with pytest.raises(ValueError, match="temperature=0"):
        two_tower.model(**SIZES, temperature=0.0)
    with pytest.raises(ValueError, match=r"widths=\(\)"):
        two_tower.model(num_users=2, num_items=2, widths=())
