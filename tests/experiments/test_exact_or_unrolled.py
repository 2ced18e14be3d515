"""Exact gradients beside unrolled ones, from end to end on small drawn data: what is kept, and what is refused."""

import json

import numpy as np
import pytest

from experiments import exact_or_unrolled
from jaxrec import command, records

GRADIENTS = {"iALS, exact", "EASE, exact", "unrolled, last 2", "unrolled, all 4", "unrolled, all 4, first order"}


def run(*args):
    command.run(exact_or_unrolled.main, exact_or_unrolled.Config, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Forty users of sixty items, the lower the number the more popular."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(5, 65)
    lines = {"ua.base": [], "ua.test": []}
    for user in range(40):
        for place, item in enumerate(rng.choice(60, 14, replace=False, p=odds / odds.sum())):
            line = f"{user + 1}\t{item + 1}\t{rng.integers(1, 6)}\t{place}\n"
            lines["ua.test" if place >= 12 else "ua.base"].append(line)
    for name, rows in lines.items():
        (data / name).write_text("".join(rows))
    return "--smoke", "--fakes", 0.05, "--data-dir", data, "--run-dir", tmp_path_factory.mktemp("runs") / "one"


@pytest.fixture(scope="module")
def finished(flags):
    run(*flags)
    return flags[-1], flags


@pytest.mark.slow
def test_each_gradient_has_a_cosine_with_the_exact_one_and_an_attack_that_is_judged(finished):
    path, _ = finished
    targets = [json.loads(file.read_text()) for file in sorted(path.glob("*-*.json"))]
    assert [one["group"] for one in targets] == ["head", "tail"]
    for one in targets:
        assert set(one["gradients"]) == set(one["walks"]) == GRADIENTS
        assert one["gradients"]["iALS, exact"]["cosine"] == pytest.approx(1, abs=1e-6)
        assert all(abs(each["cosine"]) < 0.9999 for name, each in one["gradients"].items() if name != "iALS, exact")
        for walk in one["walks"].values():
            assert np.array(walk[-1]["fillers"]).shape == (2, 10)
            assert not np.isin(walk[-1]["fillers"], one["target"]).any()
    of = {(r.attack, r.metric): r.value for r in records.read_records(path / "results.json")}
    for one in targets:
        reached = one["walks"]["EASE, exact"][-1]["after"]["target_hit_rate@50"]
        assert of["EASE, exact, 0.1 CPU s", f"target_hit_rate, {one['group']}"] == pytest.approx(reached)
    table = (path / "gradients.md").read_text()
    assert all(f"| {name} |" in table for name in GRADIENTS)
    assert (path / "exact_or_unrolled.png").stat().st_size > 1000


def test_targets_that_are_done_are_not_done_again(finished):
    path, flags = finished
    before = (path / "gradients.md").read_text()
    (path / "gradients.md").unlink()
    run(*flags)
    assert (path / "gradients.md").read_text() == before  # CPU seconds too: nothing was timed anew


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--seconds", 4, 1.5], "Expected --seconds ascending, got --seconds 4.0 1.5"),
        (["--fakes", 0.001], "Expected --fakes that make one of 40 users or more"),
        (["--targets", 200], "the items of the head, got --targets 200."),
    ],
)
def test_what_is_wrong_is_said_in_a_line(flags, args, message, capsys, tmp_path):
    with pytest.raises(SystemExit):
        run(*flags[:-1], tmp_path / "run", *args)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
