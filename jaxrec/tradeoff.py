"""Accuracy against novelty and diversity: a training loss that weighs them, and which of many points are non-dominated.

The novelty and the diversity of a list (`exposure`) have no gradient. Here they are expectations over the softmax of a
user's scores on a sample of the catalogue: of the first place of a Plackett-Luce ranking, as in Oosterhuis,
"Computationally Efficient Optimization of Plackett-Luce Ranking Models for Relevance and Fairness", SIGIR 2021,
arXiv:2105.00855.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxrec import checks, exposure
from jaxrec.types import Array, Model, Objective, Params, Scalar


def objective(
    *,
    clean: Objective,
    model: Model,
    information: Float[np.ndarray, " I"],
    vectors: Float[np.ndarray, "I F"],
    novelty_weight: Scalar = 0.0,
    diversity_weight: Scalar = 0.0,
    num_candidates: int = 128,
    temperature: float = 0.5,
) -> Objective:
    """Builds the objective that asks for accuracy, novelty and diversity at once:

        clean + sum over examples of -(novelty_weight * novelty + diversity_weight * diversity),   of the example's user
        novelty    mean self-information of a draw, over the largest of an item: in [0, 1]
        diversity  mean of 1 - cosine of two independent draws (0 where they are one item)

    where a draw is one of C items that the batch shares, by softmax((score - mean) / (temperature * spread)) with mean
    and spread of the user's C scores: growing or shrinking all scores earns nothing.

    Args:
        clean: Any objective of the model, such as `objectives.pairwise` or `apr.objective`; its terms are not touched.
        model: Whose `score_all` scores the items that the table "item" has rows of. Training reads all of that table:
            `Model.reads` without it.
        information: From `exposure.self_information`.
        vectors: As in `exposure.intra_list_diversity`.
        novelty_weight, diversity_weight: In units of the loss of one example. May be traced; 0 leaves `clean`.
        num_candidates: C, drawn with replacement for each batch, whether or not a user has seen them.
        temperature: In units of the spread of scores.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: those of `clean`, and the sums `novelty`, `diversity`.

    Raises:
        ValueError: If a weight is negative or not finite, `temperature` is not positive, or `num_candidates < 1`.
    """
    checks.non_negative(novelty_weight=novelty_weight, diversity_weight=diversity_weight)
    checks.counts(num_candidates=num_candidates)
    checks.positive(temperature=temperature)
    newness = np.asarray(information / max(information.max(), 1e-9), np.float32)
    unit = exposure.unit_rows(vectors).astype(np.float32)

    def weighted(params, batch, key, reduce):
        clean_key, candidates_key = jax.random.split(key)
        loss, metrics = clean(params, batch, clean_key, reduce)
        candidates = jax.random.randint(candidates_key, (num_candidates,), 0, len(newness))
        chances = _chances(_scores(model, params, batch["users"], candidates), temperature)
        of_batch = lambda values: jnp.sum(jnp.where(batch["where"], values, 0))
        novelty = of_batch(chances @ jnp.asarray(newness)[candidates])
        diversity = of_batch(_dissimilarity(chances, jnp.asarray(unit)[candidates], candidates))
        loss = loss - novelty_weight * novelty - diversity_weight * diversity
        return loss, {**metrics, "novelty": novelty, "diversity": diversity}

    return weighted


def non_dominated(values: Float[np.ndarray, "P M"]) -> Bool[np.ndarray, " P"]:
    """Which points no other is at least as high as in every measure and higher in one; equal points are all kept."""
    as_high = (values[:, None] >= values).all(axis=2)
    higher = (values[:, None] > values).any(axis=2)
    return np.logical_not((as_high & higher).any(axis=0))


def furthest_within(gain: Sequence[float], kept: Sequence[float], *, at_least: float) -> int | None:
    """The place of the largest gain among the points that keep enough of something else; None if none does."""
    allowed = [place for place, share in enumerate(kept) if share >= at_least]
    return max(allowed, key=lambda place: gain[place], default=None)


def _scores(model: Model, params: Params, users: Array, items: Array) -> Array:
    """[B, C], by way of an item table that has no other rows: one product, where `score` would gather B * C rows."""
    tables = params["tables"]
    return model.score_all({**params, "tables": {**tables, "item": tables["item"][items]}}, users)


def _chances(scores: Array, temperature: float) -> Array:
    """[B, C], the softmax of each user's scores in units of their spread."""
    centred = scores - jnp.mean(scores, axis=1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=1, keepdims=True)
    return jax.nn.softmax(centred * jax.lax.rsqrt(variance + 1e-12) / temperature, axis=1)


def _dissimilarity(chances: Array, unit: Array, candidates: Array) -> Array:
    """[B], the mean of 1 - cosine of two draws, where an item drawn twice (or listed twice) is like itself."""
    like = jnp.where(candidates[:, None] == candidates[None], 1, unit @ unit.T)
    return 1 - jnp.sum((chances @ like) * chances, axis=1)
