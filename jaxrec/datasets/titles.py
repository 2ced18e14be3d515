"""The titles of a data set's items, where it has any: people read names, not numbers."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

from jaxrec.datasets import locate, ml1m, movielens_sample, stored

_BY_MOVIE_ID = ("ml-1m", "ml-1m-sequences")  # names of data sets whose item ids are MovieIDs
_BY_NUMBER = (locate.LEAVE_ONE_OUT, "leave-one-out files")  # what names of those begin with whose item ids are not
_FOLDERS = ("", "ml-1m", "movielens-1m")  # of movies.dat


def find(name: str, place: str | os.PathLike[str] | None = None) -> dict[int, str]:
    """Finds the titles of a data set.

    MovieLens-1M's stand in `movies.dat`, by MovieID. The items of its leave-one-out files have numbers of their own:
    `item_ids.csv` (columns item, movie_id) beside those files says which MovieID is meant. The sample brings its own.

    Args:
        name: Of the data set, as in `locate.Located` and `published.Name`.
        place: The folder or file that it was read from, or a folder of data sets; by default $JAXREC_DATA.
            `movies.dat` may also lie in the folder beside, in $JAXREC_DATA, or in the cache of earlier downloads.

    Returns:
        {item id of the file: title}; empty where there are none. A movie without a title is left out.

    Raises:
        InputError: If a file of titles is there and any of its fields is not what it should be.
    """
    if name == locate.SAMPLE:
        frame = movielens_sample.movies()
        return _titled(zip(frame["movie_id"].tolist(), frame["title"], strict=True))
    places = [pathlib.Path(folder) for folder in (place, os.environ.get("JAXREC_DATA")) if folder]
    if name in _BY_MOVIE_ID:
        return _movies(places)
    if name.startswith(_BY_NUMBER) and places:
        numbers, movies = _movie_ids(places[0]), _movies(places)
        return {item: movies[movie] for item, movie in numbers.items() if movie in movies}
    return {}


def _movies(places: Iterable[pathlib.Path]) -> dict[int, str]:
    """{MovieID: title} from the first movies.dat, or archive with one, in or beside the places."""
    for place in (*places, locate.cache_folder() / "movielens-1m"):
        near = place if place.is_dir() else place.parent
        folders = [folder / name for folder in (near, near.parent) for name in _FOLDERS]
        archives = [path for path in (place, near / "ml-1m.zip") if path.suffix == ".zip" and path.is_file()]
        found = [*archives, *(folder for folder in folders if stored.find(folder, "movies.dat"))]
        if found:
            frame = ml1m.movies(found[0])
            return _titled(zip(frame["movie_id"].tolist(), frame["title"], strict=True))
    return {}


def _movie_ids(place: pathlib.Path) -> dict[int, int]:
    """{item of the leave-one-out files: MovieID}, from the folder of those files and no other: others may differ."""
    near = place if place.is_dir() else place.parent
    files = (stored.find(near / name, "item_ids.csv") for name in ("", locate.LEAVE_ONE_OUT))
    file = next((file for file in files if file is not None), None)
    return {} if file is None else locate.movie_ids(file)


def _titled(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    return {id: str(title) for id, title in pairs if title}
