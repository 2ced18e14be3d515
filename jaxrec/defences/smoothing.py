"""Randomised smoothing: a model averaged over noise on its parameters, and training under such noise.

Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019, arXiv:1902.02918.
Attacks go through the average, as in Salman et al., "Provably Robust Deep Learning via Adversarially Trained Smoothed
Classifiers", NeurIPS 2019, arXiv:1906.04584. `certificates.smoothing` certifies the vote over such draws.

    objective = smoothing.objective(clean=objectives.pairwise(model=model), surface=surface, sigma=0.1)    trains
    smoothing.wrap(model, surface=surface, sigma=0.1)                                       is ranked and attacked
    certificates.smoothing.certify(model, params, plan, surface=surface, sigma=0.1, ...)    certifies its vote
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec import checks, min_max, profiles
from jaxrec.certificates import smoothing
from jaxrec.types import Array, Interactions, Model, Objective, Params, Scalar, Surface

Value = Callable[[Array, Array], Array]  # (users [B], their scores of all items [B, I]) -> [B, I]


def objective(*, clean: Objective, surface: Surface, sigma: Scalar) -> Objective:
    """Builds the objective of the loss under Gaussian noise, one draw a step and no clean term, as in the paper:

        L(params + noise),   noise ~ N(0, sigma^2) on every entry of the surface

    Args:
        clean: The clean objective, of the model that is to be smoothed.
        surface: What carries the noise.
        sigma: Standard deviation, that of `wrap` and of the certificate. May be traced.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`. `loss` and `margin` are clean and cost an evaluation
        without gradient; `adv_loss`, which is minimised, and `adv_margin` are under the noise, and may be the lower
        ones. With sigma 0 it is `clean`. Noise is drawn as in `noise`.

    Raises:
        ValueError: If `sigma` is negative or not finite.
    """
    checks.non_negative(sigma=sigma)

    def under_noise(params, batch, key, reduce):
        noise_key, clean_key, noisy_key = jax.random.split(key, 3)
        loss, metrics = clean(smoothing.noisy(params, surface, sigma, noise_key, 0), batch, noisy_key, reduce)
        _, clean_metrics = clean(jax.lax.stop_gradient(params), batch, clean_key, reduce)
        return loss, {**clean_metrics, **min_max.adversarial(loss, metrics)}

    return under_noise


def wrap(
    model: Model,
    *,
    surface: Surface,
    sigma: Scalar = 0.1,
    num_samples: int = 16,
    seed: int = 0,
    value: Value | None = None,
) -> Model:
    """Builds the model whose scores are means over draws of noise:

        score(params, user, item) = mean over draws of value(scores of params + noise)

    The draws are the same in every call, so a gradient is that of one function, and an attack on it is adaptive. They
    are those of `certificates.smoothing.certify(key=jax.random.key(seed))`.

    Args:
        model: Its params are the wrapped one's.
        surface: What carries the noise, drawn for each row by its number.
        sigma: Standard deviation of the noise in units of the surface. 0 leaves the model, but for `value`.
        num_samples: Draws; a score costs so many scores, one draw after another.
        seed: Of the draws.
        value: What is averaged, of a user's scores of all items: the scores by default. With `in_first` it is the share
            of draws in which an item is listed, and the items above 1/2 are those of the certified recommender. A score
            then costs those of the whole catalogue.

    Returns:
        A `Model`. Steps on it are dense. To train under fixed draws is to learn them: train `model` by `objective`.

    Raises:
        ValueError: If `sigma` is negative or not finite, or `num_samples` is no whole number of at least 1.
    """
    checks.non_negative(sigma=sigma)
    checks.counts(num_samples=num_samples)

    def mean(scores: Callable[[Params], Array], params: Params) -> Array:
        @jax.checkpoint  # or a gradient keeps the noise of all draws
        def of_draw(params, index):
            return scores(smoothing.noisy(params, surface, sigma, jax.random.key(seed), index))

        add = lambda total, index: (total + of_draw(params, index), None)
        total, _ = jax.lax.scan(add, jnp.zeros_like(scores(params)), jnp.arange(num_samples))
        return total / num_samples

    def values(params: Params, users: Array) -> Array:
        scores = model.score_all(params, users)
        return scores if value is None else value(users, scores)

    def of_pairs(params: Params, users: Array, items: Array) -> Array:
        return jnp.take_along_axis(values(params, users), items[:, None], axis=1)[:, 0]

    def score(params: Params, users: Array, items: Array) -> Array:
        if value is None:
            return mean(lambda params: model.score(params, users, items), params)
        return mean(lambda params: profiles.pair_by_pair(lambda *pairs: of_pairs(params, *pairs), users, items), params)

    return dataclasses.replace(
        model,
        score=score,
        score_all=lambda params, users: mean(lambda params: values(params, users), params),
        score_pairs=None,
        score_rows=None,
        reads=None,  # a row's noise goes by its number in the whole table
        canonical=None,  # noise has no gauge
        sequence=None,
    )


def in_first(*, k: int, temperature: Scalar, known: Interactions | None = None) -> Value:
    """Builds the soft membership of a user's first k items: sigmoid((score - threshold) / temperature).

    Args:
        k: Length of the list.
        temperature: In units of scores. Towards 0 it is 1 for the first k and 0 for the others, as the certificate
            counts them, with gradients that vanish.
        known: Interactions whose items are no candidates: their value is 0, and the list is of the others.

    Returns:
        `(users, scores) -> [B, I]`. The threshold lies midway between the k-th and the next candidate's score.

    Raises:
        ValueError: If `k` is no whole number of at least 1, or `temperature` not positive and finite; when it is used,
            unless k < I.
    """
    checks.counts(k=k)
    checks.positive(temperature=temperature)
    left_out = None if known is None else profiles.prepare(known)

    def value(users, scores):
        if k >= scores.shape[1]:
            raise ValueError(f"Expected k < {scores.shape[1]}, the number of items, got k={k}.")
        out = jnp.zeros(scores.shape) if left_out is None else profiles.multi_hot(left_out, users)
        highest, _ = jax.lax.top_k(jnp.where(out > 0, -1e30, scores), k + 1)
        threshold = (highest[:, k - 1 : k] + highest[:, k:]) / 2
        return jnp.where(out > 0, 0, jax.nn.sigmoid((scores - threshold) / temperature))

    return value
