"""What is special to CL4SRec: what each augmentation leaves, and which views are told apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sequence_toys
import test_every_defence as laws
import toys

from jaxrec import sequences
from jaxrec.defences import contrastive
from jaxrec.models import sasrec

HISTORY = (-1, -1, -1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)  # ten items in thirteen places
AUGMENTATIONS = {"crop": contrastive.crop(0.7), "mask": contrastive.mask(0.7), "reorder": contrastive.reorder(0.7)}


@functools.cache
def views(name, history=HISTORY):
    """40 views, (ids, present)."""
    view = lambda key: AUGMENTATIONS[name](key, jnp.array(history, jnp.int32))
    return jax.device_get(jax.jit(jax.vmap(view))(jax.random.split(jax.random.key(0), 40)))


def test_a_crop_is_a_stretch_of_the_history_at_its_end():
    ids, present = views("crop")
    assert (present == (np.arange(13) >= 6)).all()
    assert (ids[:, :6] == -1).all()
    assert (np.diff(ids[:, 6:], axis=1) == 1).all()
    assert set(ids[:, 6]) == {10, 11, 12, 13}


def test_a_mask_hides_a_share_of_the_items_where_they_are():
    ids, present = views("mask")
    assert (present == (np.asarray(HISTORY) >= 0)).all()
    hidden = (ids == -1) & present
    assert (hidden.sum(axis=1) == 7).all()
    assert (np.where(hidden, HISTORY, ids) == HISTORY).all()
    assert hidden[:, 3:].any(axis=0).all()
    assert not hidden[:, 3:].all(axis=0).any()


def test_a_reordering_is_of_one_stretch_and_loses_nothing():
    ids, present = views("reorder")
    assert (present == (np.asarray(HISTORY) >= 0)).all()
    assert (np.sort(ids, axis=1) == np.sort(HISTORY)).all()
    moved = ids != np.asarray(HISTORY)
    stretches = [np.flatnonzero(row) for row in moved]
    assert max(places[-1] - places[0] for places in stretches) == 6
    assert {int(places[0]) for places in stretches} >= {3, 4, 5, 6}
    assert len({tuple(row) for row in ids.tolist()}) > 35


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_short_histories_stay_histories(name):
    ids, present = views(name, (-1, -1, -1))
    assert not present.any()
    assert (ids == -1).all()
    ids, present = views(name, (-1, -1, 4))
    assert (present == [False, False, True]).all()
    assert (ids == [-1, -1, 4]).all()


def test_the_contrast_by_hand():
    """Users 0, 1, 1, 2, the last of which does not count: a user's own views elsewhere are no negatives."""
    first, second = (np.asarray(toys.normal(seed, 4, 3), float) for seed in (1, 2))
    users, where = jnp.array([0, 1, 1, 2]), jnp.array([True, True, True, False])
    found = contrastive._contrast(
        jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32), users, where, jnp.float32(0.5)
    )
    others = {0: [1, 2], 1: [0], 2: [0]}
    for user in range(3):
        losses = []
        for own, other in ((first, second), (second, first)):
            score = lambda z, own=own[user]: np.exp(own @ z / 0.5)
            negatives = sum(score(view[place]) for view in (first, second) for place in others[user])
            losses.append(-np.log(score(other[user]) / (score(other[user]) + negatives)))
        assert float(found[user]) == pytest.approx(np.mean(losses), rel=1e-5, abs=1e-6)


def test_weight_0_is_the_clean_objective_and_a_weight_lowers_the_contrast():
    model, clean = laws.OTHERS["contrastive"]
    params = laws.params_of("contrastive")
    batch = toys.BATCH | {"users": jnp.array([0, 1, 2, 0, 1, 2]), "where": jnp.arange(6) < 3}

    @jax.jit
    def run(weight):
        return laws.differentiated(contrastive.objective(clean=clean, model=model, weight=weight), params, batch)

    (loss, metrics), grads = run(jnp.float32(0))
    assert float(loss) == float(metrics["loss"])
    assert all(np.isfinite(grad).all() for grad in jax.tree.leaves(grads))
    (weighted, same), _ = run(jnp.float32(0.5))
    assert float(weighted) == pytest.approx(float(loss + 0.5 * metrics["contrast"]), rel=1e-5)
    assert float(same["contrast"]) == float(metrics["contrast"]) > 0


@pytest.mark.slow
def test_a_trained_model_knows_what_comes_next():
    model = sasrec.model(num_items=sequence_toys.NUM_ITEMS, dimension=8, max_length=6, num_blocks=1, dropout=0.0)
    clean = sequences.next_item(model=model, num_items=sequence_toys.NUM_ITEMS, num_negatives=4)
    assert sequence_toys.num_right(model, contrastive.objective(clean=clean, model=model)) >= 24


def test_what_cannot_be_contrasted_is_refused():
    model, clean = laws.OTHERS["contrastive"]
    with pytest.raises(ValueError, match="with sequence"):
        contrastive.objective(clean=clean, model=toys.MODEL)
    with pytest.raises(ValueError, match="at least one augmentation"):
        contrastive.objective(clean=clean, model=model, augmentations=())
    with pytest.raises(ValueError, match=r"Expected share in \[0, 1\), got share=1"):
        contrastive.crop(1.0)
