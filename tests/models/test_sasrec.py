"""SASRec against a slow reference, and what it learns of items that follow each other in a circle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sequence_toys

from jaxrec import losses, sequences
from jaxrec.models import sasrec

NUM_ITEMS = sequence_toys.NUM_ITEMS
IDS = jnp.array([-1, -1, 3, 0, 5, 1], jnp.int32)
built, states = functools.partial(sequence_toys.built, sasrec.model, max_length=6), sequence_toys.states


def norm(x, weights):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-8) * weights["scale"] + weights["bias"]


def reference(params, items, num_heads):
    """The paper's network on items without empty places, in loops, float64."""
    weights = jax.tree.map(lambda x: np.asarray(x, float), params["weights"])
    dense = lambda name, x: x @ weights[name]["kernel"] + weights[name]["bias"]
    table = np.asarray(params["tables"]["item"], float)
    x = table[items] * np.sqrt(table.shape[1]) + weights["positions"][-len(items) :]
    size = table.shape[1] // num_heads
    for block in range(2):
        q = norm(x, weights[f"attention_norm_{block}"])
        query, key, value = dense(f"query_{block}", q), dense(f"key_{block}", x), dense(f"value_{block}", x)
        found = np.zeros_like(x)
        for place in range(len(items)):
            for head in range(num_heads):
                of_head = slice(head * size, (head + 1) * size)
                scores = key[: place + 1, of_head] @ query[place, of_head] / np.sqrt(size)
                shares = np.exp(scores - scores.max())
                found[place, of_head] = shares / shares.sum() @ value[: place + 1, of_head]
        x = norm(q + dense(f"out_{block}", found), weights[f"forward_norm_{block}"])
        x = x + dense(f"forward_{block}", np.maximum(dense(f"hidden_{block}", x), 0))
    return norm(x, weights["last_norm"])


@pytest.mark.parametrize("num_heads", [1, 2])
def test_states_equal_a_slow_reference(num_heads):
    model, params = built(num_heads=num_heads)
    expected = reference(params, np.array([3, 0, 5, 1]), num_heads)
    np.testing.assert_allclose(states(model, params, IDS)[2:], expected, rtol=1e-4, atol=1e-4)


def test_empty_places_in_front_change_nothing():
    """A history of four places, and of six with two empty ones: the last place is that of the newest item in both."""
    model, params = built()
    np.testing.assert_allclose(states(model, params, IDS[2:]), states(model, params, IDS)[2:], rtol=1e-5, atol=1e-5)


def test_a_temperature_makes_scores_cosines():
    model, params = built()
    cosine, _ = built(temperature=0.05)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(
        states(cosine, params, IDS)[2:], unit(states(model, params, IDS)[2:]) / 0.05, rtol=1e-4, atol=1e-4
    )
    items = jnp.arange(NUM_ITEMS)
    rows = np.asarray(model.sequence.vectors(params, items))
    np.testing.assert_allclose(np.asarray(cosine.sequence.vectors(params, items)), unit(rows), rtol=1e-5)


def test_half_precision_is_close_and_gives_full_precision_back():
    model, params = built()
    half, _ = built(compute_dtype=jnp.bfloat16)
    found = states(half, params, IDS)[2:]
    np.testing.assert_allclose(found, states(model, params, IDS)[2:], atol=0.15)
    parts, user = half.sequence, jnp.int32(0)
    shape = jax.eval_shape(lambda: parts.states(params, user, parts.embed(params, IDS), IDS >= 0, None))
    assert shape.dtype == jnp.float32


@pytest.mark.parametrize(
    "loss",
    [losses.softmax, losses.gbce(num_items=NUM_ITEMS, num_negatives=6)],
    ids=["softmax", "gbce"],
)
def test_it_learns_what_follows_what(loss):
    model = sasrec.model(num_items=NUM_ITEMS, dimension=8, max_length=6, num_blocks=1)
    objective = sequences.next_item(model=model, num_items=NUM_ITEMS, num_negatives=6, loss=loss)
    assert (
        sequence_toys.num_right(model, objective) >= 28
    )  # of 32; chance is 4, and XLA's cheap code may lose one or two


def test_wrong_settings_are_refused():
    for settings in ({"num_blocks": 0}, {"num_heads": 3}, {"dropout": 1.0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            sasrec.model(num_items=4, dimension=4, **settings)
    model, params = built()
    with pytest.raises(ValueError, match="max_length=6"):
        states(model, params, [0] * 7)
