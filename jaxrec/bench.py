"""What models are compared on: the same training data, and the same rankings of validation and of test items.

Two protocols. Leave-one-out: the rank of the one held-out item among all items its user has not seen, or among listed
negatives. Held-out lists: where the several held-out items of a user stand in the top of a list, as on Gowalla.
"""

from typing import NamedTuple

import numpy as np

from jaxrec import evaluate, metrics, splits
from jaxrec.types import InputError, Interactions, Model, Params, Split


class Ranking(NamedTuple):
    """Who and what is ranked, laid out on the device.

    Attributes:
        listing: For whom lists are made, and what is left out of them.
        list_length: K of the lists.
        plan: Of the held-out item of each user; None where users hold out several.
        relevant: int [U, R], the held-out items of the listed users, -1 in an empty place; None with a plan.
        num_ranked: Number of candidates that a cutoff may not exceed.
    """

    listing: evaluate.ListPlan
    list_length: int
    plan: evaluate.RankPlan | None
    relevant: np.ndarray | None
    num_ranked: int


class Measured(NamedTuple):
    """How a model ranked.

    Attributes:
        ranks: float [n] or [n, R], as in `metrics`: of the held-out items of each user who has some.
        lists: int [U, K], each listed user's best items.
    """

    ranks: np.ndarray
    lists: np.ndarray


class Bench(NamedTuple):
    """A data set and a protocol.

    Attributes:
        split: Its parts.
        both: Training and validation pairs together: what a model may know when the test items are ranked.
        valid, test: What is ranked.
        protocol: In words, for the records.
        cutoffs: {metric: values of K}, the first metric and its first cutoff being what validation chooses by.
    """

    split: Split
    both: Interactions
    valid: Ranking
    test: Ranking
    protocol: str
    cutoffs: dict[str, tuple[int, ...]]


def leave_one_out(
    split: Split, *, list_length: int = 10, cutoffs: tuple[int, ...] = (10, 50, 100), listed: bool = False
) -> Bench:
    """One held-out item a user, ties against the model.

    Args:
        list_length: Of the lists that exposure is measured on.
        cutoffs: Of NDCG and of the hit rate; those beyond the number of candidates are left out. Where all are, as in a
            catalogue of a few items, that number is the one.
        listed: Test items are ranked against `split.negatives` instead of all unseen items; an item among its own
            negatives is passed over there. Validation ranks all unseen items in either case.

    Raises:
        InputError: If `listed` and the split has no negatives.
    """
    if listed and split.negatives is None:
        raise InputError("Expected a split with listed negatives, got one without: take the published files.")
    both = splits.joined(split.train, split.valid)
    negatives = split.negatives if listed else None
    length = min(list_length, split.train.num_items)

    def ranking(known, held_out, negatives):
        plan = evaluate.prepare([known], held_out, negatives=negatives)
        return Ranking(evaluate.prepare_lists([known]), length, plan, None, int(np.max(plan.num_candidates)))

    valid, test = ranking(split.train, split.valid, None), ranking(both, split.test, negatives)
    kept = _within(cutoffs, min(valid.num_ranked, test.num_ranked))
    against = "the 99 listed negatives, the target among its own dropped" if listed else "all unseen items"
    protocol = f"the held-out item against {against}, ties against the model"
    return Bench(split, both, valid, test, protocol, {"ndcg": kept, "hit_rate": kept})


def held_out_lists(split: Split, *, cutoffs: tuple[int, ...] = (20, 50)) -> Bench:
    """Several held-out items a user, ranked among all items that are not known; recall and NDCG over users with any.

    Cutoffs beyond the number of items are left out, as in `leave_one_out`.

    Raises:
        InputError: If the validation or the test part holds nothing.
    """
    for name, part in (("validation", split.valid), ("test", split.test)):
        if not len(part):
            raise InputError(f"Expected held-out interactions in the {name} part, got none.")
    cutoffs = _within(cutoffs, split.train.num_items)
    both = splits.joined(split.train, split.valid)

    def ranking(known, held_out):
        users = np.unique(held_out.users)
        listing = evaluate.prepare_lists([known], users=users)
        relevant = evaluate.relevant_items(held_out, users)
        return Ranking(listing, max(cutoffs), None, relevant, split.train.num_items)

    protocol = "all items that are not known, several held out; recall over a user's held-out items"
    return Bench(
        split,
        both,
        ranking(split.train, split.valid),
        ranking(both, split.test),
        protocol,
        {"ndcg": cutoffs, "recall": cutoffs},
    )


def _within(cutoffs: tuple[int, ...], largest: int) -> tuple[int, ...]:
    """Those that are not larger, or else the largest itself: validation needs one to choose by."""
    return tuple(k for k in cutoffs if k <= largest) or (largest,)


def measure(model: Model, params: Params, ranking: Ranking) -> Measured:
    """Ranks and lists; of a model whose params know what `ranking` lets it know."""
    lists = _lists(model, params, ranking)
    return Measured(_ranks_in(lists, ranking) if ranking.plan is None else ranks(model, params, ranking), lists)


def ranks(model: Model, params: Params, ranking: Ranking) -> np.ndarray:
    """`Measured.ranks` alone, in half the time: what validation asks for."""
    if ranking.plan is None:
        return _ranks_in(_lists(model, params, ranking), ranking)
    return evaluate.evaluate(model, params, ranking.plan).ranks


def _lists(model: Model, params: Params, ranking: Ranking) -> np.ndarray:
    return np.asarray(evaluate.lists(model, params, ranking.listing, ranking.list_length))


def _ranks_in(lists: np.ndarray, ranking: Ranking) -> np.ndarray:
    """Places of the held-out items in the lists."""
    return metrics.ranks_in_lists(lists, np.full((len(lists), 1), -1) if ranking.relevant is None else ranking.relevant)
