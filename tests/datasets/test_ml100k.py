"""MovieLens-100K: ratings, published splits, titles and users."""

import pytest

from jaxrec import types
from jaxrec.datasets import ml100k


def test_small_files(tmp_path):
    (tmp_path / "ua.base").write_bytes(b"1\t10\t5\t881250949\n3\t20\t1\t881250950\n")
    (tmp_path / "ua.test").write_bytes(b"1\t30\t4\t881250951\n")
    split = ml100k.load_split(tmp_path)
    assert (split.train.num_users, split.train.num_items) == (2, 3)
    assert split.test.items.tolist() == [2]
    assert len(split.valid) == 0
    flags = ["0"] * 19
    flags[1] = flags[18] = "1"
    row = "|".join(["10", "Été (1995)", "01-Jan-1995", "", "", *flags]) + "\n"
    (tmp_path / "u.item").write_bytes(row.encode("latin-1"))
    assert ml100k.items(tmp_path).to_dict("list") == {
        "movie_id": [10],
        "title": ["Été (1995)"],
        "genres": ["Action|Western"],
    }
    (tmp_path / "u.item").write_bytes(row.encode("latin-1").replace(b"|1|", b"|x|", 1))
    with pytest.raises(types.InputError, match=r"u\.item:1:7: expected Action as a number from 0 to 1, got 'x'"):
        ml100k.items(tmp_path)


def test_the_original(data_dir):
    folder = data_dir / "movielens-100k"
    read = ml100k.load(folder)
    assert (len(read), read.num_users, read.num_items) == (100_000, 943, 1682)
    for name in ("ua", "ub"):
        split = ml100k.load_split(folder, name)
        assert (len(split.train), len(split.test)) == (90_570, 9_430)
        assert (split.train.num_users, split.train.num_items) == (943, 1682)
    items, users = ml100k.items(folder), ml100k.users(folder)
    assert (len(items), len(users)) == (1682, 943)
    assert items.iloc[0].tolist() == [1, "Toy Story (1995)", "Animation|Children's|Comedy"]
    assert users.iloc[0].tolist() == [1, 24, "M", "technician", "85711"]
