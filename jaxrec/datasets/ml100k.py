"""MovieLens-100K: 100,000 ratings of 1,682 movies by 943 users (Harper and Konstan, TiiS 2015, doi:10.1145/2827872).

The original files: `u.data` (user, item, rating, timestamp between tabs), `u.item` (between bars, in latin-1, nineteen
genre flags at the end), `u.user` (user|age|gender|occupation|zip code), and the splits `ua.base`/`ua.test` and
`ub.base`/`ub.test` with ten test ratings a user.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from jaxrec.datasets import indexing, reading, stored
from jaxrec.types import Interactions, Split

RATING_SCALE = (1.0, 5.0)
GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


def load(path: str | os.PathLike[str]) -> Interactions:
    """Reads the ratings.

    Args:
        path: The folder with `u.data` (plain, .gz or .xz), or a file of that form itself.

    Returns:
        The interactions in the order of the file, with ratings, times in seconds, and the original ids.

    Raises:
        InputError: If the file is not there or any of its fields is not what it should be.
    """
    return indexing.interactions(_rows(stored.need(path, "u.data") if os.path.isdir(path) else path))


def load_split(folder: str | os.PathLike[str], name: str = "ua") -> Split:
    """Reads a published split, `NAME.base` and `NAME.test`: no validation part, ids of both files together.

    Raises:
        InputError: If a file is not there or any of its fields is not what it should be.
    """
    base, test = (_rows(stored.need(folder, f"{name}.{part}")) for part in ("base", "test"))
    user_ids, item_ids = indexing.distinct(base.users, test.users), indexing.distinct(base.items, test.items)
    train = indexing.interactions(base, user_ids, item_ids)
    held_out = indexing.without(indexing.interactions(test, user_ids, item_ids), train, test.path)
    return Split(train, indexing.none_of(train), held_out)


def items(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads the titles: columns movie_id (int64), title and genres ('Action|Comedy').

    Raises:
        InputError: If `u.item` is not there or any of these fields is not what it should be.
    """
    others = ["release date", "video release date", "link"]
    text = stored.open_text(stored.need(folder, "u.item"), b"|")
    columns = reading.table(text, ["movie", "title", *others, *GENRES])
    flags = np.stack([reading.numbers(columns[genre], 0, 1) == 1 for genre in GENRES], axis=1)
    genres = ["|".join(genre for genre, flag in zip(GENRES, row, strict=True) if flag) for row in flags]
    titles = reading.strings(columns["title"], "latin-1")
    return pd.DataFrame({"movie_id": reading.keys(columns["movie"]), "title": titles, "genres": genres})


def users(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads who the users are: columns user_id, age (years), gender, occupation (a word) and zip_code.

    Raises:
        InputError: If `u.user` is not there or any of its fields is not what it should be.
    """
    text = stored.open_text(stored.need(folder, "u.user"), b"|")
    columns = reading.table(text, ["user", "age", "gender", "occupation", "zip code"])
    return pd.DataFrame(
        {
            "user_id": reading.keys(columns["user"]),
            "age": reading.integers(columns["age"]),
            "gender": reading.strings(columns["gender"]),
            "occupation": reading.strings(columns["occupation"]),
            "zip_code": reading.strings(columns["zip code"]),
        }
    )


def _rows(path: str | os.PathLike[str]) -> indexing.Rows:
    """A file of four tab-separated columns."""
    columns = reading.table(stored.open_text(path, b"\t"), ["user", "item", "rating", "timestamp"])
    return indexing.from_columns(columns, rating_scale=RATING_SCALE)
