"""The shilling table from end to end on a small drawn data set: what it keeps, how it goes on, and what it refuses."""

import json

import numpy as np
import pytest

from experiments import ml100k_shilling_table
from jaxrec import command, fake_files, records, results
from jaxrec.studies import poison_study

FLAGS = ("--smoke", "--victims", "item-kNN", "EASE", "--aims", "push tail", "--profile-size", 8, "--num-selected", 2)


def run(*args):
    command.run(ml100k_shilling_table.main, ml100k_shilling_table.Config, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Sixty users of sixty items, the lower the number the more popular; two targets of the tail."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, 61)
    lines = [
        f"{user + 1}\t{item + 1}\t{rng.integers(1, 6)}\t{time}\n"
        for user in range(60)
        for time, item in enumerate(rng.choice(60, 12, replace=False, p=odds / odds.sum()))
    ]
    (data / "u.data").write_text("".join(lines))
    flags = (*FLAGS, "--num-targets", 2, "--data-dir", data, "--run-dir", tmp_path_factory.mktemp("runs") / "one")
    run(*flags)
    return flags[-1], flags


def test_every_cell_is_recorded_before_and_after_and_fakes_are_kept(finished):
    path, _ = finished
    found = records.read_records(path / "results.json")
    assert (path / "results.md").read_text() == results.page(found)
    of = {(r.model, r.attack, r.defence, r.metric, r.k): r for r in found}
    for victim in ("item-kNN", "EASE"):
        before = json.loads(poison_study.clean_path(path, victim, 0).read_text())["tail"]
        for attack in ("random, push tail", "segment, push tail", "exact EASE, push tail"):
            change = of[victim, attack, None, "target_ndcg_change", 20]
            assert change.epsilon_unit == "of users"
            after = of[victim, attack, None, "target_ndcg", 20].value
            assert change.value == pytest.approx(after - before["target_ndcg@20"], abs=1e-9) != 0
        taken = of[victim, "segment, push tail", "removal", "target_ndcg_recovered", 20].value
        left = of[victim, "segment, push tail", "removal", "target_ndcg_change", 20].value
        attacked = of[victim, "segment, push tail", None, "target_ndcg_change", 20].value
        assert taken == pytest.approx(1 - left / attacked)
        assert {r.defence for r in found if r.attack == "segment, push tail"} == {None, *poison_study.DEFENCES}
        assert of[victim, None, None, "ndcg", 10].attack is None
        assert "removal is told the number of fakes" in str(of[victim, None, None, "ndcg", 10].protocol)
    seen = {r.attack: set() for r in found if r.metric == "auc"}
    for record in (r for r in found if r.metric == "auc"):
        seen[record.attack].add(record.model.split(", ")[1])
    assert seen["random, push tail"] == {"ratings", "implicit"}
    assert seen["exact EASE, push tail"] == {"implicit"}  # which reads no ratings
    fakes, about = fake_files.read(path / "attacks" / "implicit-segment-push-tail-0.05-0.npz")
    assert (fakes.num_users, about["attack"], len(about["targets"])) == (3, "segment", 2)
    assert set(about["targets"]) <= set(fakes.items[fakes.users == 0].tolist())
    assert "| segment, push tail | 5.0% | removal |" in (path / "targets.md").read_text()
    assert (path / "poisoning.png").stat().st_size > 1000


def test_a_run_that_was_stopped_ends_with_the_same_figures_and_fakes(finished):
    path, flags = finished
    before = (path / "targets.md").read_text()
    attack = path / "attacks" / "implicit-segment-push-tail-0.05-0.npz"
    bytes_before = attack.read_bytes()
    for name in ("measured/ease-segment-push-tail-0.05-0.json", "attacks/implicit-segment-push-tail-0.05-0.npz"):
        (path / name).unlink()
    run(*flags)
    assert (path / "targets.md").read_text() == before
    assert attack.read_bytes() == bytes_before


def test_an_attack_file_for_other_data_is_not_gone_on_with(finished, capsys):
    path, flags = finished
    attack = path / "attacks" / "implicit-segment-push-tail-0.05-0.npz"
    before = attack.read_bytes()
    fakes, about = fake_files.read(attack)
    fake_files.write(attack, fakes, about | {"of": about["of"] | {"sha256": "0"}})
    with pytest.raises(SystemExit) as left:
        run(*flags)
    attack.write_bytes(before)
    assert left.value.code == 2
    assert "implicit-segment-push-tail-0.05-0.npz, got such for 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--budgets", "1.5"], "--budgets in (0, 1], got --budgets 1.5"),
        (["--profile-size", "4"], "--num-selected <= --profile-size 4, got 5"),
        (["--aims", "push me"], "--aims of push head, push tail, nuke head"),
        (["--data-dir", "nowhere"], "u.data of MovieLens-100K, got nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(args, message, capsys):
    with pytest.raises(SystemExit) as exit:
        run(*args)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_budget_of_no_whole_fake_is_refused_before_anything_is_trained(finished, capsys, tmp_path):
    flags = [flag for flag in finished[1] if flag != "--smoke"]
    with pytest.raises(SystemExit) as left:
        run(*flags[:-1], tmp_path / "none", "--budgets", 0.05, 0.002)
    assert left.value.code == 2
    assert "--budgets that make one of 60 users or more, got --budgets 0.002" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("flag", "names"),
    [("--attacks", "random, average"), ("--victims", "item-kNN, MF-BPR"), ("--defended", "random, average")],
)
def test_a_name_that_is_unknown_is_refused_with_those_that_are(finished, flag, names, capsys):
    with pytest.raises(SystemExit):
        run(*(finished[1][-4:-2]), flag, "nobody")
    assert f"Expected {flag} of {names}" in capsys.readouterr().err
