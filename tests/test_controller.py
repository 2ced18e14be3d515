"""The controller: its rule on scripted streams, what reaches the step, and that a killed run decides the same."""

import json

import controlled_run
import jax
import numpy as np
import optax
import pytest

from jaxrec import checkpoint_step, controller, train

STATE = controller.State(epsilon=0.4, adv_weight=1.0, learning_rate=0.1, best_clean=0.5, best_robust=0.2)


def rule(**changes):
    settings = {
        "epsilon_bounds": (0.1, 1.0),
        "adv_weight_bounds": (0.25, 2.0),
        "min_learning_rate": 0.03,
        "tolerance": 0.1,
        "factor": 2.0,
        "patience": 2,
    }
    return controller.decide(**{**settings, **changes})


def test_a_scripted_stream_has_the_decisions_written_out():
    """(clean, robust) -> (epsilon, adv_weight, learning rate, best clean, best robust, stale), and words of the why."""
    script = [
        ((0.50, 0.25), (0.8, 2.0, 0.1, 0.50, 0.25, 0), ["at least 0.45", "rise"]),
        ((0.45, 0.25), (1.0, 2.0, 0.1, 0.50, 0.25, 1), ["at least 0.45", "rise"]),  # at the bound; on the tolerance
        ((0.44, 0.24), (0.5, 1.0, 0.05, 0.50, 0.25, 0), ["below 0.45", "fall", "for 2 decisions: learning rate cut"]),
        ((0.60, 0.30), (1.0, 2.0, 0.05, 0.60, 0.30, 0), ["at least 0.54", "rise"]),
        ((0.60, 0.30), (1.0, 2.0, 0.05, 0.60, 0.30, 1), ["stay at their bounds"]),
        ((0.53, 0.30), (0.5, 1.0, 0.03, 0.60, 0.30, 0), ["below 0.54", "learning rate cut"]),  # no lower than its bound
        ((0.10, 0.10), (0.25, 0.5, 0.03, 0.60, 0.30, 1), ["fall"]),
        ((0.10, 0.10), (0.125, 0.25, 0.03, 0.60, 0.30, 0), ["fall", "learning rate is lowest"]),
        ((0.10, 0.10), (0.1, 0.25, 0.03, 0.60, 0.30, 1), ["fall"]),
        ((0.10, 0.40), (0.1, 0.25, 0.03, 0.60, 0.40, 0), ["stay at their bounds"]),
    ]
    decide, state = rule(), STATE
    for seen, expected, words in script:
        state, why = decide(state, controller.Observation(*seen))
        assert tuple(state) == pytest.approx(expected)
        assert all(word in why for word in words), why
        assert ("learning rate" in why) == any("learning rate" in word for word in words)


def test_bounds_that_are_equal_hold_a_value_still():
    decide = rule(adv_weight_bounds=(1.0, 1.0))
    for clean in (0.5, 0.1):
        state, _ = decide(STATE, controller.Observation(clean, 0.3))
        assert (state.adv_weight, state.epsilon != STATE.epsilon) == (1.0, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon_bounds": (0.0, 1.0)},
        {"adv_weight_bounds": (2.0, 1.0)},
        {"min_learning_rate": 0.0},
        {"tolerance": 1.0},
        {"factor": 1.0},
        {"cut": 1.0},
        {"patience": 0},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="Expected"):
        rule(**changes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, controlled_run.fit(directory)


def test_each_decision_is_the_rule_on_what_was_logged_and_is_in_force_after_it(undisturbed):
    directory, fitted = undisturbed
    state, lines = controlled_run.START, controlled_run.decided(directory)
    assert [line["epoch"] for line in lines] == [2, 4, 6, 8]
    for line in lines:
        seen = controller.Observation(line["clean"], line["robust"])
        state, why = controlled_run.DECIDE(state, seen)
        assert line == {"model": "apr", "epoch": line["epoch"], **seen._asdict(), **state._asdict(), "reason": why}
    assert len({line["epsilon"] for line in lines} | {0.2}) > 1
    assert state.learning_rate < 0.05
    assert optax.tree_utils.tree_get(fitted.state.opt_state, "learning_rate") == np.float32(state.learning_rate)


def test_epsilon_and_weight_reach_the_step(tmp_path):
    """With bounds that hold them still at other values the tables end elsewhere; the program is compiled once."""
    ends = []
    for epsilon, adv_weight in ((0.2, 1.0), (0.3, 1.0), (0.2, 0.5)):
        start = controlled_run.START._replace(epsilon=epsilon, adv_weight=adv_weight)
        fitted = controlled_run.fit(tmp_path / f"{epsilon} {adv_weight}", start=start, num_epochs=1)
        ends.append(fitted.state.trained["tables"]["user"])
    assert all((a != b).any() for a, b in ((ends[0], ends[1]), (ends[0], ends[2]), (ends[1], ends[2])))


def test_two_devices_decide_as_one_does(tmp_path):
    """Each has half of a batch; what is seen differs by rounding, what is decided not at all."""
    logs = []
    for count in (1, 2):
        controlled_run.fit(tmp_path / str(count), num_devices=count, validate=controlled_run.validate_smoothly)
        logs.append(controlled_run.decided(tmp_path / str(count)))
    seen = {"clean", "robust", "best_clean", "best_robust"}
    for one, two in zip(*logs, strict=True):
        decided = one.keys() - seen - {"reason"}  # which names what was seen
        assert {name: one[name] for name in decided} == {name: two[name] for name in decided}
        for name in seen:
            assert two[name] == pytest.approx(one[name], rel=1e-4)
    words = " ".join(line["reason"] for line in logs[0])
    assert all(word in words for word in ("rise", "fall", "learning rate cut"))


class Crash(Exception):
    """What stands for a process that dies."""


def test_a_run_that_dies_again_and_again_decides_and_ends_the_same(undisturbed, tmp_path):
    for lives in (1, 2, 3, 4, 5, 1):  # epochs until it dies, after its line and before its checkpoint
        left = iter(range(lives))

        def report(line, left=left, lives=lives):
            if next(left) == lives - 1:
                raise Crash

        with pytest.raises(Crash):
            controlled_run.fit(tmp_path, report=report)
    fitted = controlled_run.fit(tmp_path)
    directory, expected = undisturbed
    for name in ("metrics.jsonl", "decisions.jsonl"):
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes()
    assert checkpoint_step.digest(fitted.state) == checkpoint_step.digest(expected.state)
    again = controlled_run.fit(tmp_path)  # done: nothing more happens
    assert checkpoint_step.digest(again.state) == checkpoint_step.digest(expected.state)
    assert (tmp_path / "decisions.jsonl").read_bytes() == (directory / "decisions.jsonl").read_bytes()


def test_a_training_that_validation_stops_is_decided_upon_no_more(tmp_path):
    """A score that never rises: the third look, of patience 2, is the last."""
    still = {"validate": lambda params: {"valid_ndcg": 0.5, "valid_robust_ndcg": 0.5}, "score": "valid_ndcg"}
    for _ in range(2):  # it is done then, and stays so
        fitted = controlled_run.fit(tmp_path, **still, patience=2)
        assert [line["epoch"] for line in controlled_run.decided(tmp_path)] == [2, 4]
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["epoch"] == 6
        assert int(fitted.state.step) == 6 * 11


def test_an_optimiser_whose_learning_rate_cannot_be_set_is_refused(tmp_path, monkeypatch):
    plain = train.init_state(controlled_run.state().trained | {"given": {}}, optax.sgd(0.1), jax.random.key(1))
    monkeypatch.setattr(controlled_run, "state", lambda: plain)
    with pytest.raises(ValueError, match="inject_hyperparams"):
        controlled_run.fit(tmp_path)
