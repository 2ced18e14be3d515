"""BERT4Rec against a slow reference, what is hidden from it, and what it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sequence_toys

from jaxrec import sequences
from jaxrec.models import bert4rec

NUM_ITEMS = sequence_toys.NUM_ITEMS
IDS = jnp.array([-1, -1, 3, 0, 5, 1], jnp.int32)
HIDDEN = jnp.array([False, False, False, True, False, False])
built = functools.partial(sequence_toys.built, bert4rec.model, max_length=7)


@functools.partial(jax.jit, static_argnums=0)
def states(model, params, ids, hidden, key):
    parts = model.sequence
    return parts.masked(params, jnp.int32(0), parts.embed(params, ids), ids >= 0, hidden, key)


def masked(model, params, ids, hidden, key=None):
    return np.asarray(states(model, params, ids, hidden, key), float)


def norm(x, weights):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * weights["scale"] + weights["bias"]


def gelu(x):
    return x * (1 + scipy.special.erf(x / np.sqrt(2))) / 2


def reference(params, rows):
    """The paper's network, two heads, on rows [L, 4] with the mask's where an item is hidden; float64."""
    weights = jax.tree.map(lambda x: np.asarray(x, float), params["weights"]["layers"])
    dense = lambda name, x: x @ weights[name]["kernel"] + weights[name]["bias"]
    x = norm(rows + weights["positions"][-len(rows) :], weights["first_norm"])
    for block in range(2):
        query, key, value = (dense(f"{name}_{block}", x) for name in ("query", "key", "value"))
        found = []
        for head in (slice(0, 2), slice(2, 4)):
            shares = scipy.special.softmax(query[:, head] @ key[:, head].T / np.sqrt(2), axis=1)
            found.append(shares @ value[:, head])
        x = norm(x + dense(f"out_{block}", np.concatenate(found, axis=1)), weights[f"attention_norm_{block}"])
        x = norm(x + dense(f"forward_{block}", gelu(dense(f"hidden_{block}", x))), weights[f"forward_norm_{block}"])
    return norm(gelu(dense("last", x)), weights["last_norm"])


def test_states_equal_a_slow_reference():
    model, params = built()
    rows = np.asarray(params["tables"]["item"], float)[[3, 0, 5, 1]]
    rows[1] = params["weights"]["layers"]["mask"]
    found = masked(model, params, IDS, HIDDEN)[2:]
    np.testing.assert_allclose(found[:, :-1], reference(params, rows), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[:, -1], 1)


def test_scores_are_those_of_the_mask_after_the_history():
    model, params = built()
    params = model.knowing(params, sequence_toys.circle())
    table, weights = np.asarray(params["tables"]["item"], float), params["weights"]
    rows = np.concatenate([table[np.asarray(params["given"]["histories"][0])], weights["layers"]["mask"][None]])
    expected = reference(params, rows)[-1] @ table.T + np.asarray(weights["bias"])
    np.testing.assert_allclose(jax.jit(model.score_all)(params, jnp.array([0]))[0], expected, rtol=1e-3, atol=1e-3)


def test_a_hidden_item_is_not_seen_and_one_on_either_side_is():
    model, params = built()
    state = masked(model, params, IDS, HIDDEN)[3]
    np.testing.assert_array_equal(masked(model, params, IDS.at[3].set(7), HIDDEN)[3], state)
    for place in (2, 5):
        assert np.abs(masked(model, params, IDS.at[place].set(7), HIDDEN)[3] - state).max() > 1e-3


def test_a_share_of_the_places_is_hidden_or_the_last_alone():
    """Of ten filled places two; a tenth of the time the last alone, and of one or two places one."""
    hide = jax.jit(jax.vmap(bert4rec._hidden, (0, None, None, None)))
    keys = jax.random.split(jax.random.key(0), 2000)
    present = jnp.arange(12) >= 2
    found = np.asarray(hide(keys, present, 0.2, 0.1))
    assert not found[:, :2].any()
    alone = found.sum(axis=1) == 1
    assert (found.sum(axis=1)[~alone] == 2).all()
    assert found[alone, -1].all()
    assert alone.mean() == pytest.approx(0.1, abs=4 * 0.3 / np.sqrt(2000))
    np.testing.assert_allclose(found[~alone].mean(axis=0)[2:], 0.2, atol=4 * 0.4 / np.sqrt(1800))
    for num in (1, 2):
        assert (np.asarray(hide(keys[:9], jnp.arange(12) >= 12 - num, 0.2, 0.0)).sum(axis=1) == 1).all()


def test_the_loss_is_softmax_over_all_items_at_hidden_places():
    """With the newest hidden always, it is that of the scores after the history without it. A third user is padding."""
    model, params = built(dropout=0.0)
    params = model.knowing(params, sequence_toys.circle())
    objective = bert4rec.objective(model=model, num_items=NUM_ITEMS, last_probability=1.0, piece_size=2)
    users = jnp.arange(3)
    batch = {"users": users, "where": jnp.array([True, True, False])}
    total, metrics = jax.jit(lambda params: objective(params, batch, jax.random.key(0), None))(params)
    histories = params["given"]["histories"][:3]
    earlier = {**params, "given": {"histories": jnp.pad(histories[:, :-1], ((0, 0), (1, 0)), constant_values=-1)}}
    scores = np.asarray(jax.jit(model.score_all)(earlier, users), float)
    of_target = np.take_along_axis(scores, np.asarray(histories)[:, -1:], axis=1)[:, 0]
    expected = scipy.special.logsumexp(scores, axis=1) - of_target
    assert float(total) == pytest.approx(expected[:2].sum(), rel=1e-4)
    assert int(metrics["examples"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("num_negatives", [None, 30])
def test_it_learns_what_follows_what(num_negatives):
    model = bert4rec.model(num_items=NUM_ITEMS, dimension=16, max_length=7, num_blocks=1, dropout=0.0)
    objective = bert4rec.objective(
        model=model, num_items=NUM_ITEMS, last_probability=0.5, num_negatives=num_negatives, piece_size=32
    )
    assert sequence_toys.num_right(model, objective, num_steps=400, learning_rate=0.01) >= 26  # of 32; chance is 4


def test_wrong_settings_are_refused():
    for settings in ({"max_length": 1}, {"num_heads": 3}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            bert4rec.model(**{"num_items": 4, "dimension": 4, **settings})
    model, _ = built()
    for settings in ({"mask_probability": 1.5}, {"last_probability": -1.0}, {"num_negatives": 0}, {"piece_size": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            bert4rec.objective(model=model, num_items=4, **settings)
    with pytest.raises(ValueError, match="item sequences"):
        sequences.next_item(model=model, num_items=4)
