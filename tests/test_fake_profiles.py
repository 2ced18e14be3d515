"""How fakes join the data, and come back from a file with the hash they had."""

import dataclasses

import numpy as np
import pytest

from jaxrec import fake_files, fake_profiles, provenance
from jaxrec.types import InputError, Interactions


def make(users, items, ratings=None, *, num_users=2, num_items=5, **more):
    columns = (np.array(users, np.int32), np.array(items, np.int32), num_users, num_items)
    return Interactions(*columns, ratings=None if ratings is None else np.array(ratings, np.float32), **more)


REAL = make([0, 0, 1, 1], [0, 1, 4, 2], [1, 3, 5, 4])
FAKES = make([0, 1, 1], [3, 3, 2], [5, 4, 1])


def test_fakes_are_new_users_after_the_real_ones():
    both = fake_profiles.contaminate(REAL, FAKES)
    assert both.users.tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert both.items.tolist() == [0, 1, 4, 2, 3, 3, 2]
    assert both.ratings.tolist() == [1, 3, 5, 4, 5, 4, 1]
    assert (both.num_users, both.num_items) == (4, 5)


@pytest.mark.parametrize(
    ("ids", "more"), [([7, 3], [8, 9]), (["a", "fake-1"], ["fake-0", "fake-2"]), (["ann", "bo"], ["fake-0", "fake-1"])]
)
def test_no_real_id_is_used_again(ids, more):
    real = dataclasses.replace(REAL, user_ids=np.array(ids))
    assert fake_profiles.contaminate(real, FAKES).user_ids.tolist() == [*ids, *more]


@pytest.mark.parametrize(
    ("fakes", "message"),
    [
        (make([0], [5], [3], num_items=6), "fakes of the 5 items, got fakes of 6"),
        (make([0, 0], [2, 2], [3, 4]), "item 2 twice in that of fake 0"),
        (make([0], [2], [5.5]), r"among the 4 ratings of the data, in \[1, 5\], got 5.5"),
        (make([0], [2], [3.75]), r"among the 4 ratings of the data, in \[1, 5\], got 3.75"),
        (make([0], [2]), r"ratings in both, or in neither"),
        (make([0], [2], [3], timestamps=np.array([1])), r"timestamps in both, or in neither"),
    ],
)
def test_fakes_that_do_not_fit_are_refused(fakes, message):
    with pytest.raises(InputError, match=message):
        fake_profiles.contaminate(REAL, fakes)


def test_an_attack_file_gives_back_what_was_written(tmp_path):
    about = {"attack": "by hand", "targets": [3]}
    digest = fake_files.write(tmp_path / "a.npz", FAKES, about)
    fakes, said = fake_files.read(tmp_path / "a.npz")
    assert provenance.fingerprint(fakes) == provenance.fingerprint(FAKES)
    assert said == about
    assert digest == fake_files.sha256(fakes)
    assert fake_files.sha256(dataclasses.replace(FAKES, item_ids=np.arange(5))) == digest
    first = (tmp_path / "a.npz").read_bytes()
    fake_files.write(tmp_path / "a.npz", FAKES, about)
    assert (tmp_path / "a.npz").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_an_attack_file_for_other_data_is_refused_where_it_is_said_what_it_is_to_be_for(tmp_path):
    of = provenance.fingerprint(REAL)
    fake_files.write(tmp_path / "a.npz", FAKES, {"of": of})
    fake_files.write(tmp_path / "b.npz", FAKES, {})
    assert fake_files.read(tmp_path / "a.npz", of=of)[1] == {"of": of}
    others = provenance.fingerprint(dataclasses.replace(REAL, ratings=None))
    for name, given in (("a.npz", others), ("b.npz", of)):
        with pytest.raises(InputError, match=f"for data with SHA-256 {given['sha256'][:16]} in .*{name}, got such for"):
            fake_files.read(tmp_path / name, of=given)


def test_an_attack_file_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    fake_files.write(path, FAKES, {})
    with np.load(path) as file:
        kept = dict(file)
    np.savez(path, **{**kept, "items": kept["items"][::-1]})
    with pytest.raises(InputError, match="Expected profiles with SHA-256"):
        fake_files.read(path)
    for damaged in (b"nothing of the kind", b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="Expected crafted profiles"):
            fake_files.read(path)
