"""Laws of what a result depends on: the data and the commit."""

from __future__ import annotations

import pathlib
import subprocess

import numpy as np

from jaxrec import provenance, types


def interactions(**changes) -> types.Interactions:
    """Three interactions of two users and three items, with every column."""
    columns = {
        "users": np.array([0, 1, 1], np.int32),
        "items": np.array([2, 0, 1], np.int32),
        "num_users": 2,
        "num_items": 3,
        "ratings": np.array([1.0, 2.0, 3.0], np.float32),
        "timestamps": np.array([5, 6, 7], np.int64),
        "user_ids": np.array(["ann", "bob"], object),
        "item_ids": np.array([10, 20, 30]),
    }
    return types.Interactions(**(columns | changes))


def test_the_fingerprint_counts_and_hashes():
    assert provenance.fingerprint(interactions()) | {"sha256": ""} == {"rows": 3, "users": 2, "items": 3, "sha256": ""}
    split = types.Split(interactions(), interactions(), interactions().take(np.array([0])))
    assert provenance.fingerprint(split) | {"sha256": ""} == {"rows": 7, "users": 2, "items": 3, "sha256": ""}
    assert provenance.fingerprint(split) == provenance.fingerprint(types.Split(*split))


def test_the_fingerprint_sees_every_column_its_type_and_its_shape():
    changed = [
        {},
        {"users": np.array([1, 1, 1], np.int32)},
        {"items": np.array([2, 0, 2], np.int32)},
        {"num_users": 4, "user_ids": None},
        {"num_users": 5, "user_ids": None},
        {"ratings": None},
        {"ratings": np.array([1.0, 2.0, np.nextafter(np.float32(3), 4, dtype=np.float32)], np.float32)},
        {"timestamps": np.array([5, 6, 8], np.int64)},
        {"user_ids": np.array(["ann", "bop"], object)},
        {"item_ids": np.array([10, 20, 30], np.int32)},
    ]
    hashes = [provenance.fingerprint(interactions(**change))["sha256"] for change in changed]
    data = interactions()
    for negatives in (None, np.zeros((2, 2), np.int32), np.zeros((4, 1), np.int32)):
        hashes.append(provenance.fingerprint(types.Split(data, data, data, negatives))["sha256"])
    assert len(set(hashes)) == len(hashes)
    equal = interactions(user_ids=np.array(["".join("ann"), "".join("bob")], object))  # other objects, equal words
    assert provenance.fingerprint(equal)["sha256"] == hashes[0]


def test_the_fingerprint_of_arrays_sees_names_types_and_values():
    images, labels = np.zeros((3, 2, 2), np.uint8), np.array([0, 1, 2], np.uint8)
    first = provenance.of_arrays({"images": images, "labels": labels})
    assert first["rows"] == 6
    others = [
        {"images": images, "labels": labels[::-1]},
        {"images": images, "labels": labels.astype(np.int8)},
        {"images": images.reshape(3, 4), "labels": labels},
        {"images": images, "classes": labels},
    ]
    assert len({first["sha256"], *(provenance.of_arrays(other)["sha256"] for other in others)}) == 5
    assert provenance.of_arrays({"images": images.copy(), "labels": labels}) == first


def git(tree: pathlib.Path, *args: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", "-C", tree, *identity, *args], capture_output=True, text=True, check=True).stdout


def test_the_commit_says_whether_the_code_was_changed(tmp_path, monkeypatch):
    module = tmp_path / "jaxrec" / "provenance.py"
    module.parent.mkdir()
    module.touch()
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance.commit() == "unknown"
    git(tmp_path, "init", "-q")
    assert provenance.commit() == "unknown"  # nothing is committed
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    short = git(tmp_path, "rev-parse", "--short", "HEAD").strip()
    (tmp_path / "notes.txt").touch()
    assert provenance.commit() == short
    (tmp_path / "jaxrec" / "new.py").touch()
    assert provenance.commit() == f"{short}-dirty"
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "venv" / "lib" / "jaxrec" / "provenance.py"))
    (tmp_path / "venv" / "lib").mkdir(parents=True)
    assert provenance.commit() == "unknown"  # that tree is not ours
