"""MovieLens-1M: 1,000,209 ratings of 3,706 movies by 6,040 users (Harper and Konstan, TiiS 2015, doi:10.1145/2827872).

The original files, in latin-1: `ratings.dat` (UserID::MovieID::Rating::Timestamp), `movies.dat`
(MovieID::Title::Genres) and `users.dat` (UserID::Gender::Age::Occupation::Zip).

How this differs from the published leave-one-out files of the same ratings (`leave_one_out`):

- *Ids.* Here users and items are numbered by rising UserID and MovieID. There user = UserID - 1, which is the same, but
  items are numbered by first appearance in ratings.dat: item 0 is MovieID 1193 there and MovieID 1 here.
- *Order.* Rows here are those of ratings.dat, which is not in time order within a user; so are those there, less the
  held-out ones.
- *Last item.* Both hold out a user's latest rating, but many users rated several movies in the same second, and the
  published files chose among them by a rule that is not stated: held-out items differ for such users.
- *Times.* The published training file has times and ratings too, but copies with only user and item are about; then
  nothing can be split by time.
- *Items.* Two of the 3,706 items are in the published files as held-out items only.
"""

from __future__ import annotations

import os
import pathlib

import pandas as pd

from jaxrec.datasets import indexing, reading, stored
from jaxrec.types import InputError, Interactions

RATING_SCALE = (1.0, 5.0)


def load(path: str | os.PathLike[str]) -> Interactions:
    """Reads the ratings.

    Args:
        path: The folder with `ratings.dat` (plain, .gz or .xz), the zip archive it came in, or a ratings file itself.

    Returns:
        The interactions in the order of the file, with ratings, times in seconds, and the original ids.

    Raises:
        InputError: If the file is not there or any of its fields is not what it should be.
    """
    return load_text(_open(path, "ratings.dat"))


def load_text(text: reading.Text) -> Interactions:
    """`load`, for a text that is already open."""
    columns = reading.table(text, ["user", "item", "rating", "timestamp"])
    return indexing.interactions(indexing.from_columns(columns, rating_scale=RATING_SCALE))


def movies(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads the titles: `path` as in `load`, columns movie_id (int64), title and genres ('Action|Comedy').

    Raises:
        InputError: If the file is not there or any of its fields is not what it should be.
    """
    return movies_text(_open(path, "movies.dat"))


def movies_text(text: reading.Text) -> pd.DataFrame:
    """`movies`, for a text that is already open."""
    columns = reading.table(text, ["movie", "title", "genres"])
    return pd.DataFrame(
        {
            "movie_id": reading.keys(columns["movie"]),
            "title": reading.strings(columns["title"], "latin-1"),
            "genres": reading.strings(columns["genres"], "latin-1"),
        }
    )


def users(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads who the users are: `path` as in `load`, columns user_id, gender, age, occupation (codes) and zip_code.

    Raises:
        InputError: If the file is not there or any of its fields is not what it should be.
    """
    return users_text(_open(path, "users.dat"))


def users_text(text: reading.Text) -> pd.DataFrame:
    """`users`, for a text that is already open."""
    columns = reading.table(text, ["user", "gender", "age", "occupation", "zip code"])
    return pd.DataFrame(
        {
            "user_id": reading.keys(columns["user"]),
            "gender": reading.strings(columns["gender"]),
            "age": reading.integers(columns["age"]),
            "occupation": reading.integers(columns["occupation"]),
            "zip_code": reading.strings(columns["zip code"]),
        }
    )


def _open(path: str | os.PathLike[str], name: str) -> reading.Text:
    """The text of one of the files, out of a folder or an archive."""
    path = pathlib.Path(path)
    if path.is_dir():
        return stored.open_text(stored.need(path, name), b"::")
    if path.suffix.lower() != ".zip":
        return stored.open_text(path, b"::")
    files = stored.members(path, [name])
    if name not in files:
        raise InputError(f"{path}: expected an archive with the file {name}, got none in it")
    return reading.text(f"{path}/{name}", files[name], b"::")
