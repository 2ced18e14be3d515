"""Studies of claims on a planted world: what is trained and measured, gone on with, chosen and answered."""

import dataclasses
import types
import typing

import numpy as np
import optax
import pytest
import two_processes

from experiments import lambda_epsilon_sweep, multi_step_or_not, noise_is_not_training, overfitting
from jaxrec import checkpoint, evaluate, measurements, records, sweep
from jaxrec.attacks import fgsm
from jaxrec.studies import claim_records, claim_study, continued
from jaxrec.types import InputError, Split

DATA = two_processes.make_data()
SPLIT = Split(
    DATA.take(np.arange(60, 205)), DATA.take(np.unique(DATA.users[:30], return_index=True)[1]),
    DATA.take(30 + np.unique(DATA.users[30:60], return_index=True)[1]),
)  # fmt: skip
START = continued.Start(two_processes.MODEL, SPLIT.train, optax.adagrad(0.05, initial_accumulator_value=0.1), 1, (4, 7))
SETTING = continued.Setting(0.5, 0.3)
ATTACK = {"FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon)}


def apr(*looks):
    make = continued.apr_by(lambda epsilon: fgsm.attack(epsilon=epsilon), START.model)
    return claim_study.Arm("APR", make, (SETTING,), looks)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(its folder, what it found)"""
    folder = tmp_path_factory.mktemp("claims")
    exams = [claim_study.Exam(items, ATTACK, (0.2,)) for items in typing.get_args(claim_study.Items)]
    return folder, claim_study.run(folder, START, SPLIT, [claim_study.control(START, (1, 2)), apr(1, 2)], exams)


def ranks(measured):
    return [[each.ranks.ranks.tolist() for each in of_seed] for of_seed in measured]


def test_each_look_measures_the_models_of_that_many_epochs(study, tmp_path):
    """Those of a sweep that is trained to it alone; and the items are those that were asked for."""
    folder, found = study
    begun = continued.begun(folder, START)
    for folder in ("checkpoints", "logs"):
        (tmp_path / folder).mkdir()
    for epochs in (1, 2):
        arm = apr(epochs)
        options = {"settings": arm.settings, "num_epochs": epochs, "begun": begun}
        states = continued.gone_on(tmp_path, START, f"alone {epochs}", arm.make, **options)
        for place in range(len(START.seeds)):
            params = {**sweep.model(states.trained, place), "given": {}}
            both = [SPLIT.train, SPLIT.valid]
            asked = {"test": (both, SPLIT.test), "valid": ([SPLIT.train], SPLIT.valid)}
            asked["train"] = both, claim_study.learned(SPLIT.train)
            for items in typing.get_args(claim_study.Items):
                known, target = asked[items]
                expected = evaluate.evaluate(START.model, params, evaluate.prepare(known, target))
                clean = found[claim_study.Which("APR", SETTING, epochs, items)][place][0]
                np.testing.assert_array_equal(clean.ranks.ranks, expected.ranks)
                np.testing.assert_array_equal(clean.ranks.num_candidates, expected.num_candidates)
                assert clean.attack == "none"


def test_what_is_measured_is_not_trained_again(study, monkeypatch):
    folder, found = study
    monkeypatch.setattr(continued, "_fit", lambda *_: pytest.fail("it trained again"))
    again = claim_study.run(folder, START, SPLIT, [apr(1, 2)], [claim_study.Exam("test", ATTACK, (0.2,))])
    assert list(again) == apr(1, 2).models()
    for which, measured in again.items():
        assert ranks(measured) == ranks(found[which])


class Crash(Exception):
    """What stands for a process that dies."""


def dying(call, num_calls):
    """The call, which works so often and then dies."""
    left = iter(range(num_calls))

    def limited(*args, **options):
        if next(left, None) is None:
            raise Crash
        return call(*args, **options)

    return limited


def test_a_study_killed_in_training_and_between_two_models_ends_the_same(study, tmp_path, monkeypatch):
    """What was measured before is not measured again, and the logs have the same bytes."""
    folder, found = study
    arms, exams = [claim_study.control(START, (1, 2)), apr(1, 2)], [claim_study.Exam("test", ATTACK, (0.2,))]
    for where, name, num_calls in (
        (checkpoint.Checkpoints, "save", 1),  # after BPR, before a state of the control is kept
        (measurements, "write", 3),  # between the control's two seeds, at its second look
        (measurements, "write", 2),  # between those of APR, at its first
    ):
        kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("measured/*.npz")}
        with monkeypatch.context() as patch:
            patch.setattr(where, name, dying(getattr(where, name), num_calls))
            with pytest.raises(Crash):
                claim_study.run(tmp_path, START, SPLIT, arms, exams)
        assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    again = claim_study.run(tmp_path, START, SPLIT, arms, exams)
    for which, measured in again.items():
        assert ranks(measured) == ranks(found[which])
    for log in ("bpr", "bpr_continued", "apr"):
        names = [path / "logs" / f"{log}.jsonl" for path in (tmp_path, folder)]
        assert names[0].read_bytes() == names[1].read_bytes(), log


def test_a_look_is_not_measured_on_models_that_went_on(study):
    """As it would be where somebody removed what was measured."""
    folder, _ = study
    for path in (folder / "measured").glob("apr__epsilon*1_epochs-train-4.npz"):
        path.rename(path.with_suffix(".aside"))
        with pytest.raises(InputError, match=r"Expected APR after 1 epochs in .*, but it has 2 behind it"):
            claim_study.run(folder, START, SPLIT, [apr(1)], [claim_study.Exam("train", ATTACK, (0.2,))])
        path.with_suffix(".aside").rename(path)
        return
    pytest.fail("nothing was measured")


def test_one_training_pair_of_each_user_is_asked_again():
    learned, pairs = claim_study.learned(SPLIT.train), set(zip(SPLIT.train.users, SPLIT.train.items, strict=True))
    assert sorted(learned.users) == sorted(set(SPLIT.train.users))
    assert set(zip(learned.users, learned.items, strict=True)) <= pairs


def test_validation_chooses_and_the_answer_is_of_the_test_items(study):
    _, found = study
    models = [*claim_study.control(START, (1, 2)).models(), *apr(1, 2).models()]
    valid = [claim_study.per_user(found[which._replace(items="valid")], "FGSM", 0.2).mean() for which in models]
    first = claim_study.chosen(found, models, "FGSM", 0.2)
    assert first == models[int(np.argmax(valid))]
    second = next(which for which in models if which != first)
    (answer,) = claim_records.answers(found, [claim_records.Question(first, second, ("FGSM", 0.2))])
    difference = [claim_study.per_user(found[which], "FGSM", 0.2).mean() for which in (first, second)]
    assert answer.interval.mean == pytest.approx(difference[0] - difference[1])
    assert answer.smallest_p_value == 0.5  # of two seeds
    fixed, asked = (claim_records.Question(first, second, ("FGSM", 0.2), by) for by in ("last", "validation"))
    told = [claim_records.page([question], [answer]) for question in (fixed, asked)]
    assert [claim_records.CHOSEN in page for page in told] == [False, True]


def test_the_worst_of_two_attacks_is_the_one_that_raises_the_loss_more(study, tmp_path):
    _, found = study
    clean, one = found[apr(1).models()[0]][0]
    losses = {"FGSM": 2.0, "PGD-10": 1.0}
    measured = [clean, *(dataclasses.replace(one, attack=name, loss=loss) for name, loss in losses.items())]
    path = tmp_path / "m.npz"
    measurements.write(path, measured)
    worst = claim_study.with_strongest(measurements.read(path))[-1]
    assert (worst.attack, worst.loss, worst.epsilon) == (claim_study.WORST, 2.0, 0.2)


FEW = {"dimension": 4, "epochs": 2, "num_seeds": 2, "users": 60}
EXPERIMENTS = {
    noise_is_not_training: {"epsilons": (0.5,), "adv_epochs": 2, "attack_epsilons": (0.2,)},
    lambda_epsilon_sweep: {"epsilons": (0.5, 1.0), "adv_weights": (0.1,), "adv_epochs": 2, "attack_epsilons": (0.2,)},
    multi_step_or_not: {"num_steps": (3,), "adv_epochs": 1, "attack_epsilons": (0.2,)},
    overfitting: {"looks": (1, 2)},
}
ASKED: dict[types.ModuleType, tuple[int, ...]] = {
    noise_is_not_training: (3,),
    multi_step_or_not: (4,),
    overfitting: (4,),
}
ASKED[lambda_epsilon_sweep] = (2, 4)  # validation may choose one setting clean and another under attack
PICTURES = {lambda_epsilon_sweep: ("clean", "robust", "tail"), overfitting: ("train", "test")}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda module: module.__name__.split(".")[-1])
def test_an_experiment_leaves_its_records_answers_and_pictures(experiment, data_dir, tmp_path, capsys):
    run = tmp_path / "run"
    where = {"data_dir": data_dir / "ml-1m-leave-one-out", "run_dir": run}
    experiment.main(experiment.Config(**where, **FEW, **EXPERIMENTS[experiment]))
    made = records.read_records(run / "results.json")
    answers = [r for r in made if r.metric.startswith("ndcg less") and not r.metric.endswith("p")]
    assert len(answers) in ASKED[experiment]
    for answer in answers:
        training = f"BPR 2 epochs; {answer.metric.removeprefix('ndcg less ')}"
        same = [
            r.value
            for wanted in (answer.training, training)
            for r in made
            if (r.metric, r.training, r.attack, r.protocol) == ("ndcg", wanted, answer.attack, answer.protocol)
        ]
        assert answer.value == pytest.approx(same[0] - same[1], abs=1e-9)
    for name in PICTURES.get(experiment, ()):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "answers.md").read_text().count("\n| ") == len(answers)
    by_validation = experiment in (lambda_epsilon_sweep, overfitting)
    assert {answer.chosen_by for answer in answers} == {"validation" if by_validation else "last"}
    capsys.readouterr()


@pytest.mark.parametrize(("experiment", "num"), [
    (noise_is_not_training, 6), (lambda_epsilon_sweep, 4), (multi_step_or_not, 8), (overfitting, 4),
], ids=["noise", "lambda", "steps", "overfitting"])  # fmt: skip
def test_the_default_seeds_can_tell_all_that_is_declared(experiment, num):
    """At the level .05, after Holm's correction, and no fewer can."""
    num_seeds = experiment.Config().num_seeds
    assert num * 2 / 2**num_seeds <= 0.05 < num * 2 / 2 ** (num_seeds - 1)


def test_as_many_gradients_are_counted_in_epochs():
    config = multi_step_or_not.Config(adv_epochs=20)
    assert [multi_step_or_not.as_costly(config, k) for k in (1, 3, 7, 10)] == [20, 40, 80, 110]
