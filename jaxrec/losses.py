"""Losses of one example, from scores alone: pure mathematics, no parameters, no reduction over examples.

`bpr` and `hinge` compare a positive with a negative score; the others take a list of scores with its relevance, and a
mask of the entries that count; `divergence` takes two lists of scores. The caller sums over the batch.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.types import Array, Scalar


def bpr(pos: Array, neg: Array) -> Array:
    """Bayesian personalised ranking: softplus(-(pos - neg)).

    Rendle, Freudenthaler, Gantner and Schmidt-Thieme, UAI 2009, arXiv:1205.2618, in the softplus form.

    Args:
        pos: [...], scores of the positive items.
        neg: [...], scores of the negative items.

    Returns:
        [...], log(1 + exp(neg - pos)); finite where neg - pos is.
    """
    return jax.nn.softplus(neg - pos)


def hinge(pos: Array, neg: Array, margin: Scalar = 1.0) -> Array:
    """Pairwise hinge: max(0, margin - (pos - neg)). Shapes as in `bpr`."""
    return jnp.maximum(margin - (pos - neg), 0)


def bce(
    scores: Array, relevant: Array, where: Array | None = None, *, class_weights: Array | np.ndarray | None = None
) -> Array:
    """Binary cross-entropy of logits, summed over the list.

    Args:
        scores: [..., N], logits.
        relevant: [..., N], in [0, 1].
        where: [..., N], what counts; None for everything.
        class_weights: [2], what an entry of relevance 0 and one of relevance 1 count, as `balanced_weights` gives them;
            None for one each. `functools.partial(bce, class_weights=...)` is a loss for an objective.

    Returns:
        [...], sum of softplus(scores) - relevant * scores.
    """
    scores = _kept(scores, where)
    of_no, of_yes = (1 - relevant) * jax.nn.softplus(scores), relevant * jax.nn.softplus(-scores)
    if class_weights is not None:
        of_no, of_yes = class_weights[0] * of_no, class_weights[1] * of_yes
    return _sum(of_yes + of_no, where)


def balanced_weights(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Class weights that make up for imbalance: all classes count the same in all, and a mean entry counts 1.

        number of entries / (number of classes that have any * entries of the class)

    scikit-learn's `compute_class_weight("balanced")` (after King and Zeng, "Logistic Regression in Rare Events Data",
    Political Analysis 2001), from counts instead of labels: nobody lists the U x I - N zeros of implicit feedback.

    Args:
        counts: Entries of each class, [C].

    Returns:
        float32 [C]; 0 for a class without entries, which is left out of the count of classes too.

    Raises:
        ValueError: If a count is negative, or all are 0.
    """
    counts = np.asarray(counts, np.float64)
    if (counts < 0).any() or not counts.any():
        raise ValueError(f"Expected counts >= 0, not all of them 0, got {counts.tolist()}.")
    there = counts > 0
    return np.where(there, counts.sum() / (there.sum() * np.where(there, counts, 1)), 0).astype(np.float32)


def gbce(
    *, num_items: int, num_negatives: int, calibration: float = 0.75
) -> Callable[[Array, Array, Array | None], Array]:
    """Builds the generalised binary cross-entropy, which undoes the overconfidence that sampled negatives cause.

        -beta * log sigmoid(pos) - sum of log(1 - sigmoid(neg))
        beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)

    Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
    Sampling", RecSys 2023, arXiv:2308.07192. Their power beta of the sigmoid is taken out of its logarithm as a
    factor, so that nothing overflows; they divide by the length of the list, the caller does here.

    Args:
        num_items: I.
        num_negatives: Negatives beside a positive; the sampling rate is num_negatives / (num_items - 1).
        calibration: Their t: 0 is `bce`, 1 makes the scores estimates of the probability that they would be without
            sampling.

    Returns:
        `(scores [..., N], relevant [..., N], where) -> [...]`, shapes as in `bce`.

    Raises:
        ValueError: Unless 1 <= num_negatives < num_items and 0 <= calibration <= 1.
    """
    if not 1 <= num_negatives < num_items:
        raise ValueError(f"Expected 1 <= num_negatives < num_items, got {num_negatives} and {num_items}.")
    if not 0 <= calibration <= 1:
        raise ValueError(f"Expected calibration in [0, 1], got calibration={calibration}.")
    rate = num_negatives / (num_items - 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)

    def loss(scores, relevant, where=None):
        scores = _kept(scores, where)
        losses = beta * relevant * jax.nn.softplus(-scores) + (1 - relevant) * jax.nn.softplus(scores)
        return _sum(losses, where)

    return loss


def mse(scores: Array, relevant: Array, where: Array | None = None) -> Array:
    """Squared error, summed over the list (the name is the field's; the caller divides). Shapes as in `bce`."""
    return _sum(jnp.square(_kept(scores, where) - relevant), where)


def softmax(scores: Array, relevant: Array, where: Array | None = None) -> Array:
    """Softmax cross-entropy of the list, the relevances scaled to sum to 1. Shapes as in `bce`.

    A list without a relevant entry has loss 0.
    """
    kept = jnp.ones_like(scores, bool) if where is None else where.astype(bool)
    log_likelihood = jax.nn.log_softmax(jnp.where(kept, scores, -jnp.inf), axis=-1)
    weights = jnp.where(kept, relevant, 0)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights / jnp.where(total > 0, total, 1)
    return -jnp.sum(weights * jnp.where(kept, log_likelihood, 0), axis=-1)


def softened(temperature: Scalar) -> Callable[..., Array]:
    """Builds `softmax` of the scores over a temperature."""
    return lambda scores, *others: softmax(scores / temperature, *others)


def hardest(scores: Array, relevant: Array, where: Array | None = None) -> Array:
    """BPR of the relevant entries' mean score against the highest scored other: dynamic negative sampling.

    Zhang, Chen, Wang and Yu, "Optimizing Top-N Collaborative Filtering via Dynamic Negative Item Sampling", SIGIR 2013.
    With N uniform negatives it is their sampler of the N-th order: only the hardest has a gradient. Shapes as in `bce`;
    a list without a relevant entry, or with nothing else, has loss 0.
    """
    kept = jnp.ones_like(scores, bool) if where is None else where.astype(bool)
    is_pos, is_neg = kept & (relevant > 0), kept & (relevant <= 0)
    num_pos = jnp.sum(is_pos, axis=-1)
    pos = jnp.sum(jnp.where(is_pos, scores, 0), axis=-1) / jnp.maximum(num_pos, 1)
    counts = (num_pos > 0) & jnp.any(is_neg, axis=-1)
    neg = jnp.max(jnp.where(is_neg, scores, -jnp.inf), axis=-1)
    return jnp.where(counts, bpr(pos, jnp.where(counts, neg, 0)), 0)


def divergence(scores: Array, others: Array, where: Array | None = None) -> Array:
    """Kullback-Leibler divergence of two softmax distributions over a list, KL(softmax(scores) || softmax(others)).

    Args:
        scores: [..., N].
        others: [..., N].
        where: [..., N], the entries that the lists have; None for all.

    Returns:
        [...], 0 where the two differ by a constant, up to rounding (which can leave it near -1e-7), and for a list
        without entries.
    """
    kept = jnp.ones_like(scores, bool) if where is None else jnp.broadcast_to(where.astype(bool), scores.shape)
    listed = kept | ~jnp.any(kept, axis=-1, keepdims=True)  # so that an empty list's logarithms are finite
    log_chances = lambda scores: jax.nn.log_softmax(jnp.where(listed, scores, -jnp.inf), axis=-1)
    of_scores, of_others = log_chances(scores), log_chances(others)
    return jnp.sum(jnp.exp(of_scores) * jnp.where(kept, of_scores - of_others, 0), axis=-1)


def _kept(scores: Array, where: Array | None) -> Array:
    """The scores with 0 where they do not count: what is not finite there must not reach the gradient."""
    return scores if where is None else jnp.where(where, scores, 0)


def _sum(losses: Array, where: Array | None) -> Array:
    return jnp.sum(losses if where is None else jnp.where(where, losses, 0), axis=-1)
