"""The lists of NGCF: parts share their ids, repeats count once, and nothing is both trained on and held out."""

import logging

import pytest

from jaxrec.datasets import item_lists


def pairs(interactions):
    return list(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def test_parts_share_ids_and_overlaps_leave_the_held_out_parts(tmp_path, caplog):
    (tmp_path / "train.txt").write_bytes(b"0 4 1 4\n2 1\n")
    (tmp_path / "test.txt").write_bytes(b"0 7 1\n1 4\n")
    with caplog.at_level(logging.WARNING):
        split = item_lists.load(tmp_path)
    assert (split.train.num_users, split.train.num_items) == (3, 3)
    assert sorted(pairs(split.train)) == [(0, 0), (0, 1), (2, 0)]
    assert pairs(split.test) == [(0, 2), (1, 1)]
    assert len(split.valid) == 0
    assert "train.txt: dropped 1 rows that repeat an earlier row exactly" in caplog.text
    assert "test.txt: dropped 1 held-out rows whose pair is also a training row" in caplog.text
    (tmp_path / "valid.txt").write_bytes(b"0 9\n")
    assert pairs(item_lists.load(tmp_path).valid) == [(0, 3)]


def test_what_validation_shares_with_the_test_stays_there_alone(tmp_path, caplog):
    (tmp_path / "train.txt").write_bytes(b"0 4 1\n2 1\n")
    (tmp_path / "test.txt").write_bytes(b"0 7 9\n2 4\n")
    (tmp_path / "valid.txt").write_bytes(b"0 7\n2 4 1\n")
    with caplog.at_level(logging.WARNING):
        split = item_lists.load(tmp_path)
    assert (pairs(split.valid), pairs(split.test)) == ([(0, 2), (1, 1)], [(0, 3)])
    assert "test.txt: dropped 2 held-out rows whose pair is also a validation row" in caplog.text
    (tmp_path / "valid.txt").write_bytes(b"2 1\n")  # of which training leaves nothing
    assert pairs(item_lists.load(tmp_path).test) == [(0, 2), (0, 3), (1, 1)]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("gowalla", (719_081, 91_047, 217_242, 29_858, 40_981)),
        ("pinterest", (790_006, 0, 210_148, 37_501, 9_836)),
        ("yelp", (360_707, 0, 90_177, 19_539, 22_228)),
    ],
)
def test_published_lists(data_dir, name, counts, caplog):
    split = item_lists.load(data_dir / name)
    assert (*map(len, split[:3]), split.train.num_users, split.train.num_items) == counts
    if name == "pinterest":
        assert "dropped 15736 rows that repeat an earlier row exactly" in caplog.text
        assert "dropped 1076 rows that repeat an earlier row exactly" in caplog.text
        assert "dropped 8743 held-out rows" in caplog.text
    else:
        assert not caplog.text
