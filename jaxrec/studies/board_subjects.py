"""The models of a board of defences, each with its clean training."""

import functools
from collections.abc import Callable
from typing import Any

import optax

from jaxrec import consistency, factor_bounds, losses, objectives, sampling, sequences, surfaces
from jaxrec.certificates.dot_product import Factors
from jaxrec.defences import certified_margin, label_smoothing
from jaxrec.models import lightgcn, mf, neumf, sasrec
from jaxrec.studies.board import Subject
from jaxrec.types import Interactions, Model, Objective, Params

BOTH = surfaces.tables("user", "item")


def factorised(train: Interactions, *, dimension: int, **others: Any) -> Subject:
    """Matrix factorisation by BPR; `others`: fields of the subject that are the same for all models."""
    model = mf.model(num_users=train.num_users, num_items=train.num_items, dimension=dimension)
    return Subject(
        name="MF",
        model=model,
        clean_of=lambda model: objectives.pairwise(model=model),
        softened=_softened(model),
        smoothed=lambda smoothing: objectives.pairwise(model=model, loss=_bpr(smoothing)),
        list_scores=consistency.batch_items,
        surface=BOTH,
        optimizer=optax.adagrad(0.05, initial_accumulator_value=0.1),
        batch_size=512,
        training=f"BPR, d {dimension}, Adagrad .05, batch 512",
        bounds=factor_bounds.of_tables(model),
        factors=certified_margin.two_tables,
        train=train,
        **others,
    )


def neural(train: Interactions, *, dimension: int = 16, **others: Any) -> Subject:
    """NeuMF by cross-entropy of single pairs."""
    model = neumf.model(num_users=train.num_users, num_items=train.num_items, dimension=dimension)
    return Subject(
        name="NeuMF",
        model=model,
        clean_of=lambda model: objectives.listwise(model=model, loss=losses.bce),
        softened=_softened(model),
        smoothed=lambda smoothing: objectives.listwise(model=model, loss=_bce(smoothing)),
        list_scores=consistency.own_items,
        surface=BOTH,
        optimizer=optax.adam(1e-3),
        batch_size=512,
        training=f"BCE, 4 negatives, d {dimension}, Adam .001, batch 512",
        draw=functools.partial(sampling.negatives, num=4),
        train=train,
        **others,
    )


def of_graph(train: Interactions, *, dimension: int, num_layers: int = 3, **others: Any) -> Subject:
    """LightGCN by BPR."""
    sizes = {"num_users": train.num_users, "num_items": train.num_items}
    model = lightgcn.model(**sizes, dimension=dimension, num_layers=num_layers)

    def factors(params: Params) -> Factors:
        return certified_margin.two_tables(lightgcn.propagated(params, num_layers=num_layers))

    return Subject(
        name="LightGCN",
        model=model,
        clean_of=lambda model: objectives.pairwise(model=model),
        softened=_softened(model),
        smoothed=lambda smoothing: objectives.pairwise(model=model, loss=_bpr(smoothing)),
        l2=1e-4,
        list_scores=consistency.own_items,
        surface=BOTH,
        optimizer=optax.adam(5e-3),
        batch_size=8192,
        training=f"BPR, d {dimension}, {num_layers} layers, L2 .0001, Adam .005, batch 8,192",
        bounds=factor_bounds.of_propagation(num_layers=num_layers),
        factors=factors,
        train=train,
        **others,
    )


def sequential(train: Interactions, *, max_length: int = 200, **others: Any) -> Subject:
    """SASRec by cross-entropy of single pairs."""
    model = sasrec.model(num_users=train.num_users, num_items=train.num_items, max_length=max_length)

    def next_item(model: Model, loss: Callable[..., Any] = losses.bce) -> Objective:
        return sequences.next_item(model=model, num_items=train.num_items, negatives="place", loss=loss, piece_size=4)

    return Subject(
        name="SASRec",
        model=model,
        clean_of=next_item,
        softened=lambda temperature: next_item(model, losses.softened(temperature)),
        smoothed=lambda smoothing: next_item(model, _bce(smoothing)),
        list_scores=consistency.all_items(num_items=train.num_items),
        surface=surfaces.tables("item"),
        optimizer=optax.adam(1e-3, b2=0.98),
        batch_size=128,
        training="BCE, 1 negative a place, d 50, Adam .001, 128 histories a step",
        examples=sequences.examples,
        train=train,
        **others,
    )


def _bpr(smoothing: float):
    return label_smoothing.pairwise(losses.bpr, smoothing=smoothing)


def _bce(smoothing: float):
    return label_smoothing.listwise(losses.bce, smoothing=smoothing)


def _softened(model: Model) -> Callable[[float], Objective]:
    return lambda temperature: objectives.listwise(model=model, loss=losses.softened(temperature))
