"""The command: one JSON line and status 0, or one message and status 2."""

import json
import subprocess
import sys

import pytest

from jaxrec import command
from jaxrec.datasets import check

DATA = b"1\t10\t5\t881250949\n1\t20\t3\t881250950\n2\t10\t4\t881250951\n"


def run(*args):
    """The command in a process of its own."""
    line = [sys.executable, "-m", "jaxrec.datasets.check", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, timeout=200)


def status(*args):
    """The exit status of the command in this process."""
    with pytest.raises(SystemExit) as left:
        command.run(check.main, check.Config, [str(arg) for arg in args])
    return left.value.code


def test_a_good_file_is_one_json_line_and_duplicates_one_line_of_warning(tmp_path):
    path = tmp_path / "u.data"
    path.write_bytes(DATA + b"1\t10\t5\t881250949\n")
    done = run(path)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"rows": 3, "users": 2, "items": 2}
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.startswith(f"{path}: dropped 1 rows that repeat an earlier row exactly")
    assert len(done.stderr.splitlines()) == 1


def test_a_bad_file_is_one_message(tmp_path):
    path = tmp_path / "u.data"
    path.write_bytes(DATA.replace(b"20", b"2_0"))
    done = run(path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{path}:2:2: expected item as a whole number")
    assert len(done.stderr.splitlines()) == 1


def test_the_scale_is_a_flag(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_bytes(b"user,item,rating\n1,1,10\n1,2,7\n")
    assert status(path) == 2
    assert capsys.readouterr().err.startswith(f"{path}:2:3: expected rating as a number from 0.5 to 5, got '10'")
    command.run(check.main, check.Config, [str(path), "--rating-scale", "1", "10"])
    assert json.loads(capsys.readouterr().out) == {"rows": 2, "users": 1, "items": 2}


def test_help_helps_and_a_file_is_needed(capsys):
    assert status("--help") == 0
    assert "*.inter" in capsys.readouterr().out
    assert status() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
