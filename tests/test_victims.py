"""Factor matrices of any library become victims, and what is wrong with a file is said in one line."""

import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import victims
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


@pytest.mark.parametrize("content", [None, "{}", '{"config": {}, "data": 3}', "no json"])
def test_what_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="Expected a run directory"):
        victims.of_run(tmp_path)
