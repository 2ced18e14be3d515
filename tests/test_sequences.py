"""Laws of histories and of the next-item objective, on a model that can be written down: the mean of items so far."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import layers, losses, sequences, types

USERS = np.array([1, 0, 1, 2, 1, 0, 1], np.int32)
ITEMS = np.array([4, 2, 0, 3, 1, 5, 2], np.int32)


def known(timestamps=None):
    times = None if timestamps is None else np.asarray(timestamps, np.int64)
    return types.Interactions(USERS, ITEMS, num_users=4, num_items=6, timestamps=times)


def running_mean(dropout=0.0):
    """State: the mean of the rows so far; an item's vector is its row."""

    def states(params, user, rows, present, key):
        del params, user
        kept = layers.dropout(key, jnp.where(present[:, None], rows, 0), dropout)
        return jnp.cumsum(kept, axis=0) / jnp.maximum(jnp.cumsum(present), 1)[:, None]

    parts = types.Sequence(
        embed=lambda params, ids: jnp.where((ids >= 0)[..., None], params["tables"]["item"][ids], 0),
        state=lambda params, user, rows, present: states(params, user, rows, present, None)[-1],
        vectors=lambda params, items: params["tables"]["item"][items],
        states=states,
    )
    init = lambda key: {"tables": {"item": jax.random.normal(key, (6, 3))}, "weights": {}, "given": {}}
    return sequences.model(init=init, sequence=parts, num_items=6, max_length=3)


MODEL = running_mean()
PARAMS = MODEL.knowing(MODEL.init(jax.random.key(0)), known())
TABLE = np.asarray(PARAMS["tables"]["item"], float)


def test_histories_end_with_the_newest_item_and_begin_with_empty_places():
    expected = [[-1, 2, 5], [0, 1, 2], [-1, -1, 3], [-1, -1, -1]]
    np.testing.assert_array_equal(sequences.histories(known(), max_length=3), expected)


def test_histories_follow_the_times_and_equal_times_the_rows():
    by_time = sequences.histories(known([9, 9, 8, 7, 7, 6, 8]), max_length=4)
    np.testing.assert_array_equal(by_time, [[-1, -1, 5, 2], [1, 0, 2, 4], [-1, -1, -1, 3], [-1] * 4])


def test_examples_are_the_newest_of_users_with_two_items_or_more():
    found = sequences.examples(known())
    assert list(zip(found.users.tolist(), found.items.tolist(), strict=True)) == [(0, 5), (1, 2)]
    assert sequences.examples(known(), at_least=1).users.tolist() == [0, 1, 2]
    assert sequences.examples(known(), at_least=3).users.tolist() == [1]
    assert len(sequences.examples(known().take(np.zeros(0, np.int64)))) == 0


def test_a_history_of_no_length_is_refused():
    with pytest.raises(ValueError, match="max_length=0"):
        sequences.histories(known(), max_length=0)


def test_scores_are_those_of_the_state_after_the_history():
    scores = jax.jit(MODEL.score_all)(PARAMS, jnp.arange(4))
    means = [TABLE[[2, 5]].mean(axis=0), TABLE[[0, 1, 2]].mean(axis=0), TABLE[3], np.zeros(3)]
    np.testing.assert_allclose(scores, np.stack(means) @ TABLE.T, rtol=1e-5, atol=1e-6)


def objective_of(**settings):
    return sequences.next_item(model=MODEL, num_items=6, **settings)


def batch(users, where=None):
    where = np.ones(len(users), bool) if where is None else np.asarray(where)
    return {"users": jnp.asarray(users, jnp.int32), "where": jnp.asarray(where)}


def value(objective, users, where=None):
    run = jax.jit(lambda params, batch, key: objective(params, batch, key, lambda tree: tree))
    return jax.device_get(run(PARAMS, batch(users, where), jax.random.key(3)))


def test_the_loss_is_the_sum_over_places_after_an_item():
    """With a loss that is the positive's score alone: user 1's history 0 1 2 has two such places, user 2's none."""
    pos_score = lambda scores, relevant, where: jnp.sum(jnp.where(relevant, scores, 0), axis=-1)
    total, metrics = value(objective_of(loss=pos_score), [1, 2])
    expected = TABLE[0] @ TABLE[1] + (TABLE[0] + TABLE[1]) / 2 @ TABLE[2]
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert int(metrics["examples"]) == 2


def test_negatives_differ_between_users_and_are_never_the_item_itself():
    """With a loss that counts what counts: of 400 draws about a sixth is the item itself, and does not."""
    counted = lambda scores, relevant, where: jnp.sum(where & ~relevant, axis=-1)
    total, metrics = value(objective_of(loss=counted, num_negatives=400), [0, 1])
    share = float(total) / (400 * int(metrics["examples"]))
    assert share == pytest.approx(5 / 6, abs=0.05)
    spread = lambda scores, relevant, where: jnp.sum(jnp.where(relevant, 0, scores), axis=-1)
    draws = [float(value(objective_of(loss=spread), [user])[0]) for user in (0, 1)]
    assert draws[0] != draws[1]


def test_examples_that_do_not_count_change_nothing():
    alone, padded = (value(objective_of(), *args) for args in (([1], None), ([1, 0], [True, False])))
    assert float(alone[0]) == pytest.approx(float(padded[0]), rel=1e-6)
    assert int(alone[1]["examples"]) == int(padded[1]["examples"])


def test_what_is_random_depends_on_the_user_and_not_on_its_place_in_the_batch():
    """So the loss is the same however a batch is dealt to devices."""
    one, other = value(objective_of(num_negatives=2), [0])[0], value(objective_of(num_negatives=2), [1])[0]
    both = value(objective_of(num_negatives=2), [1, 0])[0]
    assert float(both) == pytest.approx(float(one + other), rel=1e-5)


def test_softmax_over_sampled_items_is_a_loss_too():
    assert float(value(objective_of(loss=losses.softmax, num_negatives=4), [1])[0]) > 0


def test_negatives_of_places_differ_between_places():
    """With states that are all the same, and the difference to the last place's negative as the loss."""
    model = MODEL
    same = types.Sequence(
        embed=model.sequence.embed,
        state=model.sequence.state,
        vectors=model.sequence.vectors,
        states=lambda params, user, rows, present, key: jnp.ones_like(rows),
    )
    model = sequences.model(init=MODEL.init, sequence=same, num_items=6, max_length=3)
    first = lambda scores, relevant, where: scores[:, 1] - scores[-1, 1]
    shared, apart = (
        float(value(sequences.next_item(model=model, num_items=6, negatives=kind, loss=first), [1])[0])
        for kind in ("user", "place")
    )
    assert shared == 0
    assert apart != 0


@pytest.mark.parametrize("negatives", ["user", "place"])
@pytest.mark.parametrize("size", [1, 3])
def test_pieces_are_the_batch_at_once_and_so_are_their_gradients(size, negatives):
    """Five users in pieces that do not divide them, one who does not count, under dropout."""
    model = running_mean(dropout=0.5)
    users, where = [1, 2, 0, 1, 3], [True, True, True, False, True]

    def evaluate(piece_size):
        objective = sequences.next_item(
            model=model, num_items=6, num_negatives=2, negatives=negatives, piece_size=piece_size
        )
        loss = lambda tables: objective({**PARAMS, "tables": tables}, batch(users, where), jax.random.key(3), None)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(PARAMS["tables"])

    for found, expected in zip(*map(jax.tree.leaves, (evaluate(size), evaluate(None))), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_value_in_pieces_needs_no_gradient():
    assert value(objective_of(piece_size=2), [0, 1, 2])[0] == pytest.approx(
        value(objective_of(), [0, 1, 2])[0], rel=1e-6
    )


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="piece_size=0"):
        objective_of(piece_size=0)
    with pytest.raises(ValueError, match="num_negatives=0"):
        objective_of(num_negatives=0)
    with pytest.raises(ValueError, match="negatives='item'"):
        objective_of(negatives="item")
    with pytest.raises(ValueError, match="item sequences"):
        sequences.next_item(model=types.Model(*[lambda *args: None] * 3), num_items=6)
