"""Laws of files and logs."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import files
from jaxrec.types import InputError


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    files.write_json(path, {"a": [0.1, 1]})

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_json(path, {"b": 2})
    assert json.loads(path.read_text()) == {"a": [0.1, 1]}
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    with pytest.raises(ValueError, match="nan"):
        files.write_json(path, math.nan)


@pytest.mark.parametrize("text", ["{", ""])
def test_a_damaged_file_is_named_in_a_line(tmp_path, text):
    (tmp_path / "kept").write_text(text)
    for read in (files.read_json, files.read_npz):
        with pytest.raises(InputError, match=r"kept, got .*Remove it to make"):
            read(tmp_path / "kept")


def test_arrays_are_read_by_name_and_a_missing_one_is_named(tmp_path):
    with files.whole(tmp_path / "kept.npz") as file:
        np.savez(file, a=np.arange(3), b=np.ones(2))
    assert sorted(files.read_npz(tmp_path / "kept.npz")) == ["a", "b"]
    assert list(files.read_npz(tmp_path / "kept.npz", ["b"])) == ["b"]
    with pytest.raises(InputError, match="'c is not a file in the archive'"):
        files.read_npz(tmp_path / "kept.npz", ["c"])


def test_a_log_gives_back_the_numbers_it_got(tmp_path):
    log = files.Log(tmp_path / "metrics.jsonl")
    single = np.float32(0.1)
    line = {"z": 0.1 + 0.2, "a": single, "n": np.int32(3), "t": (1, 2), "j": jnp.float32(0.1)}
    log.write(line)
    text = (tmp_path / "metrics.jsonl").read_text()  # before it is closed: each line is flushed
    log.close()
    assert list(json.loads(text)) == list(line)
    assert json.loads(text) == {"z": 0.1 + 0.2, "a": float(single), "n": 3, "t": [1, 2], "j": float(single)}


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), [1.0, math.nan], np.array([1.0, math.inf])])
def test_a_log_takes_no_number_that_is_not_finite(tmp_path, value):
    log = files.Log(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.write({"loss": value})
    assert log.position() == 0
    log.close()


def test_a_resumed_log_ends_with_the_same_bytes(tmp_path):
    with contextlib.closing(files.Log(tmp_path / "whole.jsonl")) as whole:
        for step in range(6):
            whole.write({"step": step, "loss": 1 / (step + 1)})
    path = tmp_path / "resumed.jsonl"
    with contextlib.closing(files.Log(path)) as first:
        for step in range(3):
            first.write({"step": step, "loss": 1 / (step + 1)})
        position = first.position()
        first.write({"step": 3, "loss": 0.0})
    path.write_bytes(path.read_bytes() + b'{"step": 4, "lo')  # killed in the middle of a line
    with contextlib.closing(files.Log(path)) as second:
        second.truncate(position)
        for step in range(3, 6):
            second.write({"step": step, "loss": 1 / (step + 1)})
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_half_a_line_is_dropped_when_a_log_is_opened(tmp_path):
    path = tmp_path / "timings.jsonl"
    for before in (b"", b'{"step": 1}\n'):
        path.write_bytes(before + b'{"step": 2, "sec')
        with contextlib.closing(files.Log(path)) as log:
            log.write({"step": 3})
        assert path.read_bytes() == before + b'{"step": 3}\n'


@pytest.mark.parametrize("full", ["/dev/full", "half"])
def test_a_line_that_cannot_be_written_whole_is_named(tmp_path, monkeypatch, full):
    log = files.Log(tmp_path / "metrics.jsonl")
    log.close()
    half = types.SimpleNamespace(write=lambda data: 3, close=lambda: None)
    broken = half if full == "half" else io.FileIO(full, "ab")
    monkeypatch.setattr(log, "_file", broken)
    with pytest.raises(InputError, match=r"Could not write to .*metrics\.jsonl: (No space left|3 of 12 bytes)"):
        log.write({"step": 1})
    log.close()


def test_a_log_shorter_than_its_checkpoint_says_is_refused(tmp_path):
    with contextlib.closing(files.Log(tmp_path / "metrics.jsonl")) as log:
        log.write({"step": 1})
        with pytest.raises(InputError, match=r"at least 99 bytes in .*metrics\.jsonl.* found 12"):
            log.truncate(99)
