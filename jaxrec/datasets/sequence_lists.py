"""Sequences without times: each line is a user and one or more items between single spaces, the oldest first.

Both forms in use are files of this kind: an event a line, `user item` (SASRec, Kang and McAuley, ICDM 2018,
arXiv:1808.09781), and a user a line, `user item item ...` (S3-Rec, Zhou et al., CIKM 2020, arXiv:2008.07873).
"""

from __future__ import annotations

import os

import numpy as np

from jaxrec.datasets import indexing, reading, stored
from jaxrec.types import Interactions


def load(path: str | os.PathLike[str]) -> Interactions:
    """Reads the sequences.

    Args:
        path: The file, plain, .gz or .xz.

    Returns:
        The events user by user, the oldest first; an item that comes again is another event. Times are not known:
        `timestamps` are the places 0, 1, 2, ... in a user's sequence, which serve splits within users and nothing else.

    Raises:
        InputError: If the file is not there, or any of its lines is not what it should be.
    """
    rows = read(path)
    order = np.argsort(rows.users, kind="stable")
    users = rows.users[order]
    first_of_user = np.flatnonzero(np.diff(users, prepend=-1))
    lengths = np.diff(first_of_user, append=len(users))
    places = np.arange(len(users)) - np.repeat(first_of_user, lengths)
    return indexing.keep_repeats(indexing.Rows(rows.path, users, rows.items[order], None, places))


def read(path: str | os.PathLike[str]) -> indexing.Rows:
    """The users and items of such a file, in its order.

    Raises:
        InputError: If the file is not there, or any of its lines is not what it should be.
    """
    fields, widths = reading.lists(stored.open_text(path, b" "), "user")
    firsts = np.cumsum(widths) - widths
    is_item = np.ones(len(fields.starts), bool)
    is_item[firsts] = False
    column = reading.take(fields, firsts, "user")
    users = reading.integers(column)
    reading.refuse(column, widths < 2, "a user with items after it")
    return indexing.Rows(
        column.text.path,
        np.repeat(users, widths - 1),
        reading.integers(reading.take(fields, is_item, "item")),
    )
