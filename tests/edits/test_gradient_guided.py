"""HotFlip edits: the first-order estimate against NumPy, and what verifying adds."""

import edit_toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edit_toys import HISTORIES, LENGTH, NUM_ITEMS

from jaxrec import sequence_edits
from jaxrec.edits import gradient_guided, greedy
from jaxrec.sequence_edits import History, Kind

KEY = jax.random.key(0)
PADDED = [name for name in HISTORIES if name != "with a gap"]
WEIGHTS = [0.5, -1.0, 2.0, 0.25, 3.0, -2.0, 1.0]
BAG = edit_toys.bag(WEIGHTS).oracle()
EVERY_EDIT = sequence_edits.every_edit(tuple(Kind), LENGTH, jnp.arange(NUM_ITEMS))


def replace(oracle, ids, **settings):
    attack = gradient_guided.attack(kinds=(Kind.REPLACE,), **settings)
    return jax.jit(lambda ids: attack(KEY, oracle, ids))(jnp.array(ids))


@jax.jit
def edited(ids):
    return jax.vmap(sequence_edits.apply, (None, 0))(History(ids, jnp.ones(LENGTH, bool)), EVERY_EDIT).ids


@pytest.mark.parametrize("name", HISTORIES)
def test_the_estimate_sums_the_slopes_of_all_one_hot_vectors_that_change(name):
    grad = np.random.default_rng(1).normal(size=(LENGTH, NUM_ITEMS + 1)).astype(np.float32)
    ids = np.array(HISTORIES[name])
    expected = [
        sum(float(grad[place, after[place]]) - float(grad[place, ids[place]]) for place in range(LENGTH))
        for after in np.asarray(edited(jnp.asarray(ids)))
    ]
    found = gradient_guided.estimate(jnp.asarray(grad), jnp.asarray(ids), EVERY_EDIT)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kinds", [(Kind.INSERT,), tuple(Kind)])
def test_on_a_loss_linear_in_the_rows_one_candidate_finds_the_best_edit(kinds):
    """The loss weighs the places as well as the items: 75 histories at most, all tried in float64."""
    places = [0.1, 0.3, -0.7, 1.5, 0.9]
    by_place = edit_toys.bag(WEIGHTS)._replace(loss=lambda rows, present: jnp.sum(rows[:, 0] * jnp.array(places)))
    value = lambda ids: sum(place * WEIGHTS[item] for place, item in zip(places, ids, strict=True) if item >= 0)
    run = jax.jit(lambda ids: gradient_guided.attack(num_edits=1, kinds=kinds, num_candidates=1)(KEY, oracle, ids))
    oracle = by_place.oracle()
    for name in PADDED:
        after, info = run(edit_toys.history(name))
        best = max([HISTORIES[name], *edit_toys.single_edits(HISTORIES[name], kinds)], key=value)
        np.testing.assert_allclose(value(after.tolist()), value(best), rtol=1e-5)
        assert int(info["queries"]) <= 2


def test_with_all_edits_as_candidates_it_is_greedy():
    oracle = edit_toys.recurrent().oracle()  # under attention two histories tie, and rounding chooses
    guided = jax.jit(lambda ids: gradient_guided.attack(num_edits=2, num_candidates=1000)(KEY, oracle, ids))
    exhaustive = jax.jit(lambda ids: greedy.attack(num_edits=2)(KEY, oracle, ids))
    for name in ("padded", "full"):
        after, info = guided(edit_toys.history(name))
        expected, expected_info = exhaustive(edit_toys.history(name))
        assert after.tolist() == expected.tolist()
        assert int(info["queries"]) == int(expected_info["queries"])


def test_an_estimate_that_points_down_is_not_followed():
    """The loss is minus what its gradient says: every candidate is verified, none is taken."""
    liar = BAG._replace(grad=lambda ids: -BAG.grad(ids))
    after, info = replace(liar, [-1, 4, 4, 4, 4], num_edits=3, num_candidates=4)
    assert after.tolist() == [-1, 4, 4, 4, 4]
    assert [int(info[name]) for name in ("edits", "gradient_evaluations", "queries")] == [0, 1, 5]


def test_a_step_costs_one_gradient_and_its_candidates():
    _, info = replace(BAG, [1, 1, 1, 1, 1], num_edits=2, num_candidates=3)
    assert [int(info[name]) for name in ("edits", "gradient_evaluations", "queries")] == [2, 2, 1 + 2 * 3]


def test_slopes_that_are_not_finite_do_no_harm():
    broken = BAG._replace(grad=lambda ids: BAG.grad(ids).at[:, 4].set(jnp.nan))
    after, _ = replace(broken, [0, 0, 5, 0, 0], num_edits=1, num_candidates=1)
    assert after.tolist() == [0, 0, 2, 0, 0]


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match="num_candidates >= 1, a whole number, got num_candidates=0"):
        gradient_guided.attack(num_edits=1, num_candidates=0)
