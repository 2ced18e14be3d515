"""Features of users, items and single interactions, made on the host, fitted on training rows alone.

What scikit-learn has is used as it is: `StandardScaler` and `MinMaxScaler` (with `inverse_transform`), `SimpleImputer`
(`histories` leaves nan where nothing is known), `TfidfVectorizer`, `PCA`, `FeatureHasher`. Here is what it lacks:
features of a history, of clock and calendar, bounds against outliers, and what a feature model reads (`movielens`).
No feature of a row depends on later rows: `before_each` looks back alone, `histories` ends at `until`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from jaxrec import fields
from jaxrec.types import Interactions

DAY = 86_400  # seconds


def histories(
    train: Interactions, *, of: Literal["users", "items"] = "users", until: int | None = None
) -> pd.DataFrame:
    """What each user (or item) did, a row each, from the interactions at or before the time `until` (default: all).

    Returns:
        Columns `activity` (interactions), `recency` (days from the last of them to `until`), `frequency` (interactions
        a day, from the first to `until`, a day at least), `gap_mean` and `gap_std` (days between successive ones). What
        is unknown is nan: gaps of fewer than two interactions, all but `activity` without any or without times.

    Raises:
        ValueError: If `until` is given and there are no times.
    """
    num, ids = (train.num_users, train.users) if of == "users" else (train.num_items, train.items)
    names = ["activity", "recency", "frequency", "gap_mean", "gap_std"]
    found = pd.DataFrame(np.nan, index=pd.RangeIndex(num), columns=names)
    if train.timestamps is None:
        if until is not None:
            raise ValueError(f"Expected timestamps for until={until}, got none.")
        return found.assign(activity=np.bincount(ids, minlength=num).astype(float))
    times = train.timestamps
    end = until if until is not None else times.max(initial=0)
    kept = times <= end
    rows = pd.DataFrame({"id": ids[kept], "time": times[kept]}).sort_values(["id", "time"], kind="stable")
    by_id: Any = rows.groupby("id")["time"]
    span = np.maximum((end - by_id.min()) / DAY, 1)
    gaps = (by_id.diff() / DAY).groupby(rows["id"])
    found["activity"] = by_id.size().reindex(found.index, fill_value=0).astype(float)
    columns = {"recency": (end - by_id.max()) / DAY, "frequency": by_id.size() / span}
    columns |= {"gap_mean": gaps.mean(), "gap_std": gaps.std(ddof=0)}
    return found.assign(**{name: column.reindex(found.index) for name, column in columns.items()})


def before_each(interactions: Interactions) -> pd.DataFrame:
    """What is known of a user when an interaction begins, a row each, in the order of the rows.

    Returns:
        Columns `user_before` and `item_before` (earlier interactions of the user and with the item), `gap` (days since
        the user's last one, nan for the first) and those of `cyclic`. Of interactions at the same time the row order
        decides.

    Raises:
        ValueError: If there are no times.
    """
    if interactions.timestamps is None:
        raise ValueError("Expected interactions with timestamps, got none.")
    rows = pd.DataFrame({"user": interactions.users, "item": interactions.items, "time": interactions.timestamps})
    ordered = rows.sort_values("time", kind="stable")
    found = pd.DataFrame(
        {
            "user_before": ordered.groupby("user").cumcount(),
            "item_before": ordered.groupby("item").cumcount(),
            "gap": ordered.groupby("user")["time"].diff() / DAY,
        }
    ).sort_index()
    return pd.concat([found, cyclic(interactions.timestamps)], axis=1)


def cyclic(times: np.ndarray) -> pd.DataFrame:
    """Hour of the day and day of the week (UTC) of seconds since 1970, on circles: no step from 23 to 0 o'clock.

    Returns:
        Columns `hour_sin`, `hour_cos`, `weekday_sin`, `weekday_cos`; a week begins on Monday.
    """
    hours = 2 * np.pi * (times % DAY) / DAY
    weekdays = 2 * np.pi * ((times // DAY + 3) % 7) / 7  # 1 January 1970 was a Thursday
    turns = {"hour": hours, "weekday": weekdays}
    return pd.DataFrame({f"{name}_{f.__name__}": f(angle) for name, angle in turns.items() for f in (np.sin, np.cos)})


def z_bounds(values: np.ndarray, *, deviations: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean less and plus so many standard deviations of each column of training values [R, F]; nan does not count.

    Values outside are outliers; `np.clip(values, *bounds)` brings them in.
    """
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return mean - deviations * spread, mean + deviations * spread


def iqr_bounds(values: np.ndarray, *, factor: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Quartiles of each column of training values, less and plus `factor` times their distance (Tukey's fences)."""
    low, high = np.nanquantile(values, [0.25, 0.75], axis=0)
    return low - factor * (high - low), high + factor * (high - low)


def text_components(texts: list[str], *, seen: np.ndarray, num: int) -> np.ndarray:
    """The first `num` principal components of the TF-IDF vectors of texts, float32 [R, num], fitted where `seen` [R].

    `num` may not exceed the number of seen texts or of words.
    """
    vectorizer = TfidfVectorizer().fit([text for text, is_seen in zip(texts, seen, strict=True) if is_seen])
    vectors = vectorizer.transform(texts).toarray()
    return PCA(num, svd_solver="full").fit(vectors[seen]).transform(vectors).astype(np.float32)


def scaled(values: np.ndarray, *, seen: np.ndarray) -> np.ndarray:
    """Columns [R, F] without nan (the median), within Tukey's fences, of mean 0 and deviation 1. float32 [R, F].

    All is fitted where `seen` [R]. A column without any value there is 0.
    """
    imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(values[seen])
    filled = np.asarray(imputer.transform(values))
    clipped = np.clip(filled, *iqr_bounds(filled[seen]))
    return np.asarray(StandardScaler().fit(clipped[seen]).transform(clipped), np.float32)


def movielens(train: Interactions, users: pd.DataFrame, movies: pd.DataFrame) -> fields.Side:
    """What MovieLens tells of users and movies, for a feature model.

    Args:
        train: Training interactions; activity, popularity and their times are counted here, and scales fitted.
        users: A row for each user, in their order: columns gender, age and occupation (`ml1m.users`).
        movies: A row for each item, in their order: columns title, with its year in brackets, and genres
            (`ml1m.movies`); nan where a movie is not known.

    Returns:
        Users: gender, age and occupation as categories, their histories as values. Items: the decade as a category;
        genres (each 1 / sqrt of their number), year and histories as values. Crossed with the first genre: gender, age
        and occupation.

    Raises:
        ValueError: If a table has not one row for each user or item.
    """
    for name, table, num in (("users", users, train.num_users), ("movies", movies, train.num_items)):
        if len(table) != num:
            raise ValueError(f"Expected {num} rows of {name}, got {len(table)}.")
    demographics = _codes(users.loc[:, ["gender", "age", "occupation"]])
    hot = genres(movies)
    hot = hot / np.sqrt(np.maximum(hot.sum(axis=1, keepdims=True), 1))
    first_genre = _codes(pd.DataFrame({"genre": movies["genres"].fillna("").str.split("|").str[0]}))
    year: Any = movies["title"].str.extract(r"\((\d{4})\)\s*$")[0].astype(float)
    decade = _codes(pd.DataFrame({"decade": (year // 10).fillna(-1)}))
    of_items = _history_values(train, "items")
    item_seen = np.bincount(train.items, minlength=train.num_items) > 0
    user_seen = np.bincount(train.users, minlength=train.num_users) > 0
    return fields.Side(
        user_ids=fields.numbered(demographics),
        item_ids=fields.numbered(decade),
        user_values=scaled(_history_values(train, "users"), seen=user_seen),
        item_values=np.c_[hot, scaled(np.c_[of_items, year.to_numpy()], seen=item_seen)],
        user_crossed=demographics,
        item_crossed=np.repeat(first_genre, 3, axis=1),
    )


def genres(movies: pd.DataFrame) -> np.ndarray:
    """One column a genre, 1 where the movie has it, float32 [I, G]; zeros for a movie of unknown genres.

    Args:
        movies: With the column genres, such as 'Action|Comedy'; '' or nan where none are known.
    """
    return movies["genres"].str.get_dummies("|").drop(columns="", errors="ignore").to_numpy(np.float32)


def _history_values(train: Interactions, of: Literal["users", "items"]) -> np.ndarray:
    """Logarithms of what `histories` tells, of those columns that are known at all."""
    found = histories(train, of=of)
    return np.log1p(
        found.loc[:, ["activity", *(["recency", "frequency"] if train.timestamps is not None else [])]]
    ).to_numpy()


def _codes(table: Any) -> np.ndarray:
    """Each column of a table, its values as 0, 1, 2, ... in ascending order, int32 [R, F]."""
    return np.stack([pd.factorize(table[name], sort=True)[0] for name in table], axis=1).astype(np.int32)
