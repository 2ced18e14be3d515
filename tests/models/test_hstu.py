"""HSTU's attention and states against slow references, its scores, and what it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sequence_toys

from jaxrec import losses, sequences
from jaxrec.models import hstu

NUM_ITEMS = sequence_toys.NUM_ITEMS
ITEMS = np.array([3, 0, 5, 1, 3])
built, states = functools.partial(sequence_toys.built, hstu.model, max_length=7), sequence_toys.states


def silu(x):
    return x / (1 + np.exp(-x))


def norm(x):
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)


def attention(query, key, value, bias, max_length):
    """Equation 3 of the paper with a bias of each distance, one pair of places at a time."""
    found = np.zeros_like(value)
    for place in range(len(query)):
        for before in range(place + 1):
            found[place] += silu(query[place] @ key[before] + bias[place - before]) / max_length * value[before]
    return found


def reference(params, items, num_heads):
    weights = jax.tree.map(lambda x: np.asarray(x, float), params["weights"])
    dense = lambda name, x: x @ weights[name]["kernel"] + weights[name]["bias"]
    table = np.asarray(params["tables"]["item"], float)
    x = table[items] * np.sqrt(4) + weights["positions"][-len(items) :]
    for block in range(2):
        gate, value, query, key = np.split(silu(dense(f"mix_{block}", norm(x))), 4, axis=1)
        heads = [np.split(part, num_heads, axis=1) for part in (query, key, value)]
        found = [attention(*head, weights[f"bias_{block}"], 7) for head in zip(*heads, strict=True)]
        x = x + dense(f"out_{block}", gate * norm(np.concatenate(found, axis=1)))
    return x / np.linalg.norm(x, axis=1, keepdims=True) / 0.05


@pytest.mark.parametrize("num_heads", [1, 2])
def test_states_equal_a_slow_reference(num_heads):
    model, params = built(num_heads=num_heads)
    found = states(model, params, [-1, -1, *ITEMS])[2:]
    np.testing.assert_allclose(found, reference(params, ITEMS, num_heads), rtol=1e-3, atol=1e-3)


def test_empty_places_in_front_change_nothing():
    model, params = built()
    cut, padded = states(model, params, ITEMS), states(model, params, [-1, -1, *ITEMS])[2:]
    np.testing.assert_allclose(cut, padded, rtol=1e-4, atol=1e-4)


def test_scores_are_cosines_over_the_temperature():
    model, params = built()
    table = params["tables"]["item"]
    params = model.knowing(params, sequence_toys.circle())
    score = jax.jit(model.score_all)
    scores = np.asarray(score(params, jnp.arange(4)))
    assert 1 < np.abs(scores).max() < 1 / 0.05 + 1e-3
    state = np.asarray(states(model, params, params["given"]["histories"][0])[-1])
    rows = np.asarray(table) / np.linalg.norm(table, axis=1, keepdims=True)
    np.testing.assert_allclose(scores[0], rows @ state, rtol=1e-3, atol=1e-3)


def test_half_precision_is_close():
    model, params = built()
    half, _ = built(compute_dtype=jnp.bfloat16)
    np.testing.assert_allclose(states(half, params, ITEMS), states(model, params, ITEMS), atol=1.0)  # of at most 20


def test_it_learns_what_follows_what():
    model = hstu.model(num_items=NUM_ITEMS, dimension=8, max_length=6, num_blocks=1)
    objective = sequences.next_item(model=model, num_items=NUM_ITEMS, num_negatives=6, loss=losses.softmax)
    assert sequence_toys.num_right(model, objective) >= 30  # of 32; chance is 4


def test_wrong_settings_are_refused():
    for settings in ({"temperature": 0.0}, {"num_heads": 3}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            hstu.model(num_items=4, dimension=4, **settings)
