"""Data sets with the targets that published shilling attacks used.

Lin et al., CIKM 2020, arXiv:2008.08408; Lin et al., TKDE 2022, arXiv:2206.11433. The files of a set NAME, with fields
between tabs and lists between commas: `NAME_train.dat` and `NAME_test.dat` (user, item, rating), `NAME_selected_items`
(target item, list of the items that an attacker rates beside it), and either `NAME_target_users` (target item, list of
the users it is pushed to) or `NAME_target_item` (target item alone).
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import numpy as np

from jaxrec.datasets import indexing, reading, stored
from jaxrec.types import Split

RATING_SCALE = (1.0, 5.0)


class Shilling(NamedTuple):
    """A data set and whom to attack in it; users and items are those of the split, -1 fills short rows.

    Attributes:
        split: Ratings; the validation part is empty.
        targets: int32 [T], the items whose rank an attacker wants to change.
        selected_items: int32 [T, S], what an attacker rates beside each target.
        target_users: int32 [T, V], the users whom each target is pushed to; None where the set names none.
    """

    split: Split
    targets: np.ndarray
    selected_items: np.ndarray
    target_users: np.ndarray | None


def load(folder: str | os.PathLike[str], name: str) -> Shilling:
    """Reads the four files of the set `name`, plain, .gz or .xz.

    Raises:
        InputError: If a file is not there, any of its fields is not what it should be, or the targets in the last two
            files differ.
    """
    train, test = (read(stored.need(folder, f"{name}_{part}.dat")) for part in ("train", "test"))
    targets, selected = _targets(stored.need(folder, f"{name}_selected_items"))
    users_path = stored.find(folder, f"{name}_target_users")
    if users_path is None:
        items_path = stored.need(folder, f"{name}_target_item")
        column = reading.table(stored.open_text(items_path, b"\t"), ["target item"])["target item"]
        named, pushed_to = reading.integers(column), []
    else:
        named, pushed_to = _targets(users_path)
        items_path = users_path
    if not np.array_equal(named, targets):
        raise reading.error(items_path, f"the targets of {name}_selected_items in its order", "others")
    user_ids = indexing.distinct(train.users, test.users, *pushed_to)
    item_ids = indexing.distinct(train.items, test.items, targets, *selected)
    fit = indexing.interactions(train, user_ids, item_ids)
    held_out = indexing.without(indexing.interactions(test, user_ids, item_ids), fit, test.path)
    return Shilling(
        Split(fit, indexing.none_of(fit), held_out),
        indexing.positions(item_ids, targets),
        _padded([indexing.positions(item_ids, items) for items in selected]),
        _padded([indexing.positions(user_ids, users) for users in pushed_to]) if pushed_to else None,
    )


def read(path: str | os.PathLike[str]) -> indexing.Rows:
    """A file of ratings: user, item and rating between tabs.

    Raises:
        InputError: If the file is not there, or any of its fields is not what it should be.
    """
    columns = reading.table(stored.open_text(path, b"\t"), ["user", "item", "rating"])
    return indexing.from_columns(columns, rating_scale=RATING_SCALE)


def _targets(path: pathlib.Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """The target of each line, and the ids in its list."""
    text = stored.open_text(path, b"\t")
    targets = reading.integers(reading.table(text, ["target item", "list"])["target item"])
    fields, widths = reading.lists(text._replace(data=text.data.replace(b",", b"\t")), "id")
    is_listed = np.ones(len(fields.starts), bool)
    is_listed[np.cumsum(widths) - widths] = False
    ids = reading.integers(reading.take(fields, is_listed, "id"))
    return targets, np.split(ids, np.cumsum(widths - 1)[:-1])


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of different lengths as one array, -1 where a row has ended."""
    padded = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
