"""Ranks of held-out items, and top-K lists, in chunks of users: no [U, I] matrix is kept, and no rank needs a sort.

Leave-one-out: the held-out item (the target) is ranked against all items that its user has not seen, or against the
listed negatives of a protocol such as that of He et al., "Neural Collaborative Filtering", WWW 2017, arXiv:1708.05031.

    rank = 1 + #(candidates with score >= the target's)                   ties against the model (the default)
    rank = 1 + (#(score > the target's) + #(score >= the target's)) / 2   ties averaged

Over unseen items both counts are those over all items less those over the items left out. `prepare` lays a split out
on the device once; `ranks` and `lists` are pure, compile once for a model and a layout, and can be vmapped over params.

A score that is not finite counts as -inf, the lowest: an item that a diverged model scores NaN or +inf is ranked last
and is never listed. A score is compared only with others of the same `score_all` row, computed once, so that it always
equals itself.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from jaxrec import checks, metrics
from jaxrec.types import Array, InputError, Interactions, Model, Params, check_ids

Ties = Literal["against", "averaged"]


class Chunks(NamedTuple):
    """`n` users dealt to chunks of `B` places, and for each chunk the `P` (user, item) pairs that are listed for it.

    Attributes:
        users: The user in each place; user 0 in a place that is left over.
        rows: The place in its chunk of each pair's user; B, out of range, where a place for pairs is left over.
        items: The item of each pair.
        places: Where each of the n users lies when `users` is flattened.
    """

    users: Int[Array, "chunks B"]
    rows: Int[Array, "chunks P"]
    items: Int[Array, "chunks P"]
    places: Int[Array, " n"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RankPlan:
    """A leave-one-out protocol laid out on the device; made by `prepare`.

    Attributes:
        chunks: The users who have a target, and for each of them the negatives, or else the items left out.
        targets: The held-out item of the user in each place.
        users: The users who have a target, ascending.
        num_candidates: Number of items ranked for each user, the target included.
        num_items: Size of the catalogue.
        num_left_out: Number of users without a target.
        candidates: What the targets are ranked against: the unlisted pairs' items ("unseen"), or the listed ones.
        ties: How items that score as the target are counted.
    """

    chunks: Chunks
    targets: Int[Array, "chunks B"]
    users: Int[Array, " n"]
    num_candidates: Int[Array, " n"]
    num_items: int = dataclasses.field(metadata={"static": True})
    num_left_out: int = dataclasses.field(metadata={"static": True})
    candidates: Literal["unseen", "listed"] = dataclasses.field(metadata={"static": True})
    ties: Ties = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ListPlan:
    """Users who get a list, and the items left out of it, laid out on the device; made by `prepare_lists`.

    Attributes:
        chunks: The users, and for each of them the items left out.
        users: The users who get a list, ascending.
        num_items: Size of the catalogue.
    """

    chunks: Chunks
    users: Int[Array, " n"]
    num_items: int = dataclasses.field(metadata={"static": True})


class Ranks(NamedTuple):
    """How a model ranks the held-out items, on the host.

    Attributes:
        users: Those who have a held-out item, ascending.
        ranks: 1 = best; fractional when ties are averaged.
        num_candidates: Number of items that were ranked for each user, the held-out one included.
        num_left_out: Number of users who have no held-out item.
    """

    users: Int[np.ndarray, " n"]
    ranks: Float[np.ndarray, " n"]
    num_candidates: Int[np.ndarray, " n"]
    num_left_out: int


def prepare(
    known: Sequence[Interactions],
    held_out: Interactions,
    *,
    negatives: Int[np.ndarray, "U M"] | None = None,
    ties: Ties = "against",
    chunk_size: int = 128,
) -> RankPlan:
    """Lays a leave-one-out protocol out on the device, once for a split.

    Args:
        known: What a user has seen and is therefore not ranked: the training interactions, and when the test items
            are ranked the validation ones too. The target itself is ranked even if it was seen.
        held_out: At most one interaction a user.
        negatives: The items that each user's target is ranked against, -1 in an empty place, seen or not, and each as
            often as it is listed; the target among its own negatives is passed over. None for all unseen items.
        ties: "against" the model, or "averaged".
        chunk_size: Users who are scored at a time. A chunk's scores should fit the cache of a CPU; a GPU takes more.

    Raises:
        ValueError: If nothing is held out, a user has two held-out items, the parts differ in their numbers of users or
            items, `negatives` has a wrong number of rows or an id out of range, `ties` is neither of the two, or
            `chunk_size < 1`.
    """
    if ties not in ("against", "averaged"):
        raise ValueError(f'Expected ties to be "against" or "averaged", got ties={ties!r}.')
    _check_catalogues([held_out, *known])
    users, targets = _one_target_each(held_out)
    if negatives is None:
        rows, items = _known_pairs([*known, held_out], users)
        num_candidates = held_out.num_items + 1 - np.bincount(rows, minlength=len(users))
    else:
        rows, items = _negative_pairs(negatives, users, targets, held_out)
        num_candidates = 1 + np.bincount(rows, minlength=len(users))
    chunks = _chunks(users, rows, items, chunk_size)
    placed = np.zeros(chunks.users.size, np.int32)
    placed[np.asarray(chunks.places)] = targets
    return RankPlan(
        chunks=chunks,
        targets=jnp.asarray(placed.reshape(chunks.users.shape)),
        users=jnp.asarray(users),
        num_candidates=jnp.asarray(num_candidates, jnp.int32),
        num_items=held_out.num_items,
        num_left_out=held_out.num_users - len(users),
        candidates="unseen" if negatives is None else "listed",
        ties=ties,
    )


def prepare_lists(
    known: Sequence[Interactions], *, users: Int[np.ndarray, " n"] | None = None, chunk_size: int = 128
) -> ListPlan:
    """Lays out on the device who gets a list, and what is left out of it because the user knows it.

    Args:
        known: The interactions whose items are left out of their users' lists; at least one part, for its numbers of
            users and items.
        users: Who gets a list; each at most once, ascending. None for all users.
        chunk_size: Users who are scored at a time.

    Raises:
        ValueError: If the parts differ in their numbers of users or items, `users` are out of range or not ascending,
            or `chunk_size < 1`.
    """
    _check_catalogues(known)
    chosen = np.arange(known[0].num_users, dtype=np.int32) if users is None else users
    check_ids(chosen, known[0].num_users, "users")
    if not len(chosen) or (np.diff(chosen) <= 0).any():
        raise ValueError(f"Expected users that ascend, at least one, got {chosen}.")
    chunks = _chunks(chosen, *_known_pairs(known, chosen), chunk_size)
    return ListPlan(chunks=chunks, users=jnp.asarray(chosen, jnp.int32), num_items=known[0].num_items)


@functools.partial(jax.jit, static_argnums=0)
def ranks(model: Model, params: Params, plan: RankPlan) -> Float[Array, " n"]:
    """Ranks of the held-out items, in the order of `plan.users`; 1 = best.

    Args:
        model: A recommender; static, so build it once.
        params: Its parameters, perturbed or not. `ranks` may be vmapped over them.
        plan: From `prepare`.

    Returns:
        float32; exact up to 2^23 items.

    Raises:
        ValueError: If the model does not score `plan.num_items` items.
    """

    def of_chunk(chunk: tuple[Array, ...]) -> Int32[Array, " B"]:
        users, targets, rows, items = chunk
        scores = _scores(model, params, users, plan.num_items)
        thresholds = jnp.take_along_axis(scores, targets[:, None], axis=1)
        listed, thresholds_listed = scores.at[rows, items].get(mode="clip"), thresholds.at[rows, 0].get(mode="clip")

        def count(compare: Callable[[Array, Array], Array]) -> Int32[Array, " B"]:
            num_listed = _sum_by_row(compare(listed, thresholds_listed), rows, len(users))
            if plan.candidates == "listed":
                return num_listed
            return compare(scores, thresholds).sum(axis=1, dtype=jnp.int32) - num_listed

        # The target is among the items left out, so it is counted and taken off again by the same comparison.
        at_or_above = count(jnp.greater_equal)
        return 2 * at_or_above if plan.ties == "against" else count(jnp.greater) + at_or_above

    chunks = plan.chunks
    twice_above = jax.lax.map(of_chunk, (chunks.users, plan.targets, chunks.rows, chunks.items))
    return 1 + twice_above.reshape(-1)[chunks.places].astype(jnp.float32) / 2


@functools.partial(jax.jit, static_argnums=(0, 3))
def lists(model: Model, params: Params, plan: ListPlan, k: int) -> Int32[Array, "n K"]:
    """The k items that the model scores highest for each user of `plan`, best first, without those the user knows.

    Of items with equal scores the one with the lower id comes first. Places that no item fills hold -1: a user with
    fewer than k unknown items, or scores that are not finite.

    Raises:
        InputError: If `k < 1` or `k > num_items`.
        ValueError: If the model does not score `plan.num_items` items.
    """
    metrics.check_cutoff(k, plan.num_items)

    def of_chunk(chunk: tuple[Array, ...]) -> Int32[Array, "B K"]:
        users, rows, items = chunk
        scores = _scores(model, params, users, plan.num_items).at[rows, items].set(-jnp.inf, mode="drop")
        values, ids = jax.lax.top_k(scores, k)
        return jnp.where(values > -jnp.inf, ids, -1)

    chunks = plan.chunks
    found = jax.lax.map(of_chunk, (chunks.users, chunks.rows, chunks.items))
    return found.reshape(-1, k)[chunks.places]


@functools.partial(jax.jit, static_argnums=0)
def standings(
    model: Model, params: Params, plan: ListPlan, items: Int[Array, " T"]
) -> tuple[Float[Array, "n T"], Float[Array, "n T"]]:
    """Where the same few items stand with every user of `plan`, among the items that the user does not know.

    Returns:
        Ranks, 1 = best, ties against the item, and standard scores, that is, by how many standard deviations of the
        user's scores an item's lies above their mean (0 where all are equal). NaN for a user who knows the item.
    """

    def of_chunk(chunk: tuple[Array, ...]) -> tuple[Array, Array]:
        users, rows, known_items = chunk
        scores = _scores(model, params, users, plan.num_items)
        unknown = jnp.ones(scores.shape, bool).at[rows, known_items].set(False, mode="drop")
        own = scores[:, items]
        ranks = jnp.sum((scores[:, None, :] >= own[:, :, None]) & unknown[:, None, :], axis=-1)
        finite = unknown & jnp.isfinite(scores)
        mean = jnp.mean(scores, axis=1, where=finite, keepdims=True)
        spread = jnp.std(scores, axis=1, where=finite, keepdims=True)
        standard = jnp.where(spread > 0, (own - mean) / jnp.where(spread > 0, spread, 1), 0)
        meant = unknown[:, items]
        return jnp.where(meant, ranks.astype(jnp.float32), jnp.nan), jnp.where(meant, standard, jnp.nan)

    chunks = plan.chunks
    ranks, scores = jax.lax.map(of_chunk, (chunks.users, chunks.rows, chunks.items))
    return ranks.reshape(-1, len(items))[chunks.places], scores.reshape(-1, len(items))[chunks.places]


def count_candidates(
    plan: RankPlan, rows: Int[Array, " P"], items: Int[Array, " P"], flags: Bool[Array, "B I"]
) -> Int32[Array, " B"]:
    """Number of flagged items among the candidates of each user of a chunk, whose pairs are `rows` and `items`.

    Over unseen items the target's own flag does not matter: it is among the items left out.
    """
    num_listed = _sum_by_row(flags.at[rows, items].get(mode="clip"), rows, len(flags))
    if plan.candidates == "listed":
        return num_listed
    return flags.sum(axis=1, dtype=jnp.int32) - num_listed


def evaluate(model: Model, params: Params, plan: RankPlan) -> Ranks:
    """Ranks the held-out items and brings the answer to the host, for `metrics` and `statistics`."""
    found = np.asarray(ranks(model, params, plan), np.float64)
    return Ranks(np.asarray(plan.users), found, np.asarray(plan.num_candidates), plan.num_left_out)


def relevant_items(held_out: Interactions, users: Int[np.ndarray, " n"]) -> Int32[np.ndarray, "n R"]:
    """The held-out items of each of `users` (ascending), each once, -1 in an empty place: for `metrics.ranks_in_lists`.

    Users without a held-out item get a row of -1, which the metrics refuse: `np.unique(held_out.users)` are the others.
    """
    rows, items = _known_pairs([held_out], users)
    counts = np.bincount(rows, minlength=len(users))
    padded = np.full((len(users), counts.max(initial=1)), -1, np.int32)
    padded[rows, _position_in_run(rows, counts)] = items
    return padded


def _scores(model: Model, params: Params, users: Int[Array, " B"], num_items: int) -> Float[Array, "B I"]:
    """Scores of all items, computed once (the barrier: XLA must not compute one again for a comparison) and finite."""
    scores = jax.lax.optimization_barrier(model.score_all(params, users))
    if scores.shape != (len(users), num_items):
        raise ValueError(f"Expected score_all to give shape {(len(users), num_items)}, got {scores.shape}.")
    return jnp.where(jnp.isfinite(scores), scores, -jnp.inf)


def _sum_by_row(flags: Bool[Array, " P"], rows: Int[Array, " P"], num_rows: int) -> Int32[Array, " B"]:
    """Number of true flags of each row; a row out of range is dropped."""
    return jax.ops.segment_sum(flags.astype(jnp.int32), rows, num_rows)


def _check_catalogues(parts: Sequence[Interactions]) -> None:
    """Refuses parts of different numbers of users or items."""
    sizes = {(part.num_users, part.num_items) for part in parts}
    if len(sizes) != 1:
        raise ValueError(f"Expected all parts to have the same (num_users, num_items), got {sorted(sizes)}.")


def _one_target_each(held_out: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """The users who have a held-out item, ascending, and that item; refuses none at all, and two of one user."""
    users, first, counts = np.unique(held_out.users, return_index=True, return_counts=True)
    if not len(users):
        raise InputError("Expected at least one held-out interaction, got none: the part to rank is empty.")
    if counts.max() > 1:
        worst = counts.argmax()
        raise ValueError(f"Expected at most one held-out item a user, got {counts[worst]} of user {users[worst]}.")
    return users, held_out.items[first]


def _known_pairs(parts: Sequence[Interactions], users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index into `users`, item) of every distinct pair that the parts hold for `users` (ascending), ordered."""
    index = np.full(parts[0].num_users, -1, np.int64)
    index[users] = np.arange(len(users))
    rows = np.concatenate([index[part.users] for part in parts])
    items = np.concatenate([part.items for part in parts])
    pairs = np.sort((rows * parts[0].num_items + items)[rows >= 0])  # np.unique hashes: 1M pairs take it seconds
    rows, items = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], parts[0].num_items)
    return rows, items.astype(np.int32)


def _negative_pairs(
    negatives: np.ndarray, users: np.ndarray, targets: np.ndarray, held_out: Interactions
) -> tuple[np.ndarray, np.ndarray]:
    """(index into `users`, item) of every negative, without the empty places and without the target itself."""
    if len(negatives) != held_out.num_users:
        raise ValueError(f"Expected negatives for {held_out.num_users} users, got {len(negatives)} rows.")
    check_ids(negatives[negatives != -1], held_out.num_items, "negatives")
    rows, columns = np.nonzero((negatives[users] >= 0) & (negatives[users] != targets[:, None]))
    return rows, negatives[users][rows, columns].astype(np.int32)


def _chunks(users: np.ndarray, rows: np.ndarray, items: np.ndarray, chunk_size: int) -> Chunks:
    """Deals users to chunks so that all chunks have about the same number of pairs, and little padding.

    Users are dealt like cards, those with the most pairs first.
    """
    checks.counts(chunk_size=chunk_size)
    num_chunks = -(-len(users) // chunk_size)
    size = -(-len(users) // num_chunks)
    by_count = np.argsort(-np.bincount(rows, minlength=len(users)), kind="stable")
    turn, seat = np.divmod(np.arange(len(users)), num_chunks)
    places = np.empty(len(users), np.int64)
    places[by_count] = seat * size + turn

    placed_users = np.zeros(num_chunks * size, np.int32)
    placed_users[places] = users
    chunk, row = np.divmod(places[rows], size)
    order = np.argsort(chunk, kind="stable")
    chunk, row, items = chunk[order], row[order], items[order]
    counts = np.bincount(chunk, minlength=num_chunks)
    placed_rows = np.full((num_chunks, counts.max(initial=1)), size, np.int32)
    placed_items = np.zeros(placed_rows.shape, np.int32)
    position = _position_in_run(chunk, counts)
    placed_rows[chunk, position], placed_items[chunk, position] = row, items
    layout = (placed_users.reshape(num_chunks, size), placed_rows, placed_items, places.astype(np.int32))
    return Chunks(*jax.device_put(layout))


def _position_in_run(ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each run of the ascending `ids`, of which `counts` are the lengths."""
    return np.arange(len(ids)) - (np.cumsum(counts) - counts)[ids]
