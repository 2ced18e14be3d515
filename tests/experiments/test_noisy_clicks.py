"""Planted clicks from end to end on drawn files: the rows, what each is trained on, and the tail of the true clicks."""

import json

import numpy as np
import pytest
import tiny_run

from experiments import noisy_clicks
from jaxrec import command, records, splits


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of results, records) of two rows beside the standard one."""
    folder = tmp_path_factory.mktemp("noisy")
    tiny_run.write_data(folder)
    flags = ("--smoke", "--data-dir", folder, "--run-dir", folder / "run", "--dimension", 4, "--share", 0.3)
    rows = ("--rows", noisy_clicks.CLEAN, "standard", "truncated, 0.2", "reweighted, 0.1")
    command.run(noisy_clicks.main, noisy_clicks.Config, [str(arg) for arg in (*flags, *rows)])
    return folder / "run", records.read_records(folder / "run" / "results.json")


def test_every_row_is_measured_on_true_clicks(finished):
    _, found = finished
    assert [r.model for r in found if (r.metric, r.k) == ("ndcg", 10)] == [
        noisy_clicks.CLEAN, "standard", "truncated, 0.2", "reweighted, 0.1",
    ]  # fmt: skip
    assert {r.metric for r in found} >= {"ndcg", "long_tail_share", "coverage"}
    assert {r.dataset.split(", ")[-1] for r in found} == {"30% of training clicks planted at random"}


def test_the_truncated_loss_comes_to_leave_clicks_out(finished):
    path, _ = finished
    lines = list(map(json.loads, (path / "logs" / "truncated__0.2-0.jsonl").read_text().splitlines()))
    assert lines[-1]["dropped"] > lines[0]["dropped"] >= 0
    assert lines[-1]["dropped"] <= 0.2


def test_the_row_of_true_clicks_is_trained_on_them_and_the_tail_is_theirs(finished, tmp_path):
    tiny_run.write_data(tmp_path)
    config = noisy_clicks.Config(data_dir=tmp_path, share=0.3, dimension=4)
    data, on, made = noisy_clicks.parts(config)
    true = made[0].fit.examples(on.split.train)
    assert made[0].name == noisy_clicks.CLEAN
    assert len(true) < len(on.split.train) == len(data.split.train)
    expected = splits.with_false_positives(on.split._replace(train=true), share=0.3, seed=0)
    np.testing.assert_array_equal(expected.train.items, on.split.train.items)
    assert [len(row.fit.examples(on.split.train)) for row in made[1:]] == [len(on.split.train)] * 5
