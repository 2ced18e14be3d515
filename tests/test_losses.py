"""Formulas with the numbers of the case, NumPy in float64 on random lists, and finite differences."""

import functools
import math

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
import sklearn.utils.class_weight

from jaxrec import losses

LISTWISE = [losses.bce, losses.mse, losses.softmax, losses.hardest]
PAIRWISE = [losses.bpr, losses.hinge]


@functools.cache
def with_gradient(loss):
    """(scores, ...) -> the loss and its gradient, compiled as one: eager mode compiles operation by operation."""
    return jax.jit(jax.value_and_grad(lambda *args: jnp.sum(loss(*args))))


def test_formulas():
    bpr = losses.bpr(jnp.array([2.0, -1.0]), jnp.array([0.5, 0.0]))
    np.testing.assert_allclose(bpr, [math.log1p(math.exp(0.5 - 2)), math.log1p(math.exp(0 - -1))], rtol=1e-6)
    hinge = losses.hinge(jnp.array([2.0, -1.0, 3.0]), jnp.array([0.5, 0.0, 2.9]), 1.5)
    np.testing.assert_allclose(hinge, [0, 1.5 - (-1 - 0), 1.5 - (3 - 2.9)], rtol=1e-5)
    assert float(losses.hinge(jnp.array(0.25), jnp.array(0.0))) == 1 - 0.25  # the default margin

    scores, relevant = jnp.array([1.0, -2.0, 0.5]), jnp.array([1.0, 0.0, 0.0])
    sigmoid = lambda x: 1 / (1 + math.exp(-x))
    bce = -math.log(sigmoid(1)) - math.log(1 - sigmoid(-2)) - math.log(1 - sigmoid(0.5))
    assert float(losses.bce(scores, relevant)) == pytest.approx(bce, rel=1e-6)
    assert float(losses.mse(scores, relevant)) == pytest.approx((1 - 1) ** 2 + (-2 - 0) ** 2 + (0.5 - 0) ** 2)
    total = math.exp(1) + math.exp(-2) + math.exp(0.5)
    assert float(losses.softmax(scores, relevant)) == pytest.approx(-math.log(math.exp(1) / total), rel=1e-6)


def hardest(scores, relevant):
    pos, neg = scores[relevant > 0], scores[relevant == 0]
    return np.log1p(np.exp(neg.max() - pos.mean())) if len(pos) and len(neg) else 0.0


def test_the_calibrated_loss_is_that_of_its_paper():
    """Four negatives of the ten other items, t = .75: beta = .4 * (.75 * (1 - 1 / .4) + 1 / .4) = .55."""
    sigmoid = lambda x: 1 / (1 + math.exp(-x))
    scores, relevant = jnp.array([1.0, -2.0, 0.5, 9.0]), jnp.array([True, False, False, False])
    where = jnp.array([True, True, True, False])
    expected = -math.log(sigmoid(1) ** 0.55) - math.log(1 - sigmoid(-2)) - math.log(1 - sigmoid(0.5))
    of = lambda calibration: losses.gbce(num_items=11, num_negatives=4, calibration=calibration)
    assert float(of(0.75)(scores, relevant, where)) == pytest.approx(expected, rel=1e-6)
    assert float(of(0)(scores, relevant, where)) == pytest.approx(float(losses.bce(scores, relevant, where)), rel=1e-6)
    assert float(of(1)(scores[:1], relevant[:1])) == pytest.approx(-0.4 * math.log(sigmoid(1)), rel=1e-6)


def test_the_calibrated_loss_is_finite_at_scores_of_any_size():
    loss = losses.gbce(num_items=11, num_negatives=1)
    scores, relevant = jnp.array([-1e4, 1e4]), jnp.array([1.0, 0.0])
    value, grads = jax.value_and_grad(lambda scores: loss(scores, relevant))(scores)
    assert float(value) == pytest.approx(1e4 * (0.1 * (0.75 * (1 - 10) + 10) + 1))
    np.testing.assert_allclose(grads, [-0.1 * (0.75 * (1 - 10) + 10), 1], rtol=1e-6)


def test_wrong_settings_of_the_calibrated_loss_are_refused():
    with pytest.raises(ValueError, match="num_negatives < num_items"):
        losses.gbce(num_items=4, num_negatives=4)
    with pytest.raises(ValueError, match=r"calibration=1\.5"):
        losses.gbce(num_items=4, num_negatives=2, calibration=1.5)


REFERENCE = {
    losses.bce: lambda s, r: -(r * -np.logaddexp(0, -s) + (1 - r) * -np.logaddexp(0, s)).sum(),
    losses.mse: lambda s, r: ((s - r) ** 2).sum(),
    losses.softmax: lambda s, r: -(r / r.sum() * (s - np.log(np.exp(s).sum()))).sum() if r.sum() else 0.0,
    losses.hardest: hardest,
}


def lists(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, 4, 6)).astype(np.float32)
    relevant = (rng.random((2, 4, 6)) * (rng.random((2, 4, 6)) < 0.7)).astype(np.float32)
    return scores, relevant, rng.random((2, 4, 6)) < 0.6


@pytest.mark.parametrize("loss", LISTWISE)
@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_listwise_losses_equal_numpy_on_the_entries_that_count(loss, dtype):
    scores, relevant, where = lists(0)
    where[1, 3] = False
    rows = zip(*(x.reshape(-1, 6) for x in (scores, relevant, where)), strict=True)
    expected = [REFERENCE[loss](s[w].astype(float), r[w].astype(float)) for s, r, w in rows]
    actual = jax.jit(loss)(jnp.asarray(scores), jnp.asarray(relevant), jnp.asarray(where.astype(dtype)))
    np.testing.assert_allclose(actual, np.reshape(expected, (2, 4)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", LISTWISE)
def test_without_a_mask_everything_counts(loss):
    scores, relevant, _ = map(jnp.asarray, lists(1))
    everything = jax.jit(loss)(scores, relevant, jnp.ones(scores.shape, bool))
    np.testing.assert_allclose(jax.jit(loss)(scores, relevant), everything, rtol=1e-6)


@pytest.mark.parametrize("loss", LISTWISE)
@pytest.mark.parametrize("padding", [0.0, 1e30, -jnp.inf, jnp.inf, jnp.nan])
def test_what_a_masked_entry_holds_changes_neither_the_loss_nor_its_gradient(loss, padding):
    relevant, where = jnp.array([1.0, 0.0, 0.0]), jnp.array([True, True, False])
    value, grad = with_gradient(loss)(jnp.array([0.3, 0.8, padding]), relevant, where)
    expected, expected_grad = with_gradient(loss)(jnp.array([0.3, 0.8]), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grad, [*expected_grad, 0], rtol=1e-6)


def test_only_the_highest_negative_and_the_positive_have_a_gradient():
    value, grad = with_gradient(losses.hardest)(jnp.array([0.5, -1.0, 2.0, 0.3]), jnp.array([1.0, 0.0, 0.0, 0.0]))
    assert float(value) == pytest.approx(math.log1p(math.exp(2 - 0.5)), rel=1e-6)
    slope = 1 / (1 + math.exp(-(2 - 0.5)))
    np.testing.assert_allclose(grad, [-slope, 0, slope, 0], rtol=1e-6)


@pytest.mark.parametrize("where", [[True, True, False], [False, False, False]])
def test_softmax_of_a_list_without_a_relevant_entry_is_zero_and_so_is_its_gradient(where):
    value, grad = with_gradient(losses.softmax)(jnp.array([0.3, 0.8, 0.1]), jnp.array([0.0, 0, 1]), jnp.array(where))
    assert float(value) == 0
    np.testing.assert_array_equal(grad, [0, 0, 0])


@pytest.mark.parametrize("loss", [*PAIRWISE, *LISTWISE])
@pytest.mark.parametrize("size", [1e3, 1e10, 1e18])
def test_huge_scores_give_finite_losses_and_gradients(loss, size):
    value, grad = with_gradient(loss)(jnp.array([size, -size, 0]), jnp.array([0.0, 1.0, 0.0]))
    assert jnp.isfinite(value)
    assert jnp.isfinite(grad).all()


@pytest.mark.parametrize("score", [5.0, 20.0, 60.0])
def test_small_losses_and_their_gradients_keep_their_digits(score):
    """A loss that rounds to zero on what is well classified has no gradient there, and hides from an adversary."""
    value, slope = math.log1p(math.exp(-score)), -1 / (1 + math.exp(score))
    score = jnp.array([score])
    actual, grad = with_gradient(losses.bpr)(score, jnp.zeros(1))
    np.testing.assert_allclose(actual, value, rtol=1e-5, atol=0)
    np.testing.assert_allclose(grad, [slope], rtol=1e-5, atol=0)
    for sign, relevant in ((1, jnp.ones(1)), (-1, jnp.zeros(1))):
        actual, grad = with_gradient(losses.bce)(sign * score, relevant)
        np.testing.assert_allclose(actual, value, rtol=1e-5, atol=0)
        np.testing.assert_allclose(grad, [sign * slope], rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", [*PAIRWISE, *LISTWISE])
def test_gradients_agree_with_finite_differences(loss):
    scores, relevant, where = map(jnp.asarray, lists(2))
    others = (relevant + 0.3,) if loss in PAIRWISE else (relevant, where)
    of_scores = jax.jit(lambda scores: loss(scores, *others))
    jax.test_util.check_grads(of_scores, (scores,), order=1, modes=["rev"], atol=2e-3, rtol=2e-3, eps=1e-2)


def test_balanced_weights_are_scikit_learns_and_pass_over_absent_classes():
    labels = np.array([0] * 7 + [1] * 2 + [2])
    expected = sklearn.utils.class_weight.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(losses.balanced_weights([7, 2, 1]), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.balanced_weights(np.array([6, 0, 2])), [8 / (2 * 6), 0, 8 / (2 * 2)], rtol=1e-6)
    for counts in ([0, 0], [3, -1]):
        with pytest.raises(ValueError, match="counts >= 0"):
            losses.balanced_weights(counts)


def test_class_weights_count_entries_as_often_as_they_say():
    """With soft relevance too: an entry of 0.25 is a quarter of a yes."""
    scores, relevant = jnp.array([1.0, -2.0, 0.5]), jnp.array([1.0, 0.0, 0.25])
    weighted = functools.partial(losses.bce, class_weights=np.array([2.0, 3.0]))
    repeated = 3 * losses.bce(scores[:1], relevant[:1]) + 2 * losses.bce(scores[1:2], relevant[1:2])
    soft = 3 * 0.25 * math.log1p(math.exp(-0.5)) + 2 * 0.75 * math.log1p(math.exp(0.5))
    value, gradient = with_gradient(weighted)(scores, relevant)
    assert float(value) == pytest.approx(float(repeated) + soft, rel=1e-5)
    assert float(gradient[0]) == pytest.approx(-3 * (1 - 1 / (1 + math.exp(-1))), rel=1e-5)
    assert float(weighted(scores, relevant, jnp.array([False, True, False]))) == pytest.approx(
        2 * math.log1p(math.exp(-2)), rel=1e-5
    )


@functools.cache
def divergence():
    """(scores, others, where) -> the divergences, and the gradient of their sum in both."""

    def total(scores, others, where):
        each = losses.divergence(scores, others, where)
        return jnp.sum(each), each

    return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))


def test_the_divergence_of_two_lists_is_that_of_their_softmaxes_over_the_entries_they_have():
    scores, others = jnp.array([[1.0, 3.0, 9.0], [1.0, 2.0, 0.0]]), jnp.array([[2.0, 1.0, -jnp.inf], [4.0, 5.0, 3.0]])
    where = jnp.array([[True, True, False], [True, True, True]])
    (own, grad), (first, second) = divergence()(scores, others, where)
    assert np.isfinite(own).all()
    p, q = 1 / (1 + math.exp(3 - 1)), 1 / (1 + math.exp(1 - 2))
    assert float(first) == pytest.approx(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)), rel=1e-6)
    assert float(second) == pytest.approx(0, abs=1e-6)  # they differ by a constant
    np.testing.assert_allclose(grad[0], [q - p, p - q, 0], rtol=1e-5)  # of the second: its softmax less the first's


def test_lists_without_entries_and_huge_scores_have_finite_divergences_and_gradients():
    where = jnp.array([[False, False, False], [True, True, True]])
    scores, others = jnp.array([[1.0, 2.0, 3.0], [1e30, 0.0, -1e30]]), jnp.array([[3.0, 2.0, 1.0], [0.0, 1e30, 5.0]])
    grads, values = divergence()(scores, others, where)
    assert float(values[0]) == 0
    assert np.isfinite(values).all()
    assert all(np.isfinite(grad).all() for grad in grads)
    np.testing.assert_array_equal(grads[0][0], [0, 0, 0])
