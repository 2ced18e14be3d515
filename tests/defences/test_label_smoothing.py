"""Label smoothing: the expectation over labels that go astray, as the formulas say it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import losses
from jaxrec.defences import label_smoothing

SCORES = jnp.array([[0.5, -1.0, 2.0, 0.3]])
FIRST = jnp.array([[1.0, 0.0, 0.0, 0.0]])


def test_the_pairwise_loss_by_hand():
    smoothed = label_smoothing.pairwise(losses.bpr, smoothing=0.2)
    expected = 0.9 * math.log(1 + math.exp(-1.5)) + 0.1 * math.log(1 + math.exp(1.5))
    assert float(smoothed(jnp.float32(0.5), jnp.float32(-1.0))) == pytest.approx(expected, rel=1e-6)


def test_smoothed_bpr_is_smallest_at_a_finite_margin():
    smoothed = label_smoothing.pairwise(losses.bpr, smoothing=0.2)
    slope = jax.grad(lambda margin: smoothed(margin, jnp.float32(0)))
    assert float(slope(jnp.float32(math.log(2 / 0.2 - 1)))) == pytest.approx(0, abs=1e-6)
    assert float(slope(jnp.float32(9.0))) > 0


@pytest.mark.parametrize(
    "loss", [losses.bce, losses.softmax, losses.gbce(num_items=9, num_negatives=3)], ids=["bce", "softmax", "gbce"]
)
def test_a_list_is_the_expectation_over_the_entry_that_gets_the_label(loss):
    labelled = [float(loss(SCORES, jnp.eye(4)[place][None])[0]) for place in range(4)]
    expected = 0.7 * labelled[0] + 0.3 * np.mean(labelled)
    smoothed = label_smoothing.listwise(loss, smoothing=0.3)
    assert float(smoothed(SCORES, FIRST)[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [losses.bce, losses.softmax], ids=["bce", "softmax"])
def test_entries_that_do_not_count_have_no_part_in_it(loss):
    smoothed = label_smoothing.listwise(loss, smoothing=0.3)
    where = jnp.array([[True, True, False, True]])
    scores = SCORES.at[0, 2].set(jnp.inf)
    kept = jnp.array([0, 1, 3])
    expected = float(smoothed(SCORES[:, kept], FIRST[:, kept])[0])
    assert float(smoothed(scores, FIRST, where)[0]) == pytest.approx(expected, rel=1e-5)
    nowhere = smoothed(SCORES, FIRST, jnp.zeros((1, 4), bool))
    assert float(nowhere[0]) == 0


def test_softmax_of_a_smoothed_label_is_that_of_the_paper():
    """(1 - s) of the cross-entropy of the label, and s of that of the uniform distribution over K entries."""
    chances = np.exp(np.asarray(SCORES[0], float))
    logs = np.log(chances / chances.sum())
    expected = -(0.9 * logs[0] + 0.1 * logs.mean())
    assert float(label_smoothing.listwise(losses.softmax)(SCORES, FIRST)[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("transform", [label_smoothing.pairwise, label_smoothing.listwise])
def test_without_smoothing_it_is_the_loss_and_more_than_all_is_refused(transform):
    loss = losses.bpr if transform is label_smoothing.pairwise else losses.softmax
    np.testing.assert_array_equal(transform(loss, smoothing=0.0)(SCORES, FIRST), loss(SCORES, FIRST))
    with pytest.raises(ValueError, match=r"Expected smoothing in \[0, 1\], got smoothing=1.1"):
        transform(loss, smoothing=1.1)
