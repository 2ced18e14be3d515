"""Embedding normalisation: rows of length one, so that a score is a cosine over a temperature and no norm can grow.

Wang, Xiang, Cheng and Yuille, "NormFace: L2 Hypersphere Embedding for Face Verification", ACM MM 2017,
arXiv:1704.06369, whose scale is one over the temperature. Item sequence models have it as their `temperature`.
"""

import dataclasses

import jax

from jaxrec import checks, layers
from jaxrec.types import Array, Model, Params, Scalar


def wrap(model: Model, *, temperature: Scalar = 0.1) -> Model:
    """The model whose score is that of rows at length one, divided by the temperature:

        score = model.score(p / |p|, q / |q|) / temperature

    Args:
        model: Whose score depends on a user's and an item's row alone (`score_rows`); of `mf.model` the scores become
            cosines over the temperature.
        temperature: Positive. It sets how far apart scores can be, at most 2 / temperature for cosines, and so how
            decided a softmax can get.

    Returns:
        A `Model` with the same tables, trained, ranked and attacked like any other. A row of zeros scores as one; one
        shorter than 1e-6 stays short. The canonical gauge has rows of length one, at which an absolute and a relative
        epsilon are the same: an adversary gains nothing from small norms, a defence nothing from large ones.

    Raises:
        ValueError: If `temperature` is not positive and finite, or the model has no `score_rows`.
    """
    checks.positive(temperature=temperature)
    if model.score_rows is None:
        raise ValueError("Expected a model whose score depends on a user's and an item's row, with score_rows.")
    of_rows = model.score_rows

    def score_rows(params: Params, users: Array, items: Array) -> Array:
        return of_rows(params, layers.unit(users), layers.unit(items)) / temperature

    def score(params: Params, users: Array, items: Array) -> Array:
        return score_rows(params, params["tables"]["user"][users], params["tables"]["item"][items])

    def score_all(params: Params, users: Array) -> Array:
        return model.score_all(_unit(params), users) / temperature

    return dataclasses.replace(
        model, score=score, score_all=score_all, score_rows=score_rows, score_pairs=None, canonical=_unit
    )


def _unit(params: Params) -> Params:
    """The params with the rows of all tables at length one; the same scores where none is shorter than 1e-6."""
    return {**params, "tables": jax.tree.map(layers.unit, params["tables"])}
