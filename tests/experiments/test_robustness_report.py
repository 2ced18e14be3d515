"""The report of factor matrices from end to end, and what is refused."""

import json

import numpy as np
import pytest

from experiments import robustness_report
from jaxrec import command, records, results


def run(*args):
    command.run(robustness_report.main, robustness_report.Config, [str(arg) for arg in args])


@pytest.fixture
def factors(tmp_path):
    rng = np.random.default_rng(0)
    user, item = rng.normal(size=(20, 4)), rng.normal(size=(15, 4))
    np.save(tmp_path / "u.npy", user)
    np.save(tmp_path / "i.npy", item)
    np.save(tmp_path / "b.npy", rng.normal(size=15) / 10)
    liked = np.argsort(-(user @ item.T), axis=1)[:, :5]
    lines = [f"{u},{i},{100 * u + place}" for u in range(20) for place, i in enumerate(liked[u])]
    (tmp_path / "seen.csv").write_text("\n".join(["user,item,timestamp", *lines, ""]))
    names = {"user-factors": "u.npy", "item-factors": "i.npy", "interactions": "seen.csv"}
    return [part for name, file in names.items() for part in (f"--{name}", tmp_path / file)]


@pytest.mark.slow
def test_a_report_of_factors_is_a_page_with_records_beside_it(factors, tmp_path):
    out = tmp_path / "report"
    bias = ("--item-bias", tmp_path / "b.npy")
    run(
        *factors,
        *bias,
        "--out",
        out,
        "--relative-epsilons",
        0.1,
        "--absolute-epsilons",
        0.2,
        "--num-steps",
        2,
        "--k",
        3,
    )
    page = (out / "report.html").read_text()
    found = json.loads((out / "report.json").read_text())
    assert "factors of length 4 with item biases" in found["title"]
    assert found["title"] in page
    assert "may have been trained on" in page
    assert found["about"]["command"].startswith("python -m experiments.robustness_report")
    assert len(found["flags"]) == 7
    kept = records.read_records(out / "results.json")
    assert {record.attack for record in kept} >= {None, "noise", "FGSM", "PGD-2", "APGD-2", "any (certified)"}
    assert (out / "results.md").read_text() == results.page(kept)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--run RUN_DIR, or --user-factors"),
        (["--user-factors", "u.npy"], "--run RUN_DIR, or --user-factors"),
        (["--run", "nowhere"], "Expected a run directory of experiments.ml1m_apr, got nowhere"),
        (["--run", "x", "--relative-epsilons", "0"], "--relative-epsilons"),
        (["--run", "x", "--k", "0"], "--k"),
        (["--rnu", "x"], "--run"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(args, message, capsys):
    with pytest.raises(SystemExit) as exit:
        run(*args)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) <= 10
