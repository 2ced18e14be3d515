"""Edits against Python lists: what comes out, what is allowed, what the white-box oracle answers."""

import itertools

import edit_toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edit_toys import LENGTH, NUM_ITEMS

from jaxrec import sequence_edits
from jaxrec.sequence_edits import Edit, History, Kind
from jaxrec.types import EditOracle

every_kind = pytest.mark.parametrize("kind", Kind)
every_history = pytest.mark.parametrize("name", [name for name in edit_toys.HISTORIES if name != "with a gap"])


@jax.jit
def applied(ids, where, edits):
    return jax.vmap(sequence_edits.apply, (None, 0))(History(ids, where), edits)


@jax.jit
def allowed(ids, where, items, edits):
    oracle = EditOracle(lambda ids: jnp.float32(0), NUM_ITEMS, where=where, items=items)
    return sequence_edits.allowed(oracle, sequence_edits.start(oracle, ids), edits)


def edits_of(kind):
    return sequence_edits.every_edit((kind,), LENGTH, jnp.arange(NUM_ITEMS))


EVERYWHERE, EVERYTHING = jnp.ones(LENGTH, bool), jnp.ones(NUM_ITEMS, bool)


@every_kind
@every_history
def test_the_allowed_edits_are_those_of_lists(name, kind):
    ids, edits = edit_toys.history(name), edits_of(kind)
    after = np.asarray(applied(ids, EVERYWHERE, edits).ids)[np.asarray(allowed(ids, EVERYWHERE, EVERYTHING, edits))]
    assert sorted(map(tuple, after)) == sorted(map(tuple, edit_toys.single_edits(edit_toys.HISTORIES[name], (kind,))))


@pytest.mark.parametrize(
    ("kind", "place", "before", "after"),
    [
        (Kind.REPLACE, 2, [4, 5, 6], [4, 5, 0]),
        (Kind.INSERT, 2, [4, 5, 6], [5, 6, 0]),
        (Kind.INSERT, 1, [-1, 5, 6], [5, 0, 6]),
        (Kind.INSERT, 0, [-1, 5, 6], [0, 5, 6]),
        (Kind.DELETE, 1, [4, 5, 6], [-1, 4, 6]),
        (Kind.DELETE, 2, [4, -1, 6], [-1, 4, -1]),
    ],
)
def test_an_edit_written_out(kind, place, before, after):
    edit = Edit(jnp.int32(kind), jnp.int32(place), jnp.int32(-1 if kind == Kind.DELETE else 0))
    edited = sequence_edits.apply(History(jnp.array(before), jnp.ones(3, bool)), edit)
    assert edited.ids.tolist() == after


def test_the_mask_moves_with_the_entries():
    where = jnp.array([False, True, False])
    for kind, after in ((Kind.REPLACE, [0, 1, 0]), (Kind.INSERT, [1, 1, 0]), (Kind.DELETE, [0, 0, 0])):
        edit = Edit(jnp.int32(kind), jnp.int32(1), jnp.int32(5))
        assert sequence_edits.apply(History(jnp.array([2, 3, 4]), where), edit).where.tolist() == after, kind


@every_kind
def test_masks_forbid_places_and_items_and_nothing_else(kind):
    edits, draw = edits_of(kind), np.random.default_rng(3)
    for name in edit_toys.HISTORIES:
        where, items = draw.random(LENGTH) < 0.6, draw.random(NUM_ITEMS) < 0.5
        ids = edit_toys.history(name)
        free = np.asarray(allowed(ids, EVERYWHERE, EVERYTHING, edits))
        expected = [
            bool(is_free and where[place] and (kind == Kind.DELETE or items[item]))
            for is_free, place, item in zip(free, edits.place.tolist(), edits.item.tolist(), strict=True)
        ]
        assert allowed(ids, jnp.asarray(where), jnp.asarray(items), edits).tolist() == expected


def test_every_edit_is_listed_once():
    edits = sequence_edits.every_edit(tuple(Kind), 3, jnp.array([1, 4]))
    listed = list(zip(*(values.tolist() for values in edits), strict=True))
    expected = [
        *itertools.product([Kind.REPLACE], range(3), [1, 4]),
        *itertools.product([Kind.INSERT], range(3), [1, 4]),
        *itertools.product([Kind.DELETE], range(3), [-1]),
    ]
    assert listed == expected


def test_the_white_box_gives_losses_of_any_batch_and_the_slope_of_every_one_hot_entry():
    """The gradient by one-hot vectors, by central differences in float64; the last column is the empty place's."""
    table, empty, place_weights = np.array([[1.0, 0], [2, -1], [0, 3]]), np.array([0.5, 0.25]), np.array([1.0, 2, 3, 4])

    def embed(ids):
        return jnp.where((ids >= 0)[..., None], jnp.asarray(table, jnp.float32)[ids], jnp.asarray(empty, jnp.float32))

    def loss(rows, present):
        weights = jnp.asarray(place_weights, jnp.float32) * present
        return jnp.sum(jnp.sin(weights @ rows))

    oracle = sequence_edits.white_box(embed, loss, num_items=3)
    ids = np.array([-1, 2, 0, 1])
    one_hot = np.eye(4)[ids]  # the row of -1 is the last

    def reference(one_hot):
        return np.sin((place_weights * (ids >= 0)) @ (one_hot @ np.vstack([table, empty]))).sum()

    np.testing.assert_allclose(oracle.losses(jnp.asarray(ids)), reference(one_hot), rtol=1e-5)
    both = oracle.losses(jnp.asarray([[ids], [ids]]))
    np.testing.assert_allclose(both, np.full((2, 1), reference(one_hot)), rtol=1e-5)
    steps = np.eye(16).reshape(16, 4, 4) * 1e-6
    expected = [(reference(one_hot + step) - reference(one_hot - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(oracle.grad(jnp.asarray(ids)), np.reshape(expected, (4, 4)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "limits", "message"),
    [
        (jnp.zeros((2, 5), jnp.int32), {}, r"ids of shape \[L\], got int32 \[2, 5\]"),
        (jnp.zeros(5), {}, "integer ids"),
        (jnp.array([0, 7, 1]), {}, r"ids in \[0, 7\), or -1 for an empty place, got 7"),
        (jnp.array([0, -2, 1]), {}, "got -2"),
        (jnp.array([0, 2, 1]), {"where": jnp.ones(2, bool)}, r"where of shape \[3\], got \[2\]"),
        (jnp.array([0, 2, 1]), {"items": jnp.ones(8, bool)}, r"items of shape \[7\], got \[8\]"),
    ],
)
def test_ids_and_masks_that_do_not_fit_are_refused(ids, limits, message):
    with pytest.raises(ValueError, match=message):
        sequence_edits.start(EditOracle(lambda ids: jnp.float32(0), NUM_ITEMS, **limits), ids)
