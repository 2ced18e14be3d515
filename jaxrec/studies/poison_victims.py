"""Victims of poisoning: recommenders that are trained anew on whatever interactions there are.

A victim is a function (interactions, key, known) -> (model, params): trained on the interactions, it serves users of
whom `known` is known; by default no more than it was trained on. So those whom a defence left out of the training are
served as each kind of recommender can serve a newcomer. Retraining is what a poisoned table costs, so a model of one
size is built once, and what is compiled for one training serves the next with as many users and interactions.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
import optax

from jaxrec import loop, objectives, recovery, sampling, train
from jaxrec.types import Interactions, Key, Model, Objective, Params

Victim = Callable[..., tuple[Model, Params]]  # (interactions, key, known=None) -> (model, params)
MakeStep = Callable[..., train.Step]  # (model -> objective, model, optimizer, *, devices) -> step


def solved(build: Callable[..., Model]) -> Victim:
    """The victim that solves: item-kNN, EASE, iALS. Whoever was left out is served by their history, or by a row solved
    for it beside the item rows.

    Args:
        build: (num_users=, num_items=) -> a model with `solve`.
    """
    build = functools.cache(build)

    def victim(interactions: Interactions, key: Key, known: Interactions | None = None, /) -> tuple[Model, Params]:
        model = build(num_users=interactions.num_users, num_items=interactions.num_items)
        if model.solve is None:
            raise ValueError("Expected a model that solves, got one that is trained by steps: take `by_steps`.")
        params = model.solve(interactions, key)
        if known is None:
            return model, params
        return model, model.knowing(_with_rows(model, params, interactions, known), known)

    return victim


def _with_rows(model: Model, params: Params, interactions: Interactions, known: Interactions) -> Params:
    """The params with solved rows of whoever was left out; as they are where users have none that are solved."""
    left = np.flatnonzero(recovery.left_out(interactions, known))
    if model.solve_users is None or not len(left):
        return params
    solved, tables = model.solve_users(params, known)["tables"], dict(params["tables"])
    for name in (name for name in tables if solved[name] is not tables[name]):  # items' are as they were
        tables[name] = tables[name].at[left].set(solved[name][left])
    return {**params, "tables": tables}


def _summed(
    objective: Callable[[Model], Objective],
    model: Model,
    optimizer: optax.GradientTransformation,
    *,
    devices: train.Devices,
) -> train.Step:
    """The step of any objective: gradients are summed over the batch, then the optimiser is asked."""
    return train.make_step(objective(model), optimizer, reads=model.reads, devices=devices)


def by_steps(
    build: Callable[..., Model],
    objective: Callable[[Model], Objective],
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int,
    batch_size: int,
    draw: sampling.Draw = sampling.negatives,
    examples: Callable[[Interactions], Interactions] = lambda pairs: pairs,
    make_step: MakeStep = _summed,
    after: Victim | None = None,
) -> Victim:
    """The victim that is trained by steps: NeuMF, LightGCN, Mult-VAE, or any of them with a defence's objective.

    Whoever was left out is served by their history, or by rows made from it beside all else as it is: solved ones
    (`Model.solve_users`: LightGCN), or such as are trained for as many epochs (`recovery.fold_in`).

    Args:
        build: (num_users=, num_items=) -> a model.
        objective: model -> what a step minimises, a sum over a batch.
        optimizer, num_epochs, batch_size: Of the training. The key decides tables, order and negatives.
        draw: Of negatives, as in `train.parallel`.
        examples: Training pairs -> the rows an epoch goes over; `sequences.examples` for a model of users.
        make_step: `train.make_direct_step` where it gives the same, faster.
        after: A victim of the same model, from whose params training goes on, the optimiser anew; by default from the
            model's initial ones.
    """

    @functools.cache
    def prepared(num_users: int, num_items: int) -> tuple[Model, train.Trainer]:
        model = build(num_users=num_users, num_items=num_items)
        make = lambda devices: make_step(objective, model, optimizer, devices=devices)
        return model, train.parallel(make, draw=draw)

    @functools.cache
    def folding(model: Model) -> train.Trainer:
        of_users = recovery.of_users(model, objective(model))
        make = lambda devices: train.make_step(of_users, optimizer, reads=model.reads, devices=devices)
        return train.parallel(make, draw=draw)

    def victim(interactions: Interactions, key: Key, known: Interactions | None = None, /) -> tuple[Model, Params]:
        model, trainer = prepared(interactions.num_users, interactions.num_items)
        init_key, order_key = jax.random.split(key)
        start = model.init(init_key) if after is None else after(interactions, init_key)[1]
        settings = {"num_epochs": num_epochs, "batch_size": batch_size, "optimizer": optimizer}
        settings |= {"seed": int(np.asarray(jax.random.bits(order_key)))}
        start = model.knowing(start, interactions)
        pairs = examples(interactions)
        params = loop.fit_in_memory(model, objective(model), pairs, start=start, trainer=trainer, **settings)
        if known is None:
            return model, params
        if model.solve_users is not None:  # of a graph, which stays as it is: `known` has the fakes' edges
            return model, _with_rows(model, params, interactions, known)
        if recovery.user_tables(model):
            left = known.take(recovery.left_out(interactions, known)[known.users])
            params = recovery.fold_in(model, objective(model), params, left, trainer=folding(model), **settings)
        return model, model.knowing(params, known)

    return victim


def by_bpr(
    build: Callable[..., Model], *, num_epochs: int, learning_rate: float = 0.05, batch_size: int = 512
) -> Victim:
    """The victim of `by_steps` that is trained with BPR by SGD.

    Args:
        build: (num_users=, num_items=) -> a model of dot products, whose `reads` name its rows (`models.mf`).
        num_epochs, learning_rate, batch_size: Of the training.
    """
    return by_steps(
        build,
        lambda model: objectives.pairwise(model=model),
        optax.sgd(learning_rate),
        num_epochs=num_epochs,
        batch_size=batch_size,
        make_step=train.make_direct_step,
    )
