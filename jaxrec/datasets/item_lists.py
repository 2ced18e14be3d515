"""The train.txt and test.txt of NGCF and LightGCN: a line `user item item ...` a user, in no order of time.

Wang et al., SIGIR 2019, arXiv:1905.08108; He et al., SIGIR 2020, arXiv:2002.02126.
"""

from __future__ import annotations

import os

from jaxrec.datasets import indexing, sequence_lists, stored
from jaxrec.types import Split


def load(folder: str | os.PathLike[str]) -> Split:
    """Reads `train.txt`, `test.txt` and, where it is there, `valid.txt` (plain, .gz or .xz).

    An item that a user has twice counts once, one that is also in the user's training list is not held out, and one
    that is held out for validation is not for the test, which knows it; a warning counts them.

    Returns:
        The split; users and items of all files together have a row. Without `valid.txt` the validation part is empty.

    Raises:
        InputError: If a file is not there, or any of its lines is not what it should be.
    """
    valid_path = stored.find(folder, "valid.txt")
    paths = [stored.need(folder, "train.txt"), stored.need(folder, "test.txt"), *([valid_path] if valid_path else [])]
    files = [sequence_lists.read(path) for path in paths]
    user_ids = indexing.distinct(*(rows.users for rows in files))
    item_ids = indexing.distinct(*(rows.items for rows in files))
    train, *others = (indexing.interactions(rows, user_ids, item_ids) for rows in files)
    held_out = [indexing.without(part, train, path) for part, path in zip(others, paths[1:], strict=True)]
    if not valid_path:
        return Split(train, indexing.none_of(train), held_out[0])
    test, valid = held_out
    return Split(train, valid, indexing.without(test, valid, paths[1], "validation"))
