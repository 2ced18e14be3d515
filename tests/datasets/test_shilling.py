"""Data sets with attack targets: rows of all files together, short lists filled, both forms of targets."""

import pytest

from jaxrec import types
from jaxrec.datasets import shilling

FILES = {
    "set_train.dat": b"0\t10\t5.0\n1\t20\t3.0\n",
    "set_test.dat": b"1\t10\t4.0\n",
    "set_selected_items": b"30\t10,20\n20\t10",
    "set_target_users": b"30\t0,1\n20\t1",
}


def write(folder, **changes):
    for name, content in {**FILES, **changes}.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def test_lists_are_filled_and_items_of_all_files_have_rows(tmp_path):
    read = shilling.load(write(tmp_path), "set")
    assert (read.split.train.num_users, read.split.train.num_items) == (2, 3)
    assert read.targets.tolist() == [2, 1]
    assert read.selected_items.tolist() == [[0, 1], [0, -1]]
    assert read.target_users is not None
    assert read.target_users.tolist() == [[0, 1], [1, -1]]
    assert len(read.split.test) == 1


def test_target_items_alone(tmp_path):
    read = shilling.load(write(tmp_path, set_target_users=None, set_target_item=b"30\n20\n"), "set")
    assert read.targets.tolist() == [2, 1]
    assert read.target_users is None


BROKEN = {
    "list with a space": ({"set_selected_items": b"30\t10, 20\n20\t10"}, r"selected_items:1:3: expected id as"),
    "empty list": ({"set_selected_items": b"30\t\n20\t10"}, r"selected_items:1:2: expected id as"),
    "comma after the target": ({"set_selected_items": b"30,10\t20\n20\t10"}, r"selected_items:1:1: expected target"),
    "no list": ({"set_selected_items": b"30\n20\t10"}, r"selected_items:1:2: expected 2 columns"),
    "other targets": ({"set_target_users": b"30\t0,1\n10\t1"}, r"target_users:1:1: expected the targets of set_sel"),
    "no targets": ({"set_target_users": None}, r"expected a folder with the file set_target_item"),
    "rating": ({"set_train.dat": b"0\t10\t5.0\n1\t20\t5.5\n"}, r"train\.dat:2:3: expected rating as a number"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_placed(tmp_path, changes, message):
    with pytest.raises(types.InputError, match=message):
        shilling.load(write(tmp_path, **changes), "set")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("filmTrust", (25_917, 2_879, 780, 40)),  # one test pair is a training pair
        ("automotive", (18_425, 2_048, 2_928, 15)),
        ("ml100k", (90_570, 9_430, 943, 11)),
        ("ToolHome", (20_816, 2_711, 891, 2_043)),
        ("GroceryFood", (49_410, 6_292, 1_777, 1_743)),
        ("AppAndroid", (144_936, 18_657, 5_880, 2_641)),
        ("yelp", (106_112, 13_124, 2_762, 2_307)),  # likewise
    ],
)
def test_published_sets(data_dir, name, counts):
    read = shilling.load(data_dir / "shilling-attack", name)
    assert (len(read.split.train), len(read.split.test), read.split.train.num_users, len(read.targets)) == counts
    assert (read.target_users is None) == (name in ("ToolHome", "GroceryFood", "AppAndroid", "yelp"))
