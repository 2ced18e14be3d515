"""The rating table from end to end on drawn ratings: both splits, what is better than what, and what is refused."""

import numpy as np
import pytest

from experiments import ml100k_rating_table
from jaxrec import command, rating_metrics, records, results
from jaxrec.datasets import ml100k
from jaxrec.studies import rating_baselines


def run(*args):
    command.run(ml100k_rating_table.main, ml100k_rating_table.Config, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Thirty users, twenty items; a rating is a user's leaning plus an item's, and each split holds out two a user."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    user_leaning, item_leaning = rng.normal(scale=0.7, size=30), rng.normal(scale=0.7, size=20)
    lines = {part: [] for part in ("ua.base", "ua.test", "ub.base", "ub.test")}
    for user in range(30):
        for place, item in enumerate(rng.permutation(20)[:16]):
            stars = int(np.clip(round(3.2 + user_leaning[user] + item_leaning[item]), 1, 5))
            line = f"{user + 1}\t{item + 1}\t{stars}\t{100 + place}\n"
            lines["ua.test" if place >= 14 else "ua.base"].append(line)
            lines["ub.test" if place < 2 else "ub.base"].append(line)
    for name, rows in lines.items():
        (folder / name).write_text("".join(rows))
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    flags = ("--smoke", "--data-dir", data, "--run-dir", run_dir, "--dimension", 3, "--learning-rate", 0.02)
    run(*flags)
    return run_dir, flags


def values(path):
    return {(r.model, r.metric): r for r in records.read_records(path / "results.json")}


def test_each_split_has_a_table_of_three_models(finished):
    run_dir, _ = finished
    for split in ("ua", "ub"):
        found = values(run_dir / split)
        models = [model for model, metric in found if metric == "mae"]
        assert models == ["biased MF 3", "mean rating", "user and item biases"]
        assert (run_dir / split / "results.md").read_text() == results.page(list(found.values()))
        assert all(f"split {split}," in record.split for record in found.values())
        assert found["mean rating", "rmse"].value > found["user and item biases", "rmse"].value + 0.1
        assert found["mean rating", "rmse"].value > found["biased MF 3", "rmse"].value
        assert found["biased MF 3", "rmse"].seeds == (0, 1)
        assert found["biased MF 3", "rmse"].interval is not None
        assert found["user and item biases", "rmse"].interval is None
    assert values(run_dir / "ua")["mean rating", "rmse"].value != values(run_dir / "ub")["mean rating", "rmse"].value


def test_the_baselines_learn_from_the_whole_base_and_are_measured_on_the_test(data, finished):
    published = ml100k.load_split(data, "ub")
    found = rating_baselines.biases(published.train, item_shrinkage=np.inf, user_shrinkage=np.inf)
    predicted = rating_baselines.predictions(found, published.test)
    errors = rating_metrics.errors(predicted, published.test.ratings)
    for metric in ("rmse", "mae"):
        record = values(finished[0] / "ub")["mean rating", metric]
        np.testing.assert_allclose(record.value, errors[metric], rtol=1e-12)


def test_a_finished_table_is_made_again_with_one_split(finished):
    run_dir, flags = finished
    before = values(run_dir / "ub")
    (run_dir / "ub" / "results.json").unlink()
    log = (run_dir / "ub" / "metrics.jsonl").read_bytes()
    run(*flags, "--split", "ub")
    assert values(run_dir / "ub") == before
    assert (run_dir / "ub" / "metrics.jsonl").read_bytes() == log


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--split", "uc"], "uc"),
        (["--l2", "-1"], "--l2"),
        (["--item-shrinkage", "nan"], "--item-shrinkage"),
        (["--data-dir", "nowhere"], "ua.base and ua.test of ml-100k, got nowhere"),
        (["--split", "ub", "--data-dir", "nowhere"], "ub.base and ub.test of ml-100k-ub, got nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(args, message, capsys):
    with pytest.raises(SystemExit) as exit:
        run(*args)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
