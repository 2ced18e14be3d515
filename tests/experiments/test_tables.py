"""Laws of the tables and of the list of experiments."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from experiments import __main__ as listing
from experiments import tables
from jaxrec import records
from jaxrec.types import InputError


def write_run(path: pathlib.Path, value: float) -> None:
    fields: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(records.Record))
    words = ("experiment", "model", "dataset", "split", "protocol", "metric", "device", "commit", "fingerprint")
    fields |= dict.fromkeys(words, "x") | {"value": value, "seeds": (0,), "users": 3}
    path.mkdir(parents=True)
    records.write_records(path / "results.json", [records.Record(**fields)])


def test_every_table_is_made_again_byte_for_byte(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in (("a/one", 0.1), ("b/two", 0.2)):
        write_run(tmp_path / "runs" / name, value)
    tables.main(tables.Config())
    made = {path: path.read_bytes() for path in sorted(tmp_path.rglob("results.md"))}
    assert [path.parent.name for path in made] == ["one", "two"]
    assert b"| 0.2000 |" in made[tmp_path / "runs/b/two/results.md"]
    for path in made:
        path.write_text("by hand")
    tables.main(tables.Config())
    assert {path: path.read_bytes() for path in made} == made
    assert capsys.readouterr().out.split() == ["runs/a/one/results.md", "runs/b/two/results.md"] * 2


def test_a_named_run_is_made_alone_and_a_missing_one_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="found none"):
        tables.main(tables.Config())
    write_run(tmp_path / "run", 0.1)
    tables.main(tables.Config((tmp_path / "run",)))
    assert (tmp_path / "run" / "results.md").exists()
    with pytest.raises(InputError, match=r"Expected records in .*elsewhere/results\.json"):
        tables.main(tables.Config((tmp_path / "elsewhere",)))


DOCSTRING = '''"""APR on MovieLens-1M: a claim (He et al., SIGIR 2018).

More about it.

Expected: HR@10 0.086 -> 0.087 (5 seeds,
full ranking). Cost: 4 minutes on 2 CPU cores.
Run:      python -m experiments.apr --epsilon 1.0
"""
import nothing_there
'''


def test_experiments_are_listed_with_claim_cost_and_command_without_importing_them(tmp_path):
    (tmp_path / "apr.py").write_text(DOCSTRING)
    (tmp_path / "bare.py").write_text("x = 1\n")
    (tmp_path / "tool.py").write_text('"""A tool."""\n')
    assert listing.find(tmp_path) == {
        "apr": listing.Experiment(
            claim="APR on MovieLens-1M: a claim (He et al., SIGIR 2018).",
            expected="HR@10 0.086 -> 0.087 (5 seeds, full ranking).",
            cost="4 minutes on 2 CPU cores.",
            run="python -m experiments.apr --epsilon 1.0",
        )
    }


def test_the_list_comes_without_jax():
    code = """if True:
        import runpy, sys
        runpy.run_module("experiments", None, "__main__")
        print("jax" in sys.modules)
    """
    root = pathlib.Path(tables.__file__).parents[1]
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "False"
    experiments = listing.find(root / "experiments")
    assert [line.partition(":")[0] for line in lines[:-1] if not line.startswith(" ")] == list(experiments)
    assert "tables" not in experiments
