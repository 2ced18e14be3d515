"""Points on the trade-off of trained models: their lists reranked, and the models trained on with a weighted loss.

Every point is measured on the validation items, which choose, and on the test items, which are reported.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Int

from jaxrec import (
    display,
    evaluate,
    exposure,
    features,
    files,
    metrics,
    rerank,
    splits,
    victims,
)
from jaxrec.studies.attack_study import K, Study, Training
from jaxrec.types import Array, Interactions, Model, Params, Scalar

AS_TRAINED, LOSS = "as trained", "weighted loss"
Measured = dict[str, dict[str, float]]  # {part: {metric: value}}


class Catalogue(NamedTuple):
    """What is known of the items: `vectors` float32 [I, G] of genres, `information` [I] in bits, `tail` bool [I]."""

    vectors: np.ndarray
    information: np.ndarray
    tail: np.ndarray


class Part(NamedTuple):
    """Users, what is left out of their lists, and their held-out items [n, R]."""

    listing: evaluate.ListPlan
    relevant: np.ndarray


class Sweep(NamedTuple):
    """A reranker over its hyperparameter: `make` takes a value, traced, and is compiled once."""

    make: Callable[[Scalar], rerank.Rerank]
    values: Sequence[float]


class Losses(NamedTuple):
    """The weighted loss over its weights.

    Attributes:
        train: (victim, training, novelty weight, diversity weight) -> params, trained on from the victim's.
        weights: (novelty, diversity) of each point.
        training: How it was trained on, in words.
    """

    train: Callable[[victims.Loaded, Training, float, float], Params]
    weights: Sequence[tuple[float, float]]
    training: str


class Point(NamedTuple):
    """A method and its setting, as words."""

    method: str
    setting: str

    def __str__(self) -> str:
        return f"{self.method} {self.setting}".strip()


Findings = Mapping[Training, Mapping[Point, Measured]]


def catalogue(train: Interactions, movies: pd.DataFrame) -> Catalogue:
    """The catalogue of training data; `movies` from `locate.movies`."""
    genres = features.genres(movies)
    known_to = np.bincount(train.items, minlength=train.num_items)
    return Catalogue(genres, exposure.self_information(known_to, train.num_users), splits.tail_items(train))


def part(known: Sequence[Interactions], held_out: Interactions) -> Part:
    """The users who have a held-out item."""
    users = np.unique(held_out.users)
    return Part(evaluate.prepare_lists(known, users=users), evaluate.relevant_items(held_out, users))


def measure(lists: np.ndarray, part: Part, catalogue: Catalogue) -> dict[str, float]:
    """What lists [n, K] of a part's users are worth: means over users, or of all lists."""
    num_items = len(catalogue.tail)
    ranks = metrics.ranks_in_lists(lists, part.relevant)
    of_user = {
        "ndcg": metrics.ndcg(ranks, lists.shape[1], num_items),
        "hit_rate": metrics.hit_rate(ranks, lists.shape[1], num_items),
        "intra_list_diversity": exposure.intra_list_diversity(lists, catalogue.vectors),
        "novelty": exposure.novelty(lists, catalogue.information),
        "long_tail_share": exposure.long_tail_share(lists, catalogue.tail),
    }
    of_all = {"coverage": exposure.coverage(lists, num_items), "gini": exposure.gini(lists, num_items)}
    return {name: float(values.mean()) for name, values in of_user.items()} | of_all


def run(
    study: Study,
    trainings: Sequence[Training],
    catalogue: Catalogue,
    sweeps: Mapping[str, Sweep],
    losses: Losses,
    *,
    pool: int,
) -> Findings:
    """Measures every point of every training; a study that was stopped goes on at the point where it was.

    Args:
        pool: How many of the highest scores a reranker chooses from.
    """
    split = study.first.victim.split
    parts = {
        "validation": part([split.train], split.valid),
        "test": part([split.train, split.valid], split.test),
    }
    (study.folder / "measured").mkdir(exist_ok=True)
    points = _points(sweeps, losses)
    found = {}
    for training in trainings:
        file = study.folder / "measured" / f"{training.stage}-{training.seed}.json"
        kept = files.read_json(file) if file.exists() else {}
        pending = [point for point in points if str(point) not in kept]
        loaded = study.load(training) if pending else study.first
        with display.counting(f"{training.stage}, seed {training.seed}", len(pending)) as report:
            for point in pending:
                params = points[point].params(loaded, training)
                lists_of = functools.partial(_lists, points[point], loaded.victim.model, params, catalogue, pool)
                kept[str(point)] = {name: measure(lists_of(part), part, catalogue) for name, part in parts.items()}
                files.write_json(file, kept)
                report(point)
        found[training] = {point: kept[str(point)] for point in points}
    return found


class _Way(NamedTuple):
    """How a point comes about: the params of its model, and the reranker with its value, if there is one."""

    params: Callable[[victims.Loaded, Training], Params]
    make: Callable[[Scalar], rerank.Rerank] | None = None
    value: float = 0.0


def _points(sweeps: Mapping[str, Sweep], losses: Losses) -> dict[Point, _Way]:
    """All points, the model as trained first."""
    as_trained = lambda loaded, training: loaded.victim.params
    points = {Point(AS_TRAINED, ""): _Way(as_trained)}
    for name, sweep in sweeps.items():
        for value in sweep.values:
            points[Point(name, f"{value:g}")] = _Way(as_trained, sweep.make, value)
    for weights in losses.weights:
        train = lambda loaded, training, weights=weights: losses.train(loaded, training, *weights)
        points[Point(LOSS, "{:g}, {:g}".format(*weights))] = _Way(train)
    return points


def _lists(
    way: _Way, model: Model, params: Params, catalogue: Catalogue, pool: int, part: Part
) -> Int[np.ndarray, "n K"]:
    """The lists of a part's users at a point."""
    listing = part.listing
    if way.make is None:
        return np.asarray(evaluate.lists(model, params, listing, K))
    candidates = evaluate.lists(model, params, listing, min(pool, listing.num_items))
    vectors = jnp.asarray(catalogue.vectors)
    return np.asarray(_rerank(model, way.make, params, way.value, listing.users, candidates, vectors))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _rerank(
    model: Model,
    make: Callable[[Scalar], rerank.Rerank],
    params: Params,
    value: Scalar,
    users: Array,
    candidates: Array,
    vectors: Array,
) -> Array:
    """Lists of items, out of candidates [n, N], at one value of the reranker's hyperparameter."""
    relevance = model.score(params, users[:, None], jnp.maximum(candidates, 0))
    return rerank.lists(make(value), candidates, rerank.unit_range(relevance, candidates >= 0), vectors)
