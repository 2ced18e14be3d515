"""The leave-one-out files of the NCF and APR papers.

He et al., WWW 2017, arXiv:1708.05031; He et al., SIGIR 2018, arXiv:1808.03908. In three files, with tabs between the
fields: `NAME.train.rating` and `NAME.test.rating` have a pair a line, `user item` or `user item rating timestamp`, and
`NAME.test.negative` has for each test pair `(user,item)` and the items that it is ranked against. How those of
MovieLens-1M differ from the original ratings stands in `ml1m`.
"""

from __future__ import annotations

import os
import pathlib
import re

import numpy as np

from jaxrec.datasets import indexing, reading, stored
from jaxrec.types import InputError, Interactions, Split

_PAIR = re.compile(r"\((0|[1-9][0-9]{0,17}),(0|[1-9][0-9]{0,17})\)")


def load(folder: str | os.PathLike[str], name: str | None = None, *, seed: int = 0) -> Split:
    """Reads the three files, plain, .gz or .xz, and holds a validation item out of the training file.

    The validation item of a user is the latest of the training pairs where times are known, otherwise one drawn from
    `seed`. A user with a single training pair has none, and keeps the pair.

    Args:
        folder: Where they are.
        name: The part of their names before `.train.rating`; needed only where the folder has several.
        seed: Of the draw.

    Returns:
        The split; users and items of all files together have a row. `negatives` [U, M] is None without a file of
        negatives; where a test item stands among its own negatives (in MovieLens-1M for 156 users) it is dropped: -1.

    Raises:
        InputError: If a file is not there, any of its fields is not what it should be, or a user has two test pairs.
    """
    name = _only_name(folder) if name is None else name
    pairs = _rows(stored.need(folder, f"{name}.train.rating"))
    tests = _rows(stored.need(folder, f"{name}.test.rating"))
    _refuse_second_pair(tests)
    negatives_path = stored.find(folder, f"{name}.test.negative")
    negatives = (
        np.zeros((len(tests.users), 0), np.int64) if negatives_path is None else _negatives(negatives_path, tests)
    )

    user_ids = indexing.distinct(pairs.users, tests.users)
    item_ids = indexing.distinct(pairs.items, tests.items, negatives.reshape(-1))
    fit = indexing.interactions(pairs, user_ids, item_ids)
    test = indexing.without(indexing.interactions(tests, user_ids, item_ids), fit, tests.path)
    is_valid = np.zeros(len(fit), bool)
    is_valid[_one_per_user(fit, seed)] = True
    ranked = None
    if negatives_path:
        ranked = np.full((len(user_ids), negatives.shape[1]), -1, np.int32)
        is_target = negatives == tests.items[:, None]
        users = indexing.positions(user_ids, tests.users)
        ranked[users] = np.where(is_target, -1, indexing.positions(item_ids, negatives))
    return Split(fit.take(~is_valid), fit.take(is_valid), test, ranked)


def _one_per_user(train: Interactions, seed: int) -> np.ndarray:
    """The row of one pair of each user who has several: the latest, or where times are unknown one that is drawn."""
    if train.timestamps is None:
        order = np.random.default_rng(seed).permutation(len(train))
    else:
        order = np.argsort(train.timestamps, kind="stable")
    last_of_user = np.full(train.num_users, -1)
    last_of_user[train.users[order]] = order  # of a repeated index, the last value stays
    return last_of_user[np.bincount(train.users, minlength=train.num_users) > 1]


def _only_name(folder: str | os.PathLike[str]) -> str:
    """NAME of the one NAME.train.rating in a folder."""
    files = sorted(stored.stem(path) for path in pathlib.Path(folder).glob("*.train.rating*"))
    names = sorted({file.removesuffix(".train.rating") for file in files if file.endswith(".train.rating")})
    if len(names) != 1:
        raise InputError(f"{folder}: expected a folder with one file NAME.train.rating, got {len(names)}: {names[:5]}")
    return names[0]


def _rows(path: pathlib.Path) -> indexing.Rows:
    """Pairs, with ratings and times where the first line has them."""
    text = stored.open_text(path, b"\t")
    has_two = text.data[: text.data.index(b"\n")].count(b"\t") == 1
    columns = reading.table(text, ["user", "item"] if has_two else ["user", "item", "rating", "timestamp"])
    return indexing.from_columns(columns, rating_scale=reading.STARS)


def _refuse_second_pair(tests: indexing.Rows) -> None:
    """Raises an InputError at the first line of the test file whose user had a line before."""
    repeated = reading.repeats(tests.users)
    if repeated.any():
        first = int(repeated.argmax())
        raise reading.error(tests.path, "one pair a user", f"user {tests.users[first]} again", first + 1)


def _negatives(path: pathlib.Path, tests: indexing.Rows) -> np.ndarray:
    """The items that each test pair is ranked against: [tests, M], in the order of the test file."""
    text = stored.open_text(path, b"\t")
    num = text.data[: text.data.index(b"\n")].count(b"\t")
    columns = reading.table(text, ["pair", *(f"negative {n + 1}" for n in range(max(num, 1)))])
    pairs = columns.pop("pair")
    items = np.stack([reading.integers(column) for column in columns.values()], axis=1)
    pending = {pair: row for row, pair in enumerate(zip(tests.users.tolist(), tests.items.tolist(), strict=True))}
    negatives = np.empty((len(tests.users), items.shape[1]), np.int64)
    for line, shown in enumerate(reading.strings(pairs)):
        match = _PAIR.fullmatch(shown)
        row = pending.pop((int(match[1]), int(match[2])), None) if match else None
        if row is None:
            raise reading.wrong(pairs, line, f"(user,item) of {os.path.basename(tests.path)}, each pair once")
        negatives[row] = items[line]
    if pending:
        raise reading.error(path, "a line for every test pair", f"none for {next(iter(pending))}", len(items))
    return negatives
