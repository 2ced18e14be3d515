"""The main experiment, end to end in a process of its own, on a small data set in the published files' form."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ("--epochs", "12", "--adv-epochs", "10", "--batch-size", "32", "--dimension", "4", "--num-steps", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two tastes: users like the items of their own half."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    train, test = [], []
    for user in range(40):
        liked = rng.permutation(np.arange(user % 2, 120, 2))[:12]
        train += [f"{user}\t{item}" for item in liked[:-1]]
        test.append(f"{user}\t{liked[-1]}")
    (folder / "ml-1m.train.rating").write_text("\n".join(train) + "\n")
    (folder / "ml-1m.test.rating").write_text("\n".join(test) + "\n")
    return folder


def start(data, run_dir, *flags, **popen):
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "NPROC")}
    command = [sys.executable, "-m", "experiments.ml1m_apr", "--data-dir", data, "--run-dir", run_dir, *FLAGS, *flags]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen
    )


def finish(process):
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    status, out, err = finish(start(data, run_dir))
    assert status == 0, err
    return run_dir, out, err


def test_a_run_leaves_its_files_and_prints_the_table(undisturbed):
    run_dir, out, err = undisturbed
    assert {p.name for p in run_dir.iterdir()} >= {
        "config.json", "metrics.jsonl", "timings.jsonl", "checkpoints", "results.json", "results.md", "curve.png"
    }  # fmt: skip
    for word in ("noise", "FGSM", "PGD-2", "APR", "ndcg@10"):
        assert word in out
    assert "SHA-256" in err
    assert str(run_dir) in err.replace("\n", "")


def test_records_hold_the_two_by_two_table_with_its_control(undisturbed):
    records = json.loads((undisturbed[0] / "results.json").read_text())
    cells = {(r["defence"], r["attack"], r["epsilon"], r["epsilon_unit"]) for r in records if r["metric"] == "ndcg"}
    for defence in (None, "APR"):
        for attack in ("noise", "FGSM", "PGD-2"):
            assert (defence, attack, 0.5, "absolute") in cells
            assert (defence, attack, 0.2, "relative") in cells
    assert all(r["achieved_norm"] <= r["epsilon"] * (1 + 1e-5) for r in records if r["attack"])


def test_the_log_has_the_margin_shift_and_the_distinct_users(undisturbed):
    lines = [json.loads(line) for line in (undisturbed[0] / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [*range(1, 13), *range(1, 11)]
    assert all(line["margin_shift"] != 0 for line in lines if line["model"] == "apr")
    assert all(1 < line["distinct_users"] <= 32 for line in lines)


def test_a_run_killed_in_each_stage_and_taken_up_again_ends_with_the_same_bytes(undisturbed, data, tmp_path):
    log = tmp_path / "run" / "metrics.jsonl"
    for how, num_lines in ((signal.SIGKILL, 7), (signal.SIGTERM, 16)):  # of BPR's twelve, and of APR's ten
        process = start(data, tmp_path / "run")
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= num_lines):
            time.sleep(0.005)
        process.send_signal(how)
        status, _, _ = finish(process)
        assert status != 0, "the run was over before it could be killed"
    status, _, err = finish(start(data, tmp_path / "run"))
    assert status == 0, err
    for name in ("metrics.jsonl", "results.json", "results.md"):
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed[0] / name).read_bytes(), name


def test_a_robust_choice_stands_beside_the_clean_one_and_changes_nothing_else(undisturbed, data, tmp_path):
    """Of three looks at BPR and one at APR."""
    run, flags = tmp_path / "run", ("--epochs", "30", "--robust-epsilon", "0.5")
    status, _, err = finish(start(data, run, *flags))
    assert status == 0, err
    found = json.loads((run / "results.json").read_text())
    by = ("validation epoch", "robust validation epoch", "last epoch")
    assert list(dict.fromkeys(r["chosen_by"] for r in found)) == list(by)
    attacked = {c: [r["value"] for r in found if r["chosen_by"] == c and r["attack"] == "PGD-2"] for c in by}
    assert len(attacked[by[0]]) == len(attacked[by[1]]) > len(attacked[by[2]]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    looks = [line for line in lines if line["model"] == "bpr" and "valid_ndcg" in line]
    assert [line["epoch"] for line in looks] == [10, 20, 30]
    for chosen_by, score in zip(by, ("valid_ndcg", "valid_robust_ndcg"), strict=False):
        (step,) = {r["step"] for r in found if r["chosen_by"] == chosen_by and r["defence"] is None}
        assert step == max(looks, key=lambda line: line[score])["step"]
    before = [json.loads(line) for line in (undisturbed[0] / "metrics.jsonl").read_text().splitlines()]
    kept = [line | {"valid_robust_ndcg": 0} for line in lines if line["model"] == "bpr"][:10]
    assert kept == [line | {"valid_robust_ndcg": 0} for line in before][:10]


def test_the_same_command_again_shows_the_same_table_at_once(undisturbed, data):
    status, out, _ = finish(start(data, undisturbed[0]))
    assert status == 0
    assert out == undisturbed[1]


def test_other_flags_in_the_same_directory_are_refused_with_the_difference(undisturbed, data):
    status, out, err = finish(start(data, undisturbed[0], "--epsilon", "0.7"))
    assert (status, out) == (2, "")
    assert "epsilon" in err
    assert "0.5" in err
    assert "0.7" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--epsilon", "-1"), ("--epsilon", "-1", ">= 0")),
        (("--epoch", "3"), ("--epoch", "--epochs")),
        (("--data-dir", "/nowhere"), ("/nowhere",)),
    ],
)
def test_wrong_arguments_get_one_line_and_status_2(data, tmp_path, flags, words):
    status, out, err = finish(start(data, tmp_path / "run", *flags))
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    assert all(word in err for word in words), err
