"""An experiment on images from end to end at a tiny size, what it goes on with, and what mnist_pgd declares."""

import json

import images_toy
import jax
import optax
import pytest

from experiments import mnist_pgd
from jaxrec import checkpoint, classifier, norms, records, results, run_directory
from jaxrec.attacks import fgsm
from jaxrec.studies import classifier_study

FIELDS = ("correct", "num", "fooled", "l2", "num_changed", "achieved_linf", "gradient_evaluations", "queries")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(plan of two trainings and one attack, on all test images and on five; its run directory)"""
    folder = tmp_path_factory.mktemp("images")
    images = classifier_study.images(images_toy.write(folder / "data"), num_train=32)
    model, attack = classifier.mlp(num_pixels=16, hidden=(4,)), fgsm.attack(epsilon=0.2, norm=norms.LINF)
    trainings = [
        classifier_study.Training(name, classifier.objective(classifier=model, attack=against), defence, words)
        for name, against, defence, words in (("standard", None, None, "3 epochs"), ("fgsm", attack, "FGSM", "so too"))
    ]
    threats = [classifier_study.Threat(f"FGSM on {num}", attack, 0.2, num) for num in (12, 5)]
    shape = {"optimizer": optax.adam(0.1), "batch_size": 10, "num_epochs": 3}
    plan = classifier_study.Plan(model, "MLP 16-4-10", images, trainings, threats, **shape)
    return plan, folder / "run"


def measured(study, *, seeds):
    plan, path = study
    with run_directory.open_run(path, mnist_pgd.Config(), plan.images.data.fingerprint) as run:
        return classifier_study.run(run, plan, seeds=seeds)


@pytest.fixture(scope="module")
def of_one_seed(study):
    return measured(study, seeds=[0])


def test_training_lowers_the_loss_and_leaves_a_checkpoint_and_a_log(study, of_one_seed):
    plan, path = study
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["model"], line["epoch"], line["step"]) for line in lines] == [
        (name, epoch, 4 * epoch) for name in ("standard", "fgsm") for epoch in (1, 2, 3)
    ]
    assert lines[2]["loss"] < lines[0]["loss"]
    assert lines[5]["adv_loss"] > lines[5]["loss"]
    assert {path.name for path in (path / "checkpoints").iterdir()} == {"standard-0", "fgsm-0"}
    assert all(tuple(one[0][threat.name]) == FIELDS for one in of_one_seed.values() for threat in plan.threats)


def test_records_are_the_counts_with_their_intervals(study, of_one_seed, tmp_path):
    plan, _ = study
    made = classifier_study.records_of("mnist_pgd", plan, of_one_seed, seeds=[0])
    accuracy = {(r.defence, r.attack): r for r in made if r.metric == "accuracy"}
    assert list(accuracy) == [
        (defence, attack) for defence in (None, "FGSM") for attack in (None, "FGSM on 12", "FGSM on 5")
    ]
    for (defence, attack), record in accuracy.items():
        counts = of_one_seed["standard" if defence is None else "fgsm"][0][attack or "none"]
        assert record.value == counts["correct"] / counts["num"]
        assert record.users == counts["num"] == {None: 12, "FGSM on 12": 12, "FGSM on 5": 5}[attack]
        assert record.interval is not None
        assert 0 <= record.interval[0] <= record.value <= record.interval[1] <= 1
        assert record.interval[0] < record.interval[1], "no image wrong is not certainty"
        if attack is not None:
            assert record.value <= accuracy[defence, None].value or attack == "FGSM on 5"
            assert record.achieved_norm == {"Linf": pytest.approx(0.2, abs=1e-6)}
    assert all("slice" in r.dataset and "not MNIST" in r.dataset for r in made)
    classifier_study.write(tmp_path, made)
    assert (tmp_path / "results.md").read_text() == results.page(records.read_records(tmp_path / "results.json"))
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000


def test_a_seed_is_added_and_a_finished_one_is_not_done_again(study, of_one_seed):
    """What stands in a file is believed; the other seed is another model."""
    plan, path = study
    file = path / "measured" / "fgsm-0.json"
    kept = json.loads(file.read_text())
    kept["none"]["correct"] = 0
    file.write_text(json.dumps(kept))
    both = measured(study, seeds=[0, 1])
    assert [one["none"]["num"] for one in both["fgsm"]] == [12, 12]
    assert both["fgsm"][0]["none"]["correct"] == 0
    assert both["standard"][0] == of_one_seed["standard"][0]
    assert both["standard"][1]["FGSM on 12"]["l2"] != both["standard"][0]["FGSM on 12"]["l2"]
    made = classifier_study.records_of("mnist_pgd", plan, both, seeds=[0, 1])
    record = next(r for r in made if (r.defence, r.attack) == ("FGSM", None))
    assert record.value == both["fgsm"][1]["none"]["correct"] / 24
    assert record.interval is not None
    assert (record.interval[0] + record.interval[1]) / 2 == pytest.approx(record.value)


class Crash(Exception):
    """What stands for a process that dies."""


def test_a_study_killed_in_training_and_before_it_is_attacked_ends_the_same(study, of_one_seed, tmp_path, monkeypatch):
    """The log has the same bytes, and the attacks the same counts to the last."""
    plan, path = study
    real_save, real_measure = checkpoint.Checkpoints.save, classifier_study._measure

    def save(self, step, *rest):
        if (self.directory.name, step) == ("fgsm-0", 8):
            raise Crash  # the second epoch is in the log, and in no checkpoint
        real_save(self, step, *rest)

    def measure(plan, evaluators, weights, key, name):
        if name == "fgsm":
            raise Crash
        return real_measure(plan, evaluators, weights, key, name)

    for place, name, dying in ((checkpoint.Checkpoints, "save", save), (classifier_study, "_measure", measure)):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, dying)
            with pytest.raises(Crash):
                measured((plan, tmp_path), seeds=[0])
    assert measured((plan, tmp_path), seeds=[0]) == of_one_seed
    lines = (path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(lines[:6])


def test_mnist_pgd_declares_what_it_says():
    """Traced, not compiled: three trainings, five attacks, each of which takes the gradients that its name says."""
    config, model = mnist_pgd.Config(), classifier.mlp(num_pixels=16, hidden=(4,))
    assert [training.defence for training in mnist_pgd.trainings(config, model)] == [None, "uniform noise", "PGD"]
    threats = mnist_pgd.threats(config, num_test=300)
    assert [threat.name for threat in threats] == [
        "PGD-10", "PGD-50, 5 restarts", "APGD-100", "JSMA, 14.5 % of the pixels", "C&W, L2",
    ]  # fmt: skip
    assert [threat.num_images for threat in threats] == [300] * 5
    assert [threat.epsilon for threat in threats] == [0.1, 0.1, 0.1, None, 2.0]
    weights = jax.eval_shape(model.init, jax.random.key(0))
    for threat, expected in zip(threats, (10, 250, 100, None, 1200), strict=True):
        found = {}

        def attacked(weights, x, labels, attack=threat.attack, found=found):
            delta, info = attack(jax.random.key(0), classifier.oracle(model, weights, x, labels), x)
            found["cost"] = info["gradient_evaluations"]
            return delta

        shapes = jax.ShapeDtypeStruct((2, 16), "float32"), jax.ShapeDtypeStruct((2,), "int32")
        assert jax.eval_shape(attacked, weights, *shapes).shape == (2, 16)
        assert expected is None or found["cost"] == expected
