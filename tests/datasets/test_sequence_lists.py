"""Sequences: both forms, repeated items, and where lines are wrong."""

import pytest

from jaxrec import types
from jaxrec.datasets import sequence_lists


def events(path):
    read = sequence_lists.load(path)
    assert read.timestamps is not None
    return list(zip(read.users.tolist(), read.items.tolist(), read.timestamps.tolist(), strict=True))


def test_an_event_a_line_is_a_user_a_line(tmp_path):
    path = tmp_path / "x.txt"
    expected = [(0, 1, 0), (0, 0, 1), (0, 1, 2), (1, 2, 0)]
    path.write_bytes(b"5 20 10 20\n9 30\n")
    assert events(path) == expected
    path.write_bytes(b"9 30\n5 20\n5 10\n5 20")
    assert events(path) == expected
    path.write_bytes(b"5 20\r\n9 30\r\n5 10 20\r\n")
    assert events(path) == expected


BROKEN = {
    "user alone": (b"1 2\n3\n4 5\n", "2:1: expected user as a user with items after it, got '3'"),
    "blank line": (b"1 2\n\n4 5\n", "2:1: expected user as a whole number"),
    "two spaces": (b"1 2\n3  4\n", "2:2: expected item as a whole number"),
    "space at the end": (b"1 2\n3 4 \n", "2:3: expected item as a whole number"),
    "space at the start": (b"1 2\n 3 4\n", "2:1: expected user as a whole number"),
    "tab": (b"1 2\n3\t4\n", "2:1: expected user as a whole number"),
    "word": (b"1 2\n3 4 x\n", "2:3: expected item as a whole number"),
    "nul": (b"1 2\n3 4\0\n", "2:2: expected plain text, got a NUL byte"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_lines_are_placed(tmp_path, content, message):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(types.InputError) as raised:
        sequence_lists.load(path)
    assert str(raised.value).startswith(f"{path}:{message}")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("movielens-1m/sequences", (999_611, 6_040, 3_416)),
        ("amazon-video-games/Video", (287_107, 31_013, 23_715)),
        ("amazon-s3rec-sequences/Beauty", (198_502, 22_363, 12_101)),
        ("amazon-s3rec-sequences/Yelp", (316_354, 30_431, 20_033)),
        ("amazon-s3rec-sequences/LastFM", (52_551, 1_090, 3_646)),
    ],
)
def test_published_sequences(data_dir, name, counts):
    read = sequence_lists.load(data_dir / f"{name}.txt.xz")
    assert (len(read), read.num_users, read.num_items) == counts
