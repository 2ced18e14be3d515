"""Recommendations out of runs, end to end: what is printed, for whom, and what is refused in a line."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
import tiny_table

from experiments import ml1m_sequential_table, recommend
from jaxrec import command
from jaxrec.models import ease
from jaxrec.studies import model_table, table_records
from jaxrec.types import Interactions

ROOT = pathlib.Path(__file__).parents[2]


def run(*args):
    command.run(recommend.main, recommend.Config, [str(arg) for arg in args])


def refusal(capsys, *args):
    """The one line that a refused command leaves with."""
    with pytest.raises(SystemExit) as exit:
        run(*args)
    assert exit.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()
    return error[-1]


@pytest.fixture(autouse=True)
def experiment(monkeypatch):
    monkeypatch.setitem(sys.modules, "experiments.tiny_table", tiny_table)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """(run directory, its csv): users 10, 20, ... like every other of the items 100, 101, ..., nobody number 115."""
    folder = tmp_path_factory.mktemp("table")
    rng, lines = np.random.default_rng(0), ["user,item,timestamp"]
    for user in range(12):
        for place, item in enumerate(rng.permutation(np.arange(user % 2, 14, 2))[:6]):
            lines.append(f"{10 * user + 10},{100 + item},{place}")
    lines += ["500,115,1", "500,100,2"]  # too few to hold any out
    data = folder / "mine.csv"
    data.write_text("\n".join(lines) + "\n")
    config = tiny_table.Config(data=data, run_dir=folder / "run")
    table_records.execute("tiny_table", config, *tiny_table.parts(config))
    return folder / "run", data


def test_a_row_of_a_table_recommends_what_it_ranked(table, tmp_path, capsys):
    """The list is the one that was measured, with the scores and ids of the file."""
    path, data = table
    _, on, rows = tiny_table.parts(tiny_table.Config(data=data))
    for row, model in ((rows[0], "MF / BPR"), (rows[1], "ease")):
        run("--run", path, "--user", 30, "--k", 5, "--model", model, "--json", tmp_path / "found.json")
        found = json.loads((tmp_path / "found.json").read_text())
        cell = model_table.read_cell(next((path / "measured").glob(f"{model.replace(' / ', '___').lower()}-3.npz")))
        ids = on.both.item_ids
        assert [item["id"] for item in found["items"]] == ids[cell.measured.lists[2]].tolist()
        (chosen,) = model_table.chosen(path, [row], on, 3)
        params = model_table.trained(path, chosen, on, 3, 3)
        scores = np.asarray(jax.jit(chosen.model.score_all)(params, jnp.array([2])))[0]
        expected = [scores[np.flatnonzero(ids == item["id"])[0]] for item in found["items"]]
        np.testing.assert_allclose([item["score"] for item in found["items"]], expected, rtol=1e-5)
        (test_item,) = ids[on.split.test.items[on.split.test.users == 2]].tolist()
        assert [item["id"] for item in found["items"] if item["held_out"]] in ([test_item], [])
        assert found["known_items"] == 5
        out = capsys.readouterr().out
        assert f"{row.name}, seed 3, for user 30 of mine; 5 known items are left out" in out
        assert str(found["items"][0]["id"]) in out


def test_reasons_are_items_that_the_user_has(table, tmp_path, capsys):
    path, _ = table
    run("--run", path, "--user", 30, "--model", "EASE", "--why", "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["why"] == "loss of score without it"
    because = [reason for item in found["items"] for reason in item["because"]]
    assert because
    assert all(reason["weight"] > 0 for reason in because)
    known = {100, 102, 104, 106, 108, 110, 112}  # of which user 30 has six, one of them held out
    assert {reason["id"] for reason in because} <= known
    assert all(len(item["because"]) <= 3 for item in found["items"])
    assert "because of (loss of score without it)" in capsys.readouterr().out.replace("\n", "")


def test_the_first_measured_row_is_taken_and_the_run_is_left_as_it_was(table, tmp_path):
    path, _ = table
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    run("--run", path, "--user", 500, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["model"], found["known_items"]) == ("MF / BPR", 2)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_data_that_moved_are_named(table, tmp_path, capsys):
    path, data = table
    run_dir = tmp_path / "run"
    shutil.copytree(path, run_dir)
    config = json.loads((run_dir / "config.json").read_text())
    config["config"]["data"] = str(tmp_path / "gone.csv")
    (run_dir / "config.json").write_text(json.dumps(config))
    assert "gone.csv" in refusal(capsys, "--run", run_dir, "--user", 30)
    run("--run", run_dir, "--user", 30, "--data", data)
    (tmp_path / "other.csv").write_text(data.read_text() + "500,101,3\n")
    assert "name their place with --data-dir" in refusal(
        capsys, "--run", run_dir, "--user", 30, "--data", tmp_path / "other.csv"
    )


def test_a_run_without_results_needs_its_experiment(table, tmp_path, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(table[0], run_dir)
    (run_dir / "results.json").unlink()
    assert "say --experiment NAME" in refusal(capsys, "--run", run_dir, "--user", 30)
    run("--run", run_dir, "--user", 30, "--experiment", "tiny_table")
    assert "user 30" in capsys.readouterr().out
    shutil.rmtree(run_dir / "measured")
    message = refusal(capsys, "--run", run_dir, "--user", 30, "--experiment", "tiny_table")
    assert message.startswith("Expected a measured model")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--user", "31"], "13 users with ids from 10 to 500 in mine, got --user 31"),
        (["--user", "30", "--model", "SLIM"], "Expected --model of those measured, ease, mf___bpr; got SLIM."),
        (["--user", "30", "--model", "EASE", "--seed", "4"], "Expected --seed of those of EASE measured, 3; got 4."),
        (["--user", "30", "--seed", "4"], "Expected MF / BPR, seed 4, to be measured"),
        (["--user", "30", "--experiment", "tables"], "or of a table of models, got one of 'tables'"),
        (["--user", "30", "--experiment", "../x"], "or of a table of models, got one of '../x'"),
        (["--user", "30", "--k", "0"], "Expected --k finite and > 0, got --k 0."),
        (["--user", "30", "--k", "99"], "k"),
        (["--user", "ten"], "--user"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(table, args, message, capsys):
    assert message in refusal(capsys, "--run", table[0], *args)


@pytest.mark.parametrize("content", [None, "{}", "[]", '{"config": {}, "data": 3}', "no json"])
def test_what_is_no_run_is_refused(tmp_path, content, capsys):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert "Expected a run directory with its config.json" in refusal(capsys, "--run", tmp_path, "--user", 1)


def test_refusals_come_without_jax(table, tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('a refusal imported jax')")
    for flags in (["--help"], ["--k", "0"], ["--model", "SLIM"], ["--experiment", "tables"]):
        args = [sys.executable, "-m", "experiments.recommend", "--run", str(table[0]), "--user", "1", *flags]
        if flags == ["--model", "SLIM"]:
            args += ["--experiment", "ml1m_sequential_table"]
        done = subprocess.run(
            args, cwd=ROOT, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
        )
        assert "imported jax" not in done.stderr
        assert done.returncode == (0 if flags == ["--help"] else 2), done.stderr


def opened(known, held_out, model, params):
    titles = [f"[b]item {item}" for item in range(known.num_items)]
    return recommend.Opened("x", "EASE", 0, "drawn", model, params, known, held_out, titles)


def test_someone_without_history_and_someone_who_has_everything(capsys, tmp_path):
    known = Interactions(np.array([0, 0, 0, 1], np.int32), np.array([0, 1, 2, 2], np.int32), 3, 3)
    model = ease.model(num_users=3, num_items=3)
    victim = opened(known, known.take(np.zeros(0, int)), model, model.solve(known, jax.random.key(0)))
    config = recommend.Config(run=tmp_path, user=0, k=3, why=True)
    everything, nothing = (recommend.recommended(victim, user, config) for user in (0, 2))
    assert everything["items"] == []
    recommend.show(victim, everything, config)
    assert "0 of 3 items are left for user 0" in capsys.readouterr().err
    assert [(item["id"], item["score"], item["because"]) for item in nothing["items"]] == [
        (0, 0.0, []), (1, 0.0, []), (2, 0.0, [])
    ]  # fmt: skip
    recommend.show(victim, nothing, config)
    out, err = capsys.readouterr()
    assert "Nothing is known of user 0 of drawn" in err
    assert "[b]item 2" in out, "brackets in a title are no markup"


def test_the_apr_experiment_recommends_too(tmp_path, capsys):
    path, data = tiny_run.write(tmp_path)
    (path / "results.json").unlink()
    flags = ("--run", path, "--user", 4, "--k", 3, "--experiment", "ml1m_apr", "--data-dir", data)
    lists = {}
    for stage in ("bpr", "APR"):
        run(*flags, "--model", stage, "--seed", 1, "--why", "--json", tmp_path / "found.json")
        lists[stage] = json.loads((tmp_path / "found.json").read_text())
        assert lists[stage]["known_items"] == 5
        assert lists[stage]["why"] == "similarity"
        assert f"{stage.upper()}, seed 1, for user 4" in capsys.readouterr().out
    assert lists["bpr"]["items"] != lists["APR"]["items"]
    assert "--model bpr or apr" in refusal(capsys, *flags, "--model", "MF")


@pytest.mark.slow
def test_a_sequence_model_recommends_titles(tmp_path, capsys):
    """Eight movies; user 70 has come round to having all of them, and the last again."""
    folder = tmp_path / "movielens-1m"
    folder.mkdir()
    lines = [f"{10 * user + 10} " + " ".join(str(1 + (user + step) % 8) for step in range(6)) for user in range(6)]
    lines.append("70 1 2 3 4 5 6 7 8 1 2")
    (folder / "sequences.txt").write_text("\n".join(lines) + "\n")
    (folder / "movies.dat").write_text("".join(f"{movie}::Film {movie} (2001)::Drama\n" for movie in range(1, 9)))
    flags = ("--smoke", "--rows", "SASRec, BCE", "--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run"))
    command.run(ml1m_sequential_table.main, ml1m_sequential_table.Config, flags)
    run("--run", tmp_path / "run", "--user", 30, "--why", "--k", 3, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["known_items"] == 5
    assert {item["title"] for item in found["items"]} == {f"Film {item['id']} (2001)" for item in found["items"]}
    assert {item["id"] for item in found["items"]} == {1, 2, 8}, "user 30 has 3 to 7, and 8 is held out"
    assert [item["id"] for item in found["items"] if item["held_out"]] == [8]
    run("--run", tmp_path / "run", "--user", 70, "--k", 3)
    assert "0 of 8 items are left for user 70" in capsys.readouterr().err
