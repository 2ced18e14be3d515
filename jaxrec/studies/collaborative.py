"""Models that know ids alone, as the two tables of MovieLens-1M have them: solved ones, factors, NeuMF and its halves.

Settings as published for this data set, or near them; of solved models validation chooses among a few.
"""

import functools
from collections.abc import Callable
from typing import Any

import optax

from jaxrec import losses, objectives, sampling
from jaxrec.models import biased_mf, ease, gmf, ials, item_knn, mf, mlp, neumf, popularity, pure_svd, user_knn
from jaxrec.studies import model_table
from jaxrec.types import Interactions, Model

_draws = functools.cache(lambda num: functools.partial(sampling.negatives, num=num))  # one each: compiled once


def solved(train: Interactions, *, dimension: int) -> list[model_table.Row]:
    """Popularity, neighbours, EASE, PureSVD and iALS.

    Args:
        train: Whose numbers of users and items the models have.
        dimension: Of iALS, and at most of PureSVD.
    """
    sizes = _sizes(train)

    def row(name: str, words: str, options: dict[str, Model], seeds: int | None = 1) -> model_table.Row:
        return model_table.Row(name, next(iter(options.values())), words, seeds=seeds, options=options)

    def near(name: str, build: Callable[..., Model], settings: tuple[tuple[int, float], ...]) -> model_table.Row:
        made = functools.partial(build, **sizes, weighting="tfidf")
        options = {f"{k} neighbours, asymmetry {a:g}": made(num_neighbours=k, asymmetry=a) for k, a in settings}
        return row(name, "asymmetric cosine, TF-IDF", options)

    factors = functools.partial(ials.model, **sizes, dimension=dimension)
    ials_settings = ((0.007, 0.3), (0.003, 0.3), (0.007, 0.1))
    return [
        model_table.Row("popularity", popularity.model(**sizes), "counts", seeds=1),
        near("user-kNN", user_knn.model, ((100, 0.3), (200, 0.3), (100, 0.5))),
        near("item-kNN", item_knn.model, ((50, 0.4), (100, 0.4), (100, 0.5))),
        row("EASE", "closed form", {f"L2 {l2}": ease.model(**sizes, l2=l2) for l2 in (600, 900, 1200)}),
        row(
            "PureSVD",
            "truncated SVD",
            {f"rank {d}": pure_svd.model(**sizes, dimension=d) for d in (16, 32, 48) if d <= dimension or d == 16},
        ),
        row(
            "iALS",
            f"d {dimension}, 12 epochs",
            {f"L2 {l2:g}, weight {w:g}": factors(l2=l2, unobserved_weight=w) for l2, w in ials_settings},
            seeds=None,
        ),
    ]


def factorised(
    train: Interactions, *, dimension: int, bpr_epochs: int, mf_dimension: int, mf_epochs: int, num_pairs: int
) -> list[model_table.Row]:
    """Matrix factorisation by BPR, and by the logistic loss as in Rendle et al., RecSys 2020.

    Args:
        train: Whose numbers of users and items the models have.
        dimension, bpr_epochs: Of BPR; validation chooses how many of the epochs.
        mf_dimension, mf_epochs: Of the logistic one, whose learning rate falls with the epochs.
        num_pairs: What the logistic one is trained on: pairs of training and validation.
    """
    sizes = _sizes(train)
    bpr = mf.model(**sizes, dimension=dimension)
    by_bpr = model_table.by_steps(
        bpr,
        objectives.pairwise(model=bpr),
        optax.adagrad(0.05, initial_accumulator_value=0.1),
        num_epochs=bpr_epochs,
        batch_size=512,
    )
    logistic = biased_mf.model(**sizes, dimension=mf_dimension, init_scale=0.1)
    by_logistic = model_table.by_direct_steps(
        logistic,
        lambda model: objectives.listwise(model=model, loss=losses.bce, l2=0.005),
        optax.sgd(optax.linear_schedule(0.02, 0.002, mf_epochs * -(-num_pairs // 128))),
        num_epochs=mf_epochs,
        batch_size=128,
        draw=_draws(8),
    )
    words = f"d {mf_dimension}, biases, 8 negatives, SGD .02 falling to .002, L2 .005, batch 128"
    return [
        model_table.Row("MF, BPR", bpr, f"d {dimension}, Adagrad .05, batch 512", by_bpr),
        model_table.Row("MF, logistic", logistic, words, by_logistic, epochs="fixed"),
    ]


def neural(train: Interactions, *, epochs: int, pretrained_learning_rate: float) -> list[model_table.Row]:
    """GMF, MLP and NeuMF (He et al., WWW 2017), and NeuMF that goes on from its trained halves.

    Args:
        train: Whose numbers of users and items the models have.
        epochs: At most; validation chooses how many.
        pretrained_learning_rate: Of SGD on sums over a batch, of NeuMF that goes on.
    """

    def pointwise(model: Model, optimizer: optax.GradientTransformation, **others: Any) -> model_table.Fit:
        objective, schedule = (
            objectives.listwise(model=model, loss=losses.bce),
            {"batch_size": 512, "validate_every": 4},
        )
        return model_table.by_steps(
            model, objective, optimizer, num_epochs=epochs, draw=_draws(4), **schedule, **others
        )

    words = "BCE, 4 negatives, d 16, Adam .001, batch 512"
    halves_and_whole = [
        model_table.Row(name, model := build(**_sizes(train), dimension=16), words, pointwise(model, optax.adam(1e-3)))
        for name, build in {"GMF": gmf.model, "MLP": mlp.model, "NeuMF": neumf.model}.items()
    ]
    *halves, whole = halves_and_whole
    went_on = pointwise(
        whole.model,
        optax.sgd(pretrained_learning_rate),
        parts=tuple(halves),
        start=neumf.pretrained,
        first_epoch=epochs,
    )
    words = f"GMF and MLP, then SGD {pretrained_learning_rate:g} on sums of 512 examples"
    return [*halves_and_whole, model_table.Row("NeuMF, pretrained", whole.model, words, went_on)]


def _sizes(train: Interactions) -> dict[str, int]:
    return {"num_users": train.num_users, "num_items": train.num_items}
