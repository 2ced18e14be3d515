"""A user's own files: the columns that are chosen, and what is read from them."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec import types
from jaxrec.datasets import interactions_file

FRAME = pd.DataFrame(
    {
        "who": [7, 7, 2**40],
        "what": [30, 10, 10],
        "stars": [5.0, 0.5, 4.0],
        "when": [1592000000123, 5, 5],
        "note": list("abc"),
    }
)
COLUMNS = {"user": "who", "item": "what", "rating": "stars", "timestamp": "when"}


def assert_holds_the_frame(read):
    assert read.users.tolist() == [0, 0, 1]
    assert read.items.tolist() == [1, 0, 0]
    assert read.ratings.tolist() == [5.0, 0.5, 4.0]
    assert read.timestamps.tolist() == [1592000000123, 5, 5]
    assert read.user_ids.tolist() == [7, 2**40]
    assert read.item_ids.tolist() == [10, 30]


def test_every_format_gives_the_same(tmp_path):
    FRAME.to_csv(tmp_path / "x.csv", index=False)
    FRAME.to_csv(tmp_path / "x.tsv.gz", index=False, sep="\t")
    types_of = {"who": "token", "what": "token", "stars": "float", "when": "float", "note": "token_seq"}
    FRAME.rename(columns=lambda name: f"{name}:{types_of[name]}").to_csv(tmp_path / "x.inter", index=False, sep="\t")
    FRAME.to_csv(tmp_path / "x.txt.xz", index=False, header=False, sep=" ")
    for name in ("x.csv", "x.tsv.gz", "x.inter"):
        assert_holds_the_frame(interactions_file.load(tmp_path / name, **COLUMNS))
    assert_holds_the_frame(
        interactions_file.load(tmp_path / "x.txt.xz", **COLUMNS, names=list(FRAME.columns), separator=" ")
    )
    pytest.importorskip("pyarrow")
    FRAME.to_parquet(tmp_path / "x.parquet")
    FRAME.astype({"who": str, "what": str, "when": float}).to_parquet(tmp_path / "y.parquet")
    for name in ("x.parquet", "y.parquet"):
        assert_holds_the_frame(interactions_file.load(tmp_path / name, **COLUMNS))


def test_columns_are_found_under_their_usual_names_or_as_given(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"userId,movieId,rating,timestamp,item\n1,10,5,7,3\n1,20,4,8,4\n")
    with pytest.raises(types.InputError, match=r"x\.csv:1:1: expected one item column \(say which: item=\.\.\.\)"):
        interactions_file.load(path)
    read = interactions_file.load(path, item="movieId")
    assert read.item_ids is not None
    assert read.item_ids.tolist() == [10, 20]
    with pytest.raises(types.InputError, match=r"expected a column 'stars' \(rating\), got 'userId', 'movieId'"):
        interactions_file.load(path, item="movieId", rating="stars")
    path.write_bytes(b"user,item\n1,10\n1,20\n")
    implicit = interactions_file.load(path)
    assert implicit.ratings is None
    assert implicit.timestamps is None


def test_the_scale_is_an_argument(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"user,item,rating\n1,10,-10\n1,20,100\n")
    assert interactions_file.load(path, rating_scale=(-10, 100)).num_items == 2
    assert interactions_file.load(path, rating_scale=None).num_items == 2
    with pytest.raises(types.InputError, match=r":2:3: expected rating as a number from 0\.5 to 5, got '-10'"):
        interactions_file.load(path)
    path.write_bytes(b"user,item,rating\n1,10,1e39\n1,20,100\n")
    with pytest.raises(types.InputError, match=r":2:3: expected rating as a number from -3\.4"):
        interactions_file.load(path, rating_scale=None)


def test_the_separator_is_needed_where_the_name_does_not_tell(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"user item\n1 10\n1 20\n")
    with pytest.raises(types.InputError, match=r"expected a \.csv, .* or its separator"):
        interactions_file.load(path)
    assert interactions_file.load(path, separator=" ").num_items == 2


ROW = st.tuples(
    st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.floats(0.5, 5, width=32), st.integers(0, 2**53)
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, min_size=2, max_size=12, unique_by=(lambda row: row[0], lambda row: row[1])))
def test_what_is_written_is_read(tmp_path_factory, rows):
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False)
    path.write_text(buffer.getvalue())
    read = interactions_file.load(path)
    user_ids = np.arange(read.num_users) if read.user_ids is None else read.user_ids
    item_ids = np.arange(read.num_items) if read.item_ids is None else read.item_ids
    assert read.ratings is not None
    assert read.timestamps is not None
    assert user_ids[read.users].tolist() == frame.user.tolist()
    assert item_ids[read.items].tolist() == frame.item.tolist()
    assert read.ratings.tolist() == frame.rating.tolist()
    assert read.timestamps.tolist() == frame.timestamp.tolist()


def test_published_files(data_dir):
    latest = interactions_file.load(data_dir / "movielens-latest-small" / "ratings.csv.xz")
    assert (len(latest), latest.num_users, latest.num_items) == (100_836, 610, 9_724)
    assert latest.timestamps is not None
    with pytest.raises(types.InputError, match=r"ratings_assembled\.csv\.xz:487653:3: expected rating .* got nothing"):
        interactions_file.load(data_dir / "movielens-1m" / "ratings_assembled.csv.xz")
    pytest.importorskip("pyarrow")
    pairs = interactions_file.load(data_dir / "movielens-1m" / "pairs_all.parquet")
    assert (len(pairs), pairs.num_users, pairs.num_items) == (1_000_209, 6_040, 3_706)
