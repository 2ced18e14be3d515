"""MovieLens-1M: its three files out of a folder, an archive or a part of the original."""

import gzip
import zipfile

import numpy as np
import pytest

from jaxrec import types
from jaxrec.datasets import ml1m

RATINGS = b"1::1193::5::978300760\n1::661::3::978302109\n9::1193::4::978300700\n"
MOVIES = "661::Misérables, Les (1995)::Drama|Musical\n1193::Cuckoo's Nest: One (1975)::Drama\n".encode("latin-1")
USERS = b"1::F::1::10::48067\n9::M::56::16::98107-2117\n"


def check(path):
    read = ml1m.load(path)
    assert read.users.tolist() == [0, 0, 1]
    assert read.items.tolist() == [1, 0, 1]
    assert read.ratings is not None
    assert read.ratings.tolist() == [5, 3, 4]
    assert read.timestamps is not None
    assert read.timestamps.tolist() == [978300760, 978302109, 978300700]
    assert read.user_ids is not None
    assert read.user_ids.tolist() == [1, 9]
    assert read.item_ids is not None
    assert read.item_ids.tolist() == [661, 1193]


def test_folder_archive_and_file_hold_the_same(tmp_path):
    (tmp_path / "ratings.dat.gz").write_bytes(gzip.compress(RATINGS))
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        for name, content in (("ratings", RATINGS), ("movies", MOVIES), ("users", USERS)):
            archive.writestr(f"ml-1m/{name}.dat", content)
    for path in (tmp_path, tmp_path / "ml-1m.zip", tmp_path / "ratings.dat.gz"):
        check(path)
    movies = ml1m.movies(tmp_path / "ml-1m.zip")
    assert movies.movie_id.tolist() == [661, 1193]
    assert movies.title.tolist() == ["Misérables, Les (1995)", "Cuckoo's Nest: One (1975)"]
    assert movies.genres.tolist() == ["Drama|Musical", "Drama"]
    users = ml1m.users(tmp_path / "ml-1m.zip")
    assert users.to_dict("list") == {
        "user_id": [1, 9],
        "gender": ["F", "M"],
        "age": [1, 56],
        "occupation": [10, 16],
        "zip_code": ["48067", "98107-2117"],
    }


def test_what_is_wrong_in_an_archive_is_placed(tmp_path):
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", RATINGS.replace(b"661", b"six"))
    with pytest.raises(types.InputError, match=r"ml-1m\.zip/ratings\.dat:2:2: expected item"):
        ml1m.load(path)
    with pytest.raises(types.InputError, match=r"archive with the file movies\.dat, got none"):
        ml1m.movies(path)
    with pytest.raises(types.InputError, match=r"folder with the file ratings\.dat"):
        ml1m.load(tmp_path)


def test_the_first_2999_users_of_the_original(data_dir):
    read = ml1m.load(data_dir / "movielens-1m" / "ratings_users1-2999.dat.gz")
    assert (len(read), read.num_users) == (487_650, 2999)
    assert read.item_ids is not None
    assert read.item_ids[read.items[0]] == 1193
    assert read.timestamps is not None
    assert read.timestamps.min() > 956_000_000
    movies = ml1m.movies(data_dir / "movielens-1m")
    assert len(movies) == 3883
    assert np.isin(read.item_ids, movies.movie_id).all()
    assert "Misérables, Les (1995)" in set(movies.title)
    assert len(ml1m.users(data_dir / "movielens-1m")) == 6040
