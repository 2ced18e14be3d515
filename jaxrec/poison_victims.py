"""Victims of poisoning: recommenders that are trained anew on whatever interactions there are.

A victim is a function (interactions, key) -> (model, params). Retraining is what a poisoned table costs, so a model of
one size is built once, and what is compiled for one training serves the next with as many users and interactions.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
import optax

from jaxrec import loop, objectives, train
from jaxrec.types import Interactions, Key, Model, Params

Victim = Callable[[Interactions, Key], tuple[Model, Params]]


def solved(build: Callable[..., Model]) -> Victim:
    """The victim that solves: item-kNN, EASE, iALS.

    Args:
        build: (num_users=, num_items=) -> a model with `solve`.
    """
    build = functools.cache(build)

    def victim(interactions: Interactions, key: Key) -> tuple[Model, Params]:
        model = build(num_users=interactions.num_users, num_items=interactions.num_items)
        if model.solve is None:
            raise ValueError("Expected a model that solves, got one that is trained by steps: take `by_bpr`.")
        return model, model.solve(interactions, key)

    return victim


def by_bpr(
    build: Callable[..., Model], *, num_epochs: int, learning_rate: float = 0.05, batch_size: int = 512
) -> Victim:
    """The victim that is trained with BPR by SGD on sums over batches.

    Args:
        build: (num_users=, num_items=) -> a model of dot products, whose `reads` name its rows (`models.mf`).
        num_epochs, learning_rate, batch_size: Of the training. The key decides tables, order and negatives.
    """
    optimizer = optax.sgd(learning_rate)

    @functools.cache
    def prepared(num_users: int, num_items: int) -> tuple[Model, train.Trainer]:
        model = build(num_users=num_users, num_items=num_items)
        objective = lambda model: objectives.pairwise(model=model)
        make = lambda devices: train.make_direct_step(objective, model, optimizer, devices=devices)
        return model, train.parallel(make)

    def victim(interactions: Interactions, key: Key) -> tuple[Model, Params]:
        model, trainer = prepared(interactions.num_users, interactions.num_items)
        params = loop.fit_in_memory(
            model,
            objectives.pairwise(model=model),
            interactions,
            num_epochs=num_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            seed=int(np.asarray(jax.random.bits(key))),
            trainer=trainer,
        )
        return model, model.knowing(params, interactions)

    return victim
