"""The rating attack from end to end on drawn ratings, its resumption, and what is refused."""

import json

import numpy as np
import pytest

from experiments import ml1m_rating_attack
from jaxrec import command, rating_attack, records, results

EMBEDDINGS, ROWS = "user and item embeddings", "user and item embeddings and biases"


def run(*args):
    command.run(ml1m_rating_attack.main, ml1m_rating_attack.Config, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Thirty users, twenty items; most ratings are 4."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    base, test = [], []
    for user in range(30):
        for place, item in enumerate(rng.permutation(20)[:15]):
            line = f"{user + 1}\t{item + 1}\t{rng.choice([2, 4, 4, 4, 5])}\t{100 + place}\n"
            (test if place >= 13 else base).append(line)
    (folder / "ua.base").write_text("".join(base))
    (folder / "ua.test").write_text("".join(test))
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    flags = ("--smoke", "--data", "ml-100k", "--data-dir", data, "--run-dir", run_dir, "--dimension", 3)
    run(*flags)
    return run_dir, flags, records.read_records(run_dir / "results.json")


@pytest.mark.slow
def test_a_run_leaves_its_files_and_says_how_good_the_model_is(finished):
    run_dir, _, found = finished
    assert {p.name for p in run_dir.iterdir()} >= {
        "config.json", "metrics.jsonl", "timings.jsonl", "checkpoints", "measured", "results.json", "results.md",
        "curve.png",
    }  # fmt: skip
    assert (run_dir / "results.md").read_text() == results.page(found)
    clean = {record.metric: record for record in found if record.attack is None}
    assert clean["predicted_fours_share"].value == pytest.approx(clean["predicted_fours"].value / 60)
    assert clean["rmse"].value < 1.2
    assert clean["rmse"].value >= clean["mae"].value > 0
    assert 1 <= clean["predicted_fours"].value <= 60
    assert "ua" in clean["rmse"].split
    assert clean["rmse"].seeds == (0, 1)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert {line["model"] for line in lines} == {"choice-l2-0.06", "choice-l2-0.08", "mf-0", "mf-1"}


def test_records_have_both_threat_models_on_both_surfaces_in_both_units(finished):
    found = [record for record in finished[2] if record.metric == "share_driven_down"]
    cells = {(r.attack, r.surface, r.epsilon_unit, r.epsilon): r.value for r in found}
    assert len(cells) == len(found) == 3 * 2 * 2 * 3
    for attack in ("noise", "PGD-10"):
        for surface in (EMBEDDINGS, ROWS):
            for unit in ("absolute", "relative"):
                for epsilon in (0.5, 1.0, 2.0):
                    shared = cells[attack, surface, unit, epsilon]
                    assert shared <= cells[rating_attack.PRIVATE, surface, unit, epsilon] + 1e-9
    smallest = [record for record in finished[2] if record.metric == "absolute_epsilon_50"]
    assert {r.surface for r in smallest if r.attack == rating_attack.PRIVATE} == {EMBEDDINGS, ROWS}
    assert all(0 < r.value <= 2 for r in smallest)


def test_a_finished_seed_is_not_done_again(finished):
    """What stands in its file is believed: the mark put there comes out in the records."""
    run_dir, flags, before = finished
    measured = json.loads((run_dir / "measured" / "0.json").read_text())
    (run_dir / "measured" / "0.json").write_text(json.dumps({**measured, "num_fours": measured["num_fours"] + 100}))
    log = (run_dir / "metrics.jsonl").read_bytes()
    (run_dir / "results.json").unlink()
    run(*flags)
    after = records.read_records(run_dir / "results.json")
    fours = [r.value for found in (before, after) for r in found if r.metric == "predicted_fours"]
    assert fours[1] == fours[0] + 50
    others = [[r.value for r in found if not r.metric.startswith("predicted_fours")] for found in (before, after)]
    assert others[0] == others[1]
    assert (run_dir / "metrics.jsonl").read_bytes() == log


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "ml-10m"], "ml-10m"),
        (["--l2", "-1"], "--l2"),
        (["--num-seeds", "0"], "--num-seeds"),
        (["--relative-epsilons", "nan"], "--relative-epsilons"),
        (["--data", "ml-100k", "--data-dir", "nowhere"], "ua.base and ua.test of ml-100k, got nowhere"),
        (["--data-dir", "nowhere"], "ratings.dat or ratings_usersA-B.dat of ml-1m"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(args, message, capsys):
    with pytest.raises(SystemExit) as exit:
        run(*args)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
