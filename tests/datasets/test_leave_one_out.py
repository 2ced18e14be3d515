"""The leave-one-out files: what is held out, from which files the items come, what becomes of odd negatives."""

import lzma

import numpy as np
import pytest

from jaxrec import types
from jaxrec.datasets import leave_one_out

TRAIN = b"0\t0\n0\t1\n1\t1\n1\t3\n1\t0\n2\t1\n"
TEST = b"0\t2\t5\t978824351\n1\t4\t3\t978300174\n"
NEGATIVES = b"(1,4)\t0\t2\n(0,2)\t2\t5\n"


def write(folder, train=TRAIN, test=TEST, negatives=NEGATIVES):
    for part, content in (("train.rating", train), ("test.rating", test), ("test.negative", negatives)):
        if content is not None:
            (folder / f"tiny.{part}").write_bytes(content)
    return folder


def pairs(interactions):
    return sorted(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def test_items_come_from_all_files_and_a_target_leaves_its_negatives(tmp_path):
    split = leave_one_out.load(write(tmp_path))
    assert (split.train.num_users, split.train.num_items) == (3, 6)
    assert pairs(split.test) == [(0, 2), (1, 4)]
    assert split.negatives is not None
    assert split.negatives.tolist() == [[-1, 5], [0, 2], [-1, -1]]
    assert split.negatives.dtype == np.int32


def test_validation_is_one_training_pair_of_each_user_who_has_several(tmp_path):
    folder = write(tmp_path)
    drawn = set()
    for seed in range(20):
        split = leave_one_out.load(folder, seed=seed)
        assert split.valid.users.tolist() == [0, 1]
        assert sorted(pairs(split.train) + pairs(split.valid)) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 3), (2, 1)]
        drawn.add(tuple(pairs(split.valid)))
    assert len(drawn) > 3
    again = leave_one_out.load(folder, "tiny", seed=0)
    assert pairs(again.valid) == pairs(leave_one_out.load(folder, seed=0).valid)


def test_validation_is_the_latest_pair_where_times_are_known(tmp_path):
    train = b"0\t0\t4\t30\n0\t1\t5\t20\n1\t1\t1\t7\n1\t3\t1\t8\n1\t0\t1\t8\n2\t1\t3\t1\n"
    for seed in range(3):
        split = leave_one_out.load(write(tmp_path, train=train), seed=seed)
        assert pairs(split.valid) == [(0, 0), (1, 0)]
        assert split.train.timestamps is not None


def test_negatives_may_be_absent_and_files_compressed(tmp_path):
    write(tmp_path, train=None, negatives=None)
    (tmp_path / "tiny.train.rating.xz").write_bytes(lzma.compress(TRAIN))
    split = leave_one_out.load(tmp_path)
    assert split.negatives is None
    assert split.train.num_items == 5  # item 5 is among the negatives only


BROKEN = {
    "three columns": ({"train": b"0\t0\t5\n0\t1\t4\n"}, r"train\.rating:1:4: expected 4 columns"),
    "mixed columns": ({"train": b"0\t0\n0\t1\t4\t5\n"}, r"train\.rating:2:3: expected 2 columns"),
    "second test pair": ({"test": TEST + b"0\t1\t5\t9\n"}, r"test\.rating:3:1: expected one pair a user, got user 0"),
    "no pair": ({"negatives": NEGATIVES.replace(b"(0,2)", b"0,2")}, r"test\.negative:2:1: expected pair as \(user,"),
    "another pair": ({"negatives": NEGATIVES.replace(b"(0,2)", b"(0,1)")}, r"test\.negative:2:1: expected pair"),
    "a pair twice": ({"negatives": NEGATIVES.replace(b"(0,2)", b"(1,4)")}, r"test\.negative:2:1: expected pair"),
    "a pair less": ({"negatives": b"(1,4)\t0\t2\n"}, r"test\.negative:1:1: expected a line for every .* \(0, 2\)"),
    "fewer negatives": ({"negatives": b"(1,4)\t0\t2\n(0,2)\t2\n"}, r"test\.negative:2:3: expected 3 columns"),
    "no negatives": ({"negatives": b"(1,4)\n(0,2)\n"}, r"test\.negative:1:2: expected 2 columns"),
    "word": ({"negatives": b"(1,4)\t0\tb\n(0,2)\t2\t5\n"}, r"test\.negative:1:3: expected negative 2 as a whole"),
    "no training file": ({"train": None}, r"expected a folder with one file NAME\.train\.rating, got 0"),
    "no test file": ({"test": None}, r"expected a folder with the file tiny\.test\.rating"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_placed(tmp_path, files, message):
    with pytest.raises(types.InputError, match=message):
        leave_one_out.load(write(tmp_path, **files))


def test_a_test_pair_that_is_a_training_pair_is_dropped(tmp_path, caplog):
    split = leave_one_out.load(write(tmp_path, train=TRAIN + b"0\t2\n"))
    assert pairs(split.test) == [(1, 4)]
    assert "dropped 1 held-out rows" in caplog.text


def test_movielens_1m(data_dir):
    split = leave_one_out.load(data_dir / "ml-1m-leave-one-out")
    assert len(split.train) + len(split.valid) == 994_169
    assert (len(split.valid), len(split.test)) == (6_040, 6_040)
    assert (split.train.num_users, split.train.num_items) == (6_040, 3_706)
    assert split.train.user_ids is None
    assert split.train.item_ids is None
    assert split.negatives is not None
    assert split.negatives.shape == (6_040, 99)
    assert ((split.negatives == -1).sum(axis=1) == 1).sum() == (split.negatives == -1).sum() == 156
    np.testing.assert_array_equal(split.valid.users, np.arange(6_040))
