"""What is special to Caser: the convolutions against loops over windows, what a window sees, and learning a cycle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import cycle

from jaxrec import loop, sequences
from jaxrec.models import caser

KEY = jax.random.key(0)


def made(**hyperparameters):
    sizes = {"dimension": 4, "window": 3, "num_horizontal": 2, "num_vertical": 2}
    model = caser.model(num_users=5, num_items=6, **{**sizes, **hyperparameters})
    params = jax.jit(model.init)(KEY)
    rng = np.random.default_rng(0)
    assert model.sequence is not None
    assert model.sequence.states is not None
    return (
        model.sequence,
        jax.jit(model.sequence.states),
        jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params),
    )


def expected_state(params, user, window):
    """One window [W, D], filter by filter."""
    weights = jax.tree.map(lambda x: np.asarray(x, float), params["weights"])
    found = []
    for height, layer in enumerate(weights["across"], start=1):
        for number in range(2):
            kernel = layer["kernel"][:, number].reshape(height, 4)
            places = [np.sum(window[i : i + height] * kernel) + layer["bias"][number] for i in range(4 - height)]
            found.append(max(*places, 0))
    found += [window[:, column] @ weights["down"][:, number] for number in range(2) for column in range(4)]
    z = np.maximum(np.array(found) @ weights["dense"]["kernel"] + weights["dense"]["bias"], 0)
    return np.concatenate([z, np.asarray(params["tables"]["user"][user], float), [1]])


def test_the_states_are_those_of_each_window_written_out():
    parts, states_of, params = made()
    ids = jnp.array([-1, 2, 0, 2, 5])
    states = states_of(params, jnp.int32(3), parts.embed(params, ids), ids >= 0, None)
    rows = np.concatenate([np.zeros((3, 4)), np.asarray(params["tables"]["item"], float)[[2, 0, 2, 5]]])
    expected = [expected_state(params, 3, rows[place : place + 3]) for place in range(5)]
    np.testing.assert_allclose(states, expected, rtol=1e-4, atol=1e-5)
    assert (np.asarray(states)[:, :4] > 0).any(axis=1).all()


def test_a_state_depends_on_the_items_of_its_window_and_on_the_user():
    parts, _, params = made()
    of_rows = jax.jit(parts.state)
    state = lambda user, *ids: np.asarray(
        of_rows(params, jnp.int32(user), parts.embed(params, jnp.array(ids)), jnp.array(ids) >= 0)
    )
    np.testing.assert_array_equal(state(0, 1, 4, 3, 2), state(0, 5, 4, 3, 2))
    assert (state(0, 1, 4, 3, 2) != state(0, 1, 5, 3, 2)).any()
    assert (state(0, 1, 4, 3, 2) != state(1, 1, 4, 3, 2)).any()


def test_a_history_shorter_than_the_window_is_one_with_empty_places():
    parts, states_of, params = made(window=5)
    states = lambda ids: np.asarray(states_of(params, jnp.int32(0), parts.embed(params, ids), ids >= 0, None))[-1]
    np.testing.assert_allclose(states(jnp.array([3, 1])), states(jnp.array([-1, -1, -1, -1, 3, 1])), rtol=1e-6)


def test_it_learns_which_item_follows_another():
    split = cycle()
    model = caser.model(num_users=30, num_items=6, dimension=8, window=2, max_length=10, dropout=0.0)
    params = loop.fit_in_memory(
        dataclasses.replace(model, init=lambda key: model.knowing(jax.jit(model.init)(key), split.train)),
        sequences.next_item(model=model, num_items=6, num_negatives=5),
        sequences.examples(split.train),
        num_epochs=60,
        batch_size=15,
        optimizer=optax.adam(0.02),
    )
    following = (split.valid.items + 1) % 6
    scores = jax.jit(model.score_all)(model.knowing(params, split.valid), jnp.asarray(split.valid.users))
    assert np.mean(np.argmax(scores, axis=1) == following) > 0.9


@pytest.mark.parametrize(
    ("name", "value"), [("window", 0), ("num_vertical", 0), ("dropout", -0.5), ("init_scale", float("nan"))]
)
def test_wrong_hyperparameters_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        caser.model(**{"num_users": 2, "num_items": 2, name: value})
