"""The shapes every part of jaxrec takes: data, models, oracles, attacks, poisons, detectors and objectives.

Axes in annotations: `B` batch, `U` users, `I` items, `D` dimension, `N` independently perturbed units, `K` cutoff.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from jaxrec.errors import InputError as InputError  # here too: every part takes its names from this module

Array = jax.Array
Key = jax.Array  # a typed PRNG key, from `jax.random.key`
Scalar = float | jax.Array  # a hyperparameter that may be traced
PyTree = Any
Params = dict[str, Any]  # {"tables": {name: [rows, D]}, "weights": tree, "given": tree}
Metrics = dict[str, Any]
Reduce = Callable[[PyTree], PyTree]  # sums a tree over the devices; the identity on one


@dataclasses.dataclass(frozen=True, eq=False)
class Interactions:
    """Who touched what: columns of equal length, checked once, here, on the host.

    Attributes:
        users: int32 [N], each in [0, num_users).
        items: int32 [N], each in [0, num_items).
        num_users: Rows of the user table; users without an interaction are allowed.
        num_items: Rows of the item table.
        ratings: float32 [N], finite; None for implicit feedback.
        timestamps: int64 [N], in the unit of the file, normally seconds since 1970; None when unknown.
        user_ids: [num_users], the ids of the file; None when they are 0, 1, 2, ...
        item_ids: [num_items], likewise.

    Raises:
        ValueError: If the columns differ in length or have another type, an id lies outside its range, or a rating is
            not finite.
    """

    users: np.ndarray
    items: np.ndarray
    num_users: int
    num_items: int
    ratings: np.ndarray | None = None
    timestamps: np.ndarray | None = None
    user_ids: np.ndarray | None = None
    item_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, kind in (("users", np.int32), ("items", np.int32), ("ratings", np.float32), ("timestamps", np.int64)):
            column = getattr(self, name)
            if column is None:
                continue
            if column.shape != (len(self.users),) or column.dtype != kind:
                raise ValueError(
                    f"Expected {name} of shape {(len(self.users),)} and type {np.dtype(kind)}, "
                    f"got {column.shape} and {column.dtype}."
                )
        check_ids(self.users, self.num_users, "users")
        check_ids(self.items, self.num_items, "items")
        if self.ratings is not None and not np.isfinite(self.ratings).all():
            raise ValueError(f"Expected finite ratings, got {int((~np.isfinite(self.ratings)).sum())} that are not.")
        for name, ids, num in (
            ("user_ids", self.user_ids, self.num_users),
            ("item_ids", self.item_ids, self.num_items),
        ):
            if ids is not None and len(ids) != num:
                raise ValueError(f"Expected {num} {name}, got {len(ids)}.")

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> Interactions:
        """The interactions at `rows` (indices or a mask), of the same users and items."""
        pick = lambda column: None if column is None else column[rows]
        return dataclasses.replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            ratings=pick(self.ratings),
            timestamps=pick(self.timestamps),
        )


def check_ids(ids: np.ndarray, num: int, name: str) -> None:
    """Raises a ValueError unless every id lies in [0, num): JAX clamps a wrong one in silence."""
    if len(ids) and not (ids.min() >= 0 and ids.max() < num):
        wrong = int(np.flatnonzero((ids < 0) | (ids >= num))[0])
        raise ValueError(f"Expected {name} in [0, {num}), got {int(ids.reshape(-1)[wrong])} at position {wrong}.")


class Split(NamedTuple):
    """Training interactions and what is held out of them.

    `negatives` is int32 [U, M] when a protocol lists the items that a held-out one is ranked against, -1 where a
    place is empty; None means all unseen items.
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    negatives: np.ndarray | None = None


class Sequence(NamedTuple):
    """The parts of a model of item sequences. The score of an item after a history is `state . vector`.

    A history is int32 [L], the oldest item first, items in [0, num_items), with -1 in empty places, in front.

    Attributes:
        embed: (params, ids [...]) -> rows [..., D], what the model puts in for an item, and for -1.
        state: (params, user [], rows [L, D], present bool [L]) -> [E], of the whole history; finite for an empty one.
        vectors: (params, items [...]) -> [..., E].
        states: (params, user [], rows [L, D], present bool [L], key or None) -> [L, E], the state after each place,
            which depends on no later place; with a key under dropout. None where the model reads a history from both
            ends.
        masked: (params, user [], rows [L, D], present bool [L], hidden bool [L], key or None) -> [L, E], the state at
            each place, from both sides, with the rows of the hidden places out of sight; with a key under dropout.
            None where the model reads a history from one end.
    """

    embed: Callable[[Params, Array], Array]
    state: Callable[[Params, Array, Array, Array], Array]
    vectors: Callable[[Params, Array], Array]
    states: Callable[[Params, Array, Array, Array, Key | None], Array] | None = None
    masked: Callable[[Params, Array, Array, Array, Array, Key | None], Array] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A recommender as pure functions. It hashes by identity: build it once, and jitted functions that take it as a
    static argument compile once.

    Attributes:
        init: key -> params; of a model with `solve` or `given`, before they have seen data.
        score: (params, users [...], items [...]) -> [...], users and items broadcast against each other.
        score_all: (params, users [B]) -> [B, I].
        score_pairs: (params, users [B], pos [B], neg [B]) -> (scores of pos [B], scores of neg [B]), where the model
            has something faster than two calls of `score`, which it must equal; its gradient may be reverse-mode only.
        score_rows: (params, rows of users [..., D], rows of items [..., D]) -> [...], where a score depends on these
            two rows alone.
        reads: {table: names of the batch's columns that hold its row ids}, when training reads those rows alone; None
            when it reads every row (graphs, full softmax).
        canonical: params -> params with the same scores in the gauge that relative budgets are stated in; None where
            the model has no such symmetry.
        solve: (training interactions, key) -> params, where the model is not trained by steps: closed forms, counts,
            alternating sweeps. On the host.
        solve_users: (params, interactions that are known) -> params with the rows of all users solved anew beside item
            rows as they are, or of a graph the rows of users who have no edge there; None where users have no rows that
            are solved. On the host.
        given: interactions that are known -> entries of params["given"], what scores read of them: histories, a graph.
            Made anew for each split: the test may know the validation items. On the host; None where nothing is given.
        sequence: The parts of a model of item sequences.
    """

    init: Callable[[Key], Params]
    score: Callable[[Params, Array, Array], Array]
    score_all: Callable[[Params, Array], Array]
    score_pairs: Callable[[Params, Array, Array, Array], tuple[Array, Array]] | None = None
    score_rows: Callable[[Params, Array, Array], Array] | None = None
    reads: Mapping[str, tuple[str, ...]] | None = None
    canonical: Callable[[Params], Params] | None = None
    solve: Callable[[Interactions, Key], Params] | None = None
    solve_users: Callable[[Params, Interactions], Params] | None = None
    given: Callable[[Interactions], dict[str, PyTree]] | None = None
    sequence: Sequence | None = None

    @property
    def gauge(self) -> str:
        """Where relative budgets are stated, in words: "canonical", or "as trained" where there is no such gauge."""
        return "as trained" if self.canonical is None else "canonical"

    def knowing(self, params: Params, known: Interactions) -> Params:
        """The parameters with what is given made from the interactions that are `known`.

        What else `solve` has put under "given", such as who is whose neighbour, stays.
        """
        return params if self.given is None else {**params, "given": {**params["given"], **self.given(known)}}


class Oracle(NamedTuple):
    """What an adversary may ask about the array (or tree of arrays) `x` that it perturbs: the threat model.

    Attributes:
        losses: (key, x) -> [N], the losses it wants to raise, one for each independently perturbed unit (images: N;
            tables that all users share: 1).
        grad: (key, x) -> a tree like x, the gradient of the losses' sum, reduced over devices; None if it has none.
        scores: (key, x) -> [N, C], logits or item scores; None if they are hidden.
        labels: [N], what is true; None if there are no classes.
        where: Tree like x of what may be touched (1) and what may not (0); None for everything.
        box: (low, high), the legal values of x; None for all.
        grad_queries: Evaluations of the losses that one call of `grad` costs; 0 where they are not what it is made of.
    """

    losses: Callable[[Key, PyTree], Array]
    grad: Callable[[Key, PyTree], PyTree] | None = None
    scores: Callable[[Key, PyTree], Array] | None = None
    labels: Array | None = None
    where: PyTree | None = None
    box: tuple[Scalar, Scalar] | None = None
    grad_queries: int = 0


@runtime_checkable
class Attack(Protocol):
    """`(key, oracle, x) -> (delta, info)`: a perturbation like x, and what the attack did."""

    def __call__(self, key: Key, oracle: Oracle, x: PyTree) -> tuple[PyTree, Metrics]: ...


class EditOracle(NamedTuple):
    """What an adversary may ask about one item sequence, and which edits it may make: its threat model.

    A history is int32 [L], the oldest item first, items in [0, num_items), with -1 in empty places, in front.

    Attributes:
        losses: ids [..., L] -> [...], the loss to raise; the same at every call.
        num_items: Items there are.
        grad: ids [L] -> [L, num_items + 1], the derivative of the loss by the one-hot vector of each place, whose last
            entry stands for an empty place; None if the adversary has none.
        where: bool [L], the places that edits may be at; None for all.
        items: bool [num_items], the items that may be put in; None for all.
    """

    losses: Callable[[Array], Array]
    num_items: int
    grad: Callable[[Array], Array] | None = None
    where: Array | None = None
    items: Array | None = None


@runtime_checkable
class EditAttack(Protocol):
    """`(key, oracle, ids) -> (ids, info)`: one edited history, and what the attack did."""

    def __call__(self, key: Key, oracle: EditOracle, ids: Array) -> tuple[Array, Metrics]: ...


@runtime_checkable
class Poison(Protocol):
    """`(key, interactions, targets) -> fakes`: profiles of fake users that change how the targets [T] are ranked.

    Budget and direction belong to its builder. The fakes have users 0, 1, 2, ... of their own, and the items, the scale
    of ratings and the time line of the interactions that are attacked; `fake_profiles.contaminate` adds them. On the
    host, as `Model.solve` is.
    """

    def __call__(self, key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions: ...


@runtime_checkable
class Detector(Protocol):
    """`interactions -> suspicion` [U], finite: the higher, the more a user looks like a fake. On the host."""

    def __call__(self, interactions: Interactions) -> np.ndarray: ...


class Surface(NamedTuple):
    """The part of params an adversary perturbs: `get(params) -> x` and `put(params, x) -> params`."""

    get: Callable[[Params], PyTree]
    put: Callable[[Params, PyTree], Params]


@runtime_checkable
class Objective(Protocol):
    """`(params, batch, key, reduce) -> (loss [], metrics)`: this device's part of a sum over the global batch.

    A metric `carried` is no sum: it is what the next step finds at `params["carried"]`.
    """

    def __call__(
        self, params: Params, batch: Mapping[str, Array], key: Key, reduce: Reduce
    ) -> tuple[Array, Metrics]: ...
