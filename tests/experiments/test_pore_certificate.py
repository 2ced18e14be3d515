"""The certificate from end to end on a small drawn data set: what it keeps, how it goes on, and what it refuses."""

import json
import shutil

import numpy as np
import pytest

from experiments import pore_certificate
from jaxrec import command, records, results
from jaxrec.studies import pore_study

ARGS = ("--smoke", "--targets", 3, "--profile-size", 8, "--selected", 4, "--recommended", 2, "--k", 5)


def run(*args):
    command.run(pore_certificate.main, pore_certificate.Config, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Sixty users of sixty items, the lower the number the more popular."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, 61)
    lines = [
        f"{user + 1}\t{item + 1}\t{rng.integers(1, 6)}\t{time}\n"
        for user in range(60)
        for time, item in enumerate(rng.choice(60, 16, replace=False, p=odds / odds.sum()))
    ]
    (data / "u.data").write_text("".join(lines))
    flags = (*ARGS, "--data-dir", data, "--run-dir", tmp_path_factory.mktemp("runs") / "one")
    run(*flags)
    return flags[-1], flags


def test_certified_attacked_and_clean_values_are_recorded_in_their_order(finished):
    path, _ = finished
    found = records.read_records(path / "results.json")
    assert (path / "results.md").read_text() == results.page(found)
    of = {(r.attack, round((r.epsilon or 0) * 60), r.metric): r for r in found}
    assert {num for attack, num, _ in of if attack == pore_study.ANY} == set(range(6))
    clean = of[None, 0, "precision"].value
    assert 0 < clean < 1
    for metric in pore_study.METRICS:
        certified = [of[pore_study.ANY, num, metric].value for num in range(6)]
        assert certified == sorted(certified, reverse=True)
        assert certified[0] <= of[None, 0, metric].value
        for attack in ("random", "bandwagon", "runners-up"):
            assert certified[2] <= of[attack, 2, metric].value
    attacked = of["bandwagon", 2, "precision"]
    assert (attacked.epsilon_unit, attacked.surface, attacked.users) == ("of users", "fake users", 60)
    low, high = attacked.interval or (0, 0)
    assert low < attacked.value < high
    table = (path / "certified.md").read_text()
    assert f"precision@5 {results.cell_of(of[None, 0, 'precision'])}" in table
    assert "| 2 |" in table
    assert (path / "pore_certificate.png").stat().st_size > 1000


def test_votes_are_kept_and_only_what_is_missing_is_cast_again(finished):
    path, flags = finished
    before = (path / "certified.md").read_text()
    cast = (path / "timings.jsonl").read_text().splitlines()
    assert [json.loads(line)["models"] for line in cast] == [40] * 4  # clean, and three attacks
    lost = path / "votes" / "bandwagon_2-0-40.npy"
    kept = lost.read_bytes()
    lost.unlink()
    run(*flags)
    assert lost.read_bytes() == kept
    assert (path / "certified.md").read_text() == before
    assert len((path / "timings.jsonl").read_text().splitlines()) == len(cast) + 1


def test_other_settings_do_not_meet_these_votes(finished, tmp_path, capsys):
    path, flags = finished
    shutil.copytree(path, tmp_path / "copy")
    with pytest.raises(SystemExit):
        run(*flags[:-1], tmp_path / "copy", "--alpha", 0.01)
    assert "config.alpha: 0.001 -> 0.01" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sampled", 61], "num_sampled in [1, 60], the users, got num_sampled=61"),
        (["--recommended", 60], "the catalogue of 60 items less the longest history, got num_recommended=60"),
        (["--k", 61], "k=61 with num_items=60"),
        (["--selected", 9], "--selected <= --profile-size 8, got 9"),
        (["--alpha", 1], "--alpha in (0, 1), got --alpha 1.0"),
        (["--attacks", "nobody"], "--attacks of random, bandwagon, runners-up; got nobody"),
        (["--attacked", 61], "at most as many fakes as the 60 users, got num_fakes=61"),
        (["--profile-size", 80], "got num_fillers=80"),
        (["--data-dir", "nowhere"], "u.data of MovieLens-100K, got nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_before_anything_is_cast(finished, args, message, tmp_path, capsys):
    flags = [flag for flag in finished[1] if flag != "--smoke"][:-1]
    with pytest.raises(SystemExit) as exit:
        run(*flags, tmp_path / "run", "--models", 1, "--sampled", 5, "--attacked", 2, *args)
    assert exit.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]
    assert not list(tmp_path.rglob("*.npy"))
