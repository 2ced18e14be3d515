"""From the ids of files to rows of tables: distinct ids in rising order become 0, 1, 2, ..., however large they are."""

from __future__ import annotations

import logging
import os
from typing import NamedTuple

import numpy as np

from jaxrec.datasets import reading
from jaxrec.types import InputError, Interactions

logger = logging.getLogger(__name__)  # prints warnings to stderr, one line each, unless the caller configures logging


class Rows(NamedTuple):
    """Interactions as a file has them, with its own ids (int64 [N]); `path` is what messages call the file."""

    path: str
    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None = None
    timestamps: np.ndarray | None = None


def from_columns(columns: dict[str, reading.Column], *, rating_scale: tuple[float, float] | None) -> Rows:
    """Parses the columns `user`, `item` and, where they are there, `rating` and `timestamp`.

    Args:
        columns: From `reading.table`; other columns are ignored.
        rating_scale: The least and the largest rating; None for any finite number.

    Raises:
        InputError: At the first field of a column that is not what it should be, or if the scale is none.
    """
    low, high = rating_scale or (-reading.LARGEST_FLOAT32, reading.LARGEST_FLOAT32)
    if not low < high:
        raise InputError(f"Expected rating_scale (low, high) with low < high, got {rating_scale}.")
    return Rows(
        columns["user"].text.path,
        reading.integers(columns["user"]),
        reading.integers(columns["item"]),
        reading.numbers(columns["rating"], low, high) if "rating" in columns else None,
        reading.times(columns["timestamp"]) if "timestamp" in columns else None,
    )


def distinct(*ids: np.ndarray) -> np.ndarray:
    """The ids that occur in any of the arrays, in rising order."""
    values = np.sort(np.concatenate(ids))  # np.unique hashes, which takes ten times as long
    return values[np.diff(values, prepend=-1) != 0]  # not > 0: the difference of 2^63 - 1 and -1 wraps


def positions(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each of `values`, all of which occur in the rising `ids`, stands there: int32, shaped like `values`."""
    return np.searchsorted(ids, values).astype(np.int32)


def interactions(rows: Rows, user_ids: np.ndarray | None = None, item_ids: np.ndarray | None = None) -> Interactions:
    """Gives every user and item of a file its row, and keeps one row, the latest, of every pair.

    Rows that repeat an earlier one exactly, and earlier ratings of a pair that was rated again, are dropped with a
    warning that counts them. Of equal times, and where times are unknown, the last one in the file is the latest.

    Args:
        rows: The file.
        user_ids: The ids that get a row, rising, where a data set has several files; None for those of `rows`.
        item_ids: Likewise.

    Raises:
        InputError: If there are fewer than two items.
    """
    indexed = keep_repeats(rows, user_ids, item_ids)
    pairs = indexed.users.astype(np.int64) * indexed.num_items + indexed.items
    if np.all(np.diff(np.sort(pairs))):
        return indexed
    times = np.zeros(len(pairs)) if indexed.timestamps is None else indexed.timestamps
    by_pair = np.lexsort((times, pairs))
    is_last = np.append(np.diff(pairs[by_pair]) != 0, True)
    kept = np.sort(by_pair[is_last])
    columns = [column for column in (pairs, indexed.ratings, indexed.timestamps) if column is not None]
    by_row = np.lexsort(columns)
    repeated = int(np.all([column[by_row][1:] == column[by_row][:-1] for column in columns], axis=0).sum())
    logger.warning(
        "%s: dropped %d rows that repeat an earlier row exactly, and %d ratings of pairs that were rated again "
        "(the latest stays).",
        rows.path,
        repeated,
        len(pairs) - len(kept) - repeated,
    )
    return indexed.take(kept)


def keep_repeats(rows: Rows, user_ids: np.ndarray | None = None, item_ids: np.ndarray | None = None) -> Interactions:
    """`interactions`, for files where the same pair twice is two events: sequences."""
    user_ids = distinct(rows.users) if user_ids is None else user_ids
    item_ids = distinct(rows.items) if item_ids is None else item_ids
    if len(item_ids) < 2:
        raise reading.error(rows.path, "at least two items", f"{len(item_ids)} in {len(rows.items)} rows")
    return Interactions(
        users=positions(user_ids, rows.users),
        items=positions(item_ids, rows.items),
        num_users=len(user_ids),
        num_items=len(item_ids),
        ratings=None if rows.ratings is None else rows.ratings.astype(np.float32),
        timestamps=rows.timestamps,
        user_ids=_names(user_ids),
        item_ids=_names(item_ids),
    )


def _names(ids: np.ndarray) -> np.ndarray | None:
    """None for the ids 0, 1, 2, ..., which need no names."""
    return None if np.array_equal(ids, np.arange(len(ids))) else ids


def without(
    held_out: Interactions, known: Interactions, path: str | os.PathLike[str], part: str = "training"
) -> Interactions:
    """The held-out interactions whose pair is none of another `part`; a warning counts the others."""
    pairs, known_pairs = (each.users.astype(np.int64) * each.num_items + each.items for each in (held_out, known))
    by_pair = np.sort(known_pairs)  # np.isin hashes, which takes ten times as long
    seen = np.searchsorted(by_pair, pairs, "right") > np.searchsorted(by_pair, pairs)
    if seen.any():
        logger.warning("%s: dropped %d held-out rows whose pair is also a %s row.", path, int(seen.sum()), part)
    return held_out.take(~seen)


def none_of(interactions: Interactions) -> Interactions:
    """No interaction, of the same users and items: the validation part of a data set that has none."""
    return interactions.take(np.zeros(0, np.int64))
