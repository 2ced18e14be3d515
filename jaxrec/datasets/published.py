"""Published splits that tables are compared on, from a given folder or $JAXREC_DATA; none of them is downloaded.

ml-1m-sequences  MovieLens-1M in order of time, the 3,416 items with at least 5 events (SASRec's set)
beauty           Amazon Beauty, 5-core, in order of time (S3-Rec's files)
gowalla          the split of NGCF and LightGCN
"""

from __future__ import annotations

import os
import pathlib
from typing import Literal, NamedTuple

from jaxrec import splits
from jaxrec.datasets import interactions_file, item_lists, sequence_lists, stored
from jaxrec.types import InputError, Split

Name = Literal["ml-1m-sequences", "beauty", "gowalla"]
_FILES = {
    "ml-1m-sequences": ("movielens-1m", "sequences.txt"),
    "beauty": ("amazon-s3rec-sequences", "Beauty.txt"),
    "gowalla": ("gowalla", "train.txt"),
}


class Located(NamedTuple):
    """A split, where it was found, and how it was made, in words."""

    split: Split
    path: pathlib.Path
    words: str


def find(name: Name, data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path | None:
    """The folder with a split's files: the given one, or the folder of them in it; by default in $JAXREC_DATA."""
    folder, file = _FILES[name]
    root = data_dir or os.environ.get("JAXREC_DATA")
    places = [] if root is None else [pathlib.Path(root), pathlib.Path(root) / folder]
    return next((place for place in places if stored.find(place, file)), None)


def load(name: Name, data_dir: str | os.PathLike[str] | None = None) -> Located:
    """Loads a published split.

    Args:
        name: Which; see the module.
        data_dir: As in `find`.

    Raises:
        InputError: If the files are not there or malformed.
    """
    (folder, file), place = _FILES[name], find(name, data_dir)
    if place is None:
        root = data_dir or os.environ.get("JAXREC_DATA")
        where = f"got {root}, which has none of it" if root else "set JAXREC_DATA or --data-dir"
        raise InputError(f"Expected a data folder with {file} (also in {folder}/), plain, .gz or .xz; {where}.")
    if name == "gowalla":
        return Located(item_lists.load(place), place, "published train, validation and test lists")
    path = stored.need(place, file)
    words = "each user's last item for the test, the one before for validation"
    return Located(splits.leave_one_out(sequence_lists.load(path)), path, words)


def own(path: str | os.PathLike[str], *, seed: int = 0) -> Located:
    """A table of your own (`interactions_file.load`), split leave-one-out: by time, or at random where there is none.

    Raises:
        InputError: If it is not there or malformed, or no user has the three interactions that a held-out one needs.
    """
    interactions = interactions_file.load(path, rating_scale=None)
    split = splits.leave_one_out(interactions, seed=seed)
    if not len(split.test):
        raise InputError(f"Expected a user with at least three interactions in {path}, got none.")
    order = "by time" if interactions.timestamps is not None else f"drawn from seed {seed}"
    return Located(split, pathlib.Path(path), f"leave-one-out with a validation item, {order}")
