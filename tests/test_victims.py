"""Factor matrices of any library and models of a run become victims; what is wrong with a file is said in one line."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import audit, checkpoint, evaluate, exhibits, provenance, robustness, train, victims
from jaxrec.datasets import locate
from jaxrec.types import InputError

USER = np.arange(12, dtype=np.float64).reshape(4, 3) / 10
ITEM = np.arange(15, dtype=np.float32).reshape(5, 3) / 7
ROWS = "user,item,timestamp\n3,0,1\n3,4,2\n3,1,3\n0,2,5\n0,3,6\n0,0,7\n"


@pytest.fixture
def files(tmp_path):
    for name, array in (("u", USER), ("i", ITEM), ("b", np.linspace(-1, 1, 5))):
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "seen.csv").write_text(ROWS)
    return tmp_path


def load(files, **more):
    return victims.of_factors(files / "u.npy", files / "i.npy", files / "seen.csv", **more)


def test_scores_are_the_products_of_the_given_rows(files):
    victim = load(files).victim
    scores = victim.model.score_all(victim.params, jnp.arange(4))
    np.testing.assert_allclose(scores, USER @ ITEM.T, rtol=1e-6)


def test_item_biases_are_added_and_left_alone(files):
    victim = load(files, item_bias=files / "b.npy").victim
    scores = victim.model.score_all(victim.params, jnp.arange(4))
    np.testing.assert_allclose(scores, USER @ ITEM.T + np.linspace(-1, 1, 5), rtol=1e-5, atol=1e-6)
    assert victim.surface.get(victim.params)["item"].shape == (5, 3)
    assert victim.factors is not None
    factors = victim.factors(victim.params)
    np.testing.assert_allclose(factors.item_bias, np.linspace(-1, 1, 5), rtol=1e-6)
    np.testing.assert_allclose(factors.user @ factors.item.T, USER @ ITEM.T, rtol=1e-5)


def test_ids_are_row_numbers_and_the_last_item_is_held_out(files):
    loaded = load(files)
    split = loaded.victim.split
    assert (split.train.num_users, split.train.num_items) == (4, 5)
    assert dict(zip(split.test.users.tolist(), split.test.items.tolist(), strict=True)) == {3: 1, 0: 0}
    assert any("may have been trained" in note for note in loaded.notes)


def test_held_out_items_of_their_own_file_are_ranked(files):
    (files / "test.csv").write_text("user,item\n3,2\n1,4\n")
    loaded = load(files, held_out=files / "test.csv")
    split = loaded.victim.split
    assert len(split.train) == 6
    assert len(split.valid) == 0
    assert dict(zip(split.test.users.tolist(), split.test.items.tolist(), strict=True)) == {3: 2, 1: 4}
    assert not any("may have been trained" in note for note in loaded.notes)


def test_one_item_may_be_held_out_of_everyone(files):
    (files / "test.csv").write_text("user,item\n0,4\n2,4\n")
    test = load(files, held_out=files / "test.csv").victim.split.test
    assert dict(zip(test.users.tolist(), test.items.tolist(), strict=True)) == {0: 4, 2: 4}


def break_pickle(files):
    with (files / "u.npy").open("wb") as file:
        pickle.dump(USER, file)


BROKEN = {
    "a pickle": (break_pickle, r"Expected a \.npy file of numbers, got .*u\.npy"),
    "no file": (lambda files: (files / "u.npy").unlink(), r"u\.npy"),
    "objects": (lambda files: np.save(files / "u.npy", np.array([{}], object)), r"u\.npy"),
    "words": (lambda files: np.save(files / "u.npy", np.array([["a"]])), "numbers with 2 axes"),
    "one axis": (lambda files: np.save(files / "u.npy", USER[0]), "numbers with 2 axes"),
    "another length": (lambda files: np.save(files / "u.npy", USER[:, :2]), "2 columns and .* with 3"),
    "infinite": (lambda files: np.save(files / "u.npy", USER / 0.0), r"finite float32 numbers .* at \[0, 0\]"),
    "float32 overflow": (lambda files: np.save(files / "u.npy", USER * 1e39), r"finite float32 numbers .* at \[1, 1\]"),
    "an item without a row": (
        lambda files: (files / "seen.csv").write_text("user,item\n0,5\n0,1\n1,1\n"),
        r"item ids in \[0, 5\), row numbers of the factors, in .*seen\.csv, got 5",
    ),
    "users without gaps, one without a row": (
        lambda files: (files / "seen.csv").write_text("user,item\n0,1\n1,2\n2,0\n3,1\n4,2\n"),
        r"user ids in \[0, 4\), row numbers of the factors, in .*seen\.csv, got 4",
    ),
    "items without gaps, one without a row": (
        lambda files: (files / "seen.csv").write_text("user,item\n0,0\n0,1\n1,2\n2,3\n3,4\n0,5\n"),
        r"item ids in \[0, 5\), row numbers of the factors, in .*seen\.csv, got 5",
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_wrong_files_are_refused_by_name(files, name):
    spoil, message = BROKEN[name]
    spoil(files)
    with pytest.raises(InputError, match=message):
        load(files)


def test_biases_of_another_number_of_items_are_refused(files):
    np.save(files / "b.npy", np.zeros(4))
    with pytest.raises(InputError, match=r"bias for each of 5 items in .*b\.npy, got 4"):
        load(files, item_bias=files / "b.npy")


def test_two_held_out_items_of_a_user_are_refused(files):
    (files / "test.csv").write_text("user,item\n3,2\n3,3\n")
    with pytest.raises(InputError, match="at most one held-out item"):
        load(files, held_out=files / "test.csv")


def test_nobody_whose_last_item_can_be_held_out_is_refused(files):
    (files / "seen.csv").write_text("user,item\n0,1\n0,2\n1,1\n")
    with pytest.raises(InputError, match=r"a user with three items or more in .*seen\.csv, or held-out items"):
        load(files)


@pytest.mark.parametrize("content", [None, "{}", '{"config": {}, "data": 3}', "no json"])
def test_what_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="Expected a run directory"):
        victims.of_run(tmp_path)


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """A run on ratings in the original's format, with titles: 20 users rate ten of 15 movies each, the last at last."""
    rng = np.random.default_rng(0)
    rows = [(user, movie, 100 * user + t) for user in range(20) for t, movie in enumerate(rng.permutation(15)[:10])]
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("".join(f"{u + 1}::{10 * m + 1}::5::{time}\n" for u, m, time in rows))
    movies = (f"{10 * m + 1}::Am\xe9lie {m} (2001)::Comedy\n" for m in range(15))
    (folder / "movies.dat").write_bytes("".join(movies).encode("latin-1"))
    monkeypatch.setattr(locate, "NUM_RATINGS", len(rows))
    path = tmp_path / "run"
    optimizer, key = optax.adagrad(0.05, initial_accumulator_value=0.1), jax.random.key(0)
    tables = {"user": rng.normal(size=(20, 4)), "item": rng.normal(size=(15, 4))}
    tables = {name: jnp.asarray(table, jnp.float32) for name, table in tables.items()}
    with checkpoint.Checkpoints(path / "checkpoints" / "apr-0") as checkpoints:
        checkpoints.save(7, train.init_state({"tables": tables, "weights": {}}, optimizer, key), {}, 0.5)
    data = provenance.fingerprint(locate.movielens_1m(folder).split)
    config = {"dimension": 4, "seed": 0, "learning_rate": 0.05}
    (path / "config.json").write_text(json.dumps({"config": config, "data": data}))
    return path, folder


def test_a_model_of_a_run_is_the_best_of_its_stage_and_knows_its_movies_by_title(finished_run):
    path, folder = finished_run
    loaded = victims.of_run(path, stage="apr", data_dir=folder)
    assert (loaded.model, loaded.defence, loaded.dataset, loaded.step) == ("MF 4", "APR", "ml-1m", 7)
    assert loaded.victim.params["tables"]["item"].shape == (15, 4)
    assert loaded.victim.items == [f"Am\xe9lie {movie} (2001)" for movie in range(15)]
    assert loaded.victim.users == [str(user) for user in range(1, 21)]
    with pytest.raises(InputError, match=r"bpr-0, got none; there are: apr-0"):
        victims.of_run(path, data_dir=folder)


def test_changed_lists_of_a_run_are_lists_of_titles(finished_run):
    path, folder = finished_run
    everyone = np.arange(20, dtype=np.int32)
    ranks = evaluate.Ranks(everyone, np.ones(20), np.full(20, 5), 0)

    def measured(attack, lists):
        return robustness.Measurement(attack, 0.1, "relative", ranks, lists, np.zeros(20), 0.1, 1.0, 1, 1, "", {})

    before = np.tile(np.arange(3, dtype=np.int32), (20, 1))
    after = before.copy()
    after[4] = [2, 9, 14]
    attacked = {"relative": {"PGD": [measured("PGD", after)]}}
    findings = audit.Findings(measured("none", before), attacked, {}, {"relative": [0.1]}, 3)
    victim = victims.of_run(path, stage="apr", data_dir=folder).victim
    first, *_ = exhibits.changed_lists(findings, victim, "relative", 0.1, num=1)
    assert first["user"] == "5"
    assert first["before"] == [f"Am\xe9lie {movie} (2001)" for movie in (0, 1, 2)]
    assert first["after"] == [f"Am\xe9lie {movie} (2001)" for movie in (2, 9, 14)]
