"""Filters and word edits from end to end on drawn messages: what is kept, how it goes on, and what it refuses."""

import numpy as np
import pytest
import sklearn.metrics
import texts_toy

from experiments import review_filter
from jaxrec import command, records, results
from jaxrec.studies import text_study

EDITS = review_filter.SMOKE["num_edits"]


def run(*args):
    command.run(review_filter.main, review_filter.Config, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(run directory, flags)"""
    folder = tmp_path_factory.mktemp("filters")
    texts_toy.write(folder / "data", num=160)
    flags = ("--smoke", "--data", "sms-spam", "--data-dir", folder / "data", "--run-dir", folder / "run")
    run(*flags)
    return folder / "run" / "sms-spam", flags


def distance(first: list[int], second: list[int]) -> int:
    """Levenshtein's: the fewest words replaced, put in or taken out."""
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def test_every_filter_is_recorded_clean_and_under_each_attack(finished):
    path, _ = finished
    found = records.read_records(path / "results.json")
    assert (path / "results.md").read_text() == results.page(found)
    assert (path / "edits.png").stat().st_size > 10_000
    of = {(r.model, r.defence, r.attack, r.epsilon, r.metric): r for r in found}
    threats = {"linear": ("HotFlip", "asking"), "embedding": ("HotFlip", "transfer")}
    expected = {
        (model, defence, attack, k, metric)
        for model, defence in (("linear", None), ("embedding", None), ("embedding", "FGM 5"))
        for attack, k in ((None, None), *((name, k) for name in threats[model] for k in EDITS))
        for metric in text_study.METRICS
    }
    assert set(of) == expected
    for model, defence in (("linear", None), ("embedding", "FGM 5")):
        auc = [of[model, defence, None, None, "roc_auc"].value]
        auc += [of[model, defence, "HotFlip", k, "roc_auc"].value for k in EDITS]
        assert auc[0] > auc[1] >= auc[2], "each text's logit falls, and no other moves"
    asking = of["linear", None, "asking", EDITS[-1], "roc_auc"]
    assert asking.gradient_evaluations == 0
    assert asking.value >= of["linear", None, "HotFlip", EDITS[-1], "roc_auc"].value, "no k edits gain more"
    assert of["embedding", None, "transfer", 1, "recall"].oracle.startswith("transfer")


def test_texts_are_edited_by_as_many_words_as_is_said_and_shown_in_words(finished):
    path, _ = finished
    files = sorted((path / "edited").glob("*.npz"))
    assert [file.stem for file in files] == [
        "asking_on_linear-0", "hotflip_on_embedding-0", "hotflip_on_embedding__fgm_5-0", "hotflip_on_linear-0",
        "transfer_on_linear-0",
    ]  # fmt: skip
    for file in files:
        found = np.load(file)
        known = lambda ids: [row[row >= 0].tolist() for row in ids]
        assert len(found["ids0"]) == 8
        for k in EDITS:
            moved = [distance(*pair) for pair in zip(known(found["ids0"]), known(found[f"ids{k}"]), strict=True)]
            assert 0 < max(moved) <= k
            assert found[f"edits{k}"] <= k
        lines = file.with_suffix(".txt").read_text().splitlines()
        assert [line.split(":")[0] for line in lines] == ["0 edits", "1 edits", "2 edits"] * text_study.NUM_EXAMPLES


def test_a_run_that_was_stopped_ends_with_the_same_records_and_trains_nothing_again(finished):
    path, flags = finished
    before = (path / "results.json").read_bytes()
    logs = {log: log.stat().st_mtime_ns for log in (path / "logs").iterdir()}
    (path / "measured" / "embedding__fgm_5-0.json").unlink()
    (path / "edited" / "hotflip_on_embedding__fgm_5-0.npz").unlink()
    run(*flags)
    assert (path / "results.json").read_bytes() == before
    assert {log: log.stat().st_mtime_ns for log in logs} == logs


def test_the_threshold_has_the_highest_f1_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, logits = (rng.random(12) < 0.4).astype(int), rng.normal(size=12)
        labels[0] = 1
        threshold = text_study.best_threshold(labels, logits)
        f1 = lambda cut, labels=labels, logits=logits: sklearn.metrics.f1_score(labels, logits > cut, zero_division=0)
        assert f1(threshold) == max(map(f1, [*(logits - 1e-9), logits.max() + 1]))
        assert threshold not in logits


def test_a_pool_of_more_words_than_the_texts_have_is_refused_before_anything_is_trained(finished, tmp_path, capsys):
    flags = [flag for flag in finished[1][:-1] if flag != "--smoke"]
    with pytest.raises(SystemExit) as left:
        run(*flags, tmp_path / "none", "--pool-size", 2000)
    assert left.value.code == 2
    assert ", the words of sms-spam with seed 0, got 2000." in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--num-edits", "3", "1"], "--num-edits ascending, got 3 1"),
        (["--pool-size", "50", "--num-words", "40"], "--pool-size <= --num-words 40, got 50"),
        (["--dropout", "1"], "--dropout in [0, 1), got --dropout 1"),
        (["--data", "sms-spam", "--data-dir", "nowhere"], "SMSSpamCollection (also in sms-spam/), got nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(args, message, capsys):
    with pytest.raises(SystemExit) as exit:
        run(*args)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
