"""Files are found plain or compressed, and archives are read whole or refused."""

import io
import random
import zipfile

import pytest

from jaxrec import types
from jaxrec.datasets import stored


def archive(*members: str | zipfile.ZipInfo) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for member in members:
            file.writestr(member, b"content")
    return buffer.getvalue()


def test_members_of_an_archive_are_found_in_any_folder(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(archive("ml/README", "ml/ratings.dat"))
    assert stored.members(path, ["ratings.dat", "movies.dat"]) == {"ratings.dat": b"content"}


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize("member", ["../out", "/out", "a/../../out", "..\\out", "C:\\out", "a/..", link()], ids=str)
def test_an_archive_is_refused_whole_when_a_member_would_leave(tmp_path, member):
    path = tmp_path / "a.zip"
    path.write_bytes(archive("ratings.dat", member))
    with pytest.raises(types.InputError, match="members stay in its folder"):
        stored.members(path, ["ratings.dat"])


def test_broken_archives_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    whole = archive("ratings.dat")
    twice = archive("a/ratings.dat", "b/ratings.dat")
    for broken in (whole[:-10], whole.replace(b"content", b"CONTENT"), b"", twice):
        path.write_bytes(broken)
        with pytest.raises(types.InputError, match=r"a\.zip:1:1: expected (a whole zip archive|one file)"):
            stored.members(path, ["ratings.dat"])
    rng = random.Random(0)
    for _ in range(300):
        mutated = bytearray(whole)
        for _ in range(3):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        path.write_bytes(mutated)
        try:
            found = stored.members(path, ["ratings.dat"])
        except types.InputError:
            continue
        assert found in ({}, {"ratings.dat": b"content"})
