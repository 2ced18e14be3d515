"""What is special to GRU4Rec: the unit against a loop in NumPy, and that it learns a cycle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import cycle

from jaxrec import loop, losses, sequences
from jaxrec.models import gru4rec

KEY = jax.random.key(0)


def made(**hyperparameters):
    model = gru4rec.model(num_items=6, dimension=4, hidden_dimension=3, max_length=8, **hyperparameters)
    params = jax.jit(model.init)(KEY)
    rng = np.random.default_rng(0)
    assert model.sequence is not None
    assert model.sequence.states is not None
    return (
        model.sequence,
        model.sequence.states,
        jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params),
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_states_are_those_of_the_unit_written_out():
    parts, states_of, params = made()
    weights, table = jax.tree.map(lambda x: np.asarray(x, float), (params["weights"], params["tables"]["item"]))
    recurrent, hidden, expected = weights["recurrent"]["kernel"], np.zeros(3), []
    for item in [2, 0, 2, 5]:
        of_row = table[item] @ weights["input"]["kernel"] + weights["input"]["bias"]
        reset, update = (sigmoid((of_row + hidden @ recurrent)[part]) for part in (slice(0, 3), slice(3, 6)))
        new = np.tanh(of_row[6:] + reset * (hidden @ recurrent[:, 6:] + weights["recurrent"]["bias"]))
        hidden = (1 - update) * new + update * hidden
        expected.append(hidden @ weights["output"]["kernel"] + weights["output"]["bias"])
    ids = jnp.array([-1, -1, 2, 0, 2, 5])
    states = states_of(params, jnp.int32(0), parts.embed(params, ids), ids >= 0, None)
    np.testing.assert_allclose(states[2:], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(states[:2], [weights["output"]["bias"]] * 2, rtol=1e-6)


def test_it_learns_which_item_follows_another():
    split = cycle()
    model = gru4rec.model(num_items=6, dimension=8, hidden_dimension=8, max_length=10, dropout=0.0)
    params = loop.fit_in_memory(
        dataclasses.replace(model, init=lambda key: model.knowing(model.init(key), split.train)),
        sequences.next_item(model=model, num_items=6, num_negatives=5, loss=losses.softmax),
        sequences.examples(split.train),
        num_epochs=60,
        batch_size=15,
        optimizer=optax.adam(0.02),
    )
    following = (split.valid.items + 1) % 6
    known = model.knowing(params, split.valid)
    scores = model.score_all(known, jnp.asarray(split.valid.users))
    assert np.mean(np.argmax(scores, axis=1) == following) > 0.9


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_dimension", 0), ("max_length", 0), ("dropout", 1.0), ("init_scale", -1.0)]
)
def test_wrong_hyperparameters_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        gru4rec.model(**{"num_items": 2, name: value})
