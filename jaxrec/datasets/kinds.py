"""What a data file holds, told from its name and, where that is not enough, from its first lines."""

from __future__ import annotations

import pathlib
import statistics
from typing import NamedTuple

from jaxrec.datasets import indexing, interactions_file, item_features, ml1m, ml100k, reading, shilling, stored
from jaxrec.types import InputError, Interactions


class Counts(NamedTuple):
    """How much a file holds: of duplicate rows, those that loading keeps; 0 of what it says nothing about."""

    rows: int
    users: int
    items: int


def count(path: str, *, rating_scale: tuple[float, float] = reading.STARS) -> Counts:
    """Reads a file of a known kind and counts.

    Args:
        path: The file, plain, .gz or .xz.
        rating_scale: The least and the largest rating of a .csv, .tsv, .inter or .parquet file.

    Raises:
        InputError: If its kind is not known, or any of its fields is not what it should be.
    """
    name = stored.stem(path).lower()
    kind = pathlib.Path(name).suffix
    if kind == ".dat":
        return _count_dat(path, name)
    if kind == ".data":
        return _counts(ml100k.load(path))
    if kind == ".csv" and _has_features(path):
        num_items = len(item_features.load(path).item_ids)
        return Counts(num_items, 0, num_items)
    if kind in (*interactions_file.SEPARATORS, ".parquet"):
        return _counts(interactions_file.load(path, rating_scale=rating_scale))
    raise InputError(f"{path}: expected a .data, .dat, .csv, .tsv, .inter or .parquet file, plain, .gz or .xz.")


def _counts(loaded: Interactions) -> Counts:
    """The counts of interactions."""
    return Counts(len(loaded), loaded.num_users, loaded.num_items)


def _count_dat(path: str, name: str) -> Counts:
    """The counts of a .dat file, whose kind its name or else most of its first lines tell."""
    text = stored.open_text(path, b"::")
    lines = text.data.split(b"\n", 101)[:-1]
    width = statistics.mode(line.count(text.cut) + 1 for line in lines)
    by_width = {3: "movies", 5: "users", 1: "tabs" if b"\t" in lines[0] else "ratings"}
    named = [kind for kind in ("ratings", "movies", "users") if name.startswith(kind)]
    kind = named[0] if named else by_width.get(width, "ratings")
    if kind == "movies":
        num_movies = len(ml1m.movies_text(text))
        return Counts(num_movies, 0, num_movies)
    if kind == "users":
        num_users = len(ml1m.users_text(text))
        return Counts(num_users, num_users, 0)
    return _counts(indexing.interactions(shilling.read(path)) if kind == "tabs" else ml1m.load_text(text))


def _has_features(path: str) -> bool:
    """Whether the header of a csv file starts with an item column and has no user column."""
    header = stored.content(path).removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].strip()
    names = header.decode("latin-1").lower().split(",")
    return names[0] in item_features.ITEM_COLUMNS and not any("user" in name for name in names)
