"""The loop around many models: each one's log and tables are its own, and an interruption changes no byte."""

import contextlib
import dataclasses
import json
import os
import signal

import jax
import killed_run
import numpy as np
import optax
import pytest
import two_processes

from jaxrec import checkpoint, checkpoint_step, files, loop, objectives, sampling, surfaces, sweep, sweep_loop, train
from jaxrec.attacks import fgsm
from jaxrec.defences import apr
from jaxrec.types import InputError

MODEL, DATA = two_processes.MODEL, two_processes.make_data()
OPTIMIZER = optax.inject_hyperparams(optax.adagrad)(learning_rate=0.05, initial_accumulator_value=0.1)
EPSILONS, ORDERS, ORDER_SEEDS = (0.2, 0.0, 0.5), (1, 0, 1), (5, 6)
NUM_EPOCHS = 4


def make(hyper):
    attack, surface = fgsm.attack(epsilon=hyper["epsilon"]), surfaces.tables("user", "item")
    objective = apr.objective(clean=objectives.pairwise(model=MODEL), attack=attack, surface=surface)
    return train.make_step(objective, OPTIMIZER, reads=MODEL.reads)


def state_of(seed):
    init_key, key = jax.random.split(jax.random.key(seed))
    return train.init_state(MODEL.init(init_key), OPTIMIZER, key)


def models(epsilons=EPSILONS):
    return sweep.stack([state_of(s) for s in range(3)], hyper=[{"epsilon": e} for e in epsilons], orders=ORDERS)


@pytest.fixture(scope="module")
def trainer():
    return sweep.parallel(make, num_models=3)


SHARED = {
    "num_epochs": NUM_EPOCHS,
    "batch_size": 20,
    "sampler": sampling.shuffled,
    "validate": killed_run.quality,
    "score": "quality",
    "validate_every": 1,
}


@contextlib.contextmanager
def kept(directory):
    directory.mkdir(exist_ok=True)
    logs = [files.Log(directory / name) for name in ("metrics.jsonl", "timings.jsonl")]
    with contextlib.ExitStack() as stack:
        for log in logs:
            stack.callback(log.close)
        checkpoints = stack.enter_context(checkpoint.Checkpoints(directory / "checkpoints"))
        yield {"checkpoints": checkpoints, "log": logs[0], "timings": logs[1]}


def fit(directory, trainer, start=None, **changes):
    with kept(directory) as places:
        arguments = {**SHARED, **places, "order_seeds": ORDER_SEEDS, "chunk_size": 2 * 20 * 4, **changes}
        arguments.setdefault("names", [{"model": f"epsilon {epsilon}"} for epsilon in EPSILONS])
        return sweep_loop.fit(trainer, start or models(), DATA, **arguments)


def log_of(directory, number=None):
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return lines if number is None else [line for line in lines if line["model"] == f"epsilon {EPSILONS[number]}"]


@pytest.fixture(scope="module")
def undisturbed(trainer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, fit(directory, trainer)


def test_each_model_has_the_log_the_tables_and_the_best_that_it_has_alone(undisturbed, tmp_path):
    directory, fitted = undisturbed
    for number, epsilon in enumerate(EPSILONS):
        alone = train.parallel(lambda devices, epsilon=epsilon: make({"epsilon": epsilon}))
        with kept(tmp_path / str(number)) as places:
            own = {**SHARED, **places, "name": {"model": f"epsilon {epsilon}"}, "seed": ORDER_SEEDS[ORDERS[number]]}
            expected = loop.fit(alone, state_of(number), DATA, chunk_size=20 * 4, **own)
            best = places["checkpoints"].restore_best(state_of(number))
        found = sweep.model(fitted.models.states, number)
        assert checkpoint_step.digest(found) == checkpoint_step.digest(expected.state)
        assert log_of(directory, number) == log_of(tmp_path / str(number))
        assert best is not None
        found, expected = sweep.model(fitted.progress.best, number), best.state.trained
        assert checkpoint_step.digest(found) == checkpoint_step.digest(expected)
        assert (fitted.progress.best_step[number], fitted.progress.last_step[number]) == (best.step, 11 * NUM_EPOCHS)
        assert fitted.progress.best_score[number] == np.float32(best.score)


class Crash(Exception):
    """What stands for a process that dies."""


@pytest.mark.parametrize("how", ["dies", "is told to stop"])
def test_a_run_that_stops_and_goes_on_ends_with_the_same_bytes(trainer, undisturbed, tmp_path, how):
    def report(line):
        if line["step"] in (15, 33) and line["step"] not in seen:
            seen.append(line["step"])
            if how == "dies":
                raise Crash
            os.kill(os.getpid(), signal.SIGTERM)

    seen = []
    for _ in range(2):
        with pytest.raises(Crash if how == "dies" else SystemExit):
            fit(tmp_path, trainer, report=report)
    fitted = fit(tmp_path, trainer, report=report)
    assert seen == [15, 33]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (undisturbed[0] / "metrics.jsonl").read_bytes()
    for found, wanted in zip(fitted, undisturbed[1], strict=True):
        assert checkpoint_step.digest(found) == checkpoint_step.digest(wanted)


def test_a_run_that_is_done_does_nothing_more(trainer, undisturbed):
    directory, fitted = undisturbed
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    again = fit(directory, trainer, report=lambda line: pytest.fail("it went on"))
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert checkpoint_step.digest(again.models) == checkpoint_step.digest(fitted.models)


def test_a_model_without_progress_stops_and_the_others_go_on(trainer, undisturbed, tmp_path):
    def validate(params):  # better at each look, but for the model whose scores never move
        moving = params["tables"]["user"].any()
        looks.append(moving)
        return {"quality": float(len(looks)) if moving else 0.0}

    looks, start = [], models()
    for name in ("user", "item"):
        start.states.trained["tables"][name][1] = 0  # a saddle point of BPR without an adversary
    fitted = fit(tmp_path, trainer, start, validate=validate, patience=2)
    assert fitted.progress.running.tolist() == [True, False, True]
    assert fitted.progress.last_step.tolist() == [44, 33, 44]
    assert fitted.progress.best_step.tolist() == [44, 11, 44]
    assert log_of(tmp_path, 1)[-1]["stopped"] == "not better at 2 looks"
    found = checkpoint_step.digest(sweep.model(fitted.models.states, 2))
    assert found == checkpoint_step.digest(sweep.model(undisturbed[1].models.states, 2))
    assert int(fitted.models.states.step[1]) == 33


def test_patience_needs_something_to_look_at(trainer, tmp_path):
    with pytest.raises(ValueError, match="Expected patience >= 1 with validate and score"):
        fit(tmp_path, trainer, validate=None, patience=3)


def test_a_model_that_diverges_stops_and_the_others_go_on(trainer, undisturbed, tmp_path):
    start = models()
    start.states.trained["tables"]["item"][0, 3] = np.inf
    fitted = fit(tmp_path, trainer, start)
    assert fitted.progress.running.tolist() == [False, True, True]
    assert [line.get("stopped") for line in log_of(tmp_path, 0)] == ["not finite"]
    for number in (1, 2):
        found, wanted = (sweep.model(each.models.states, number) for each in (fitted, undisturbed[1]))
        assert checkpoint_step.digest(found) == checkpoint_step.digest(wanted)
        assert log_of(tmp_path, number) == log_of(undisturbed[0], number)


def test_other_hyperparameters_do_not_go_on(trainer, undisturbed):
    with pytest.raises(InputError, match="Expected the epsilon that"):
        fit(undisturbed[0], trainer, models((0.2, 0.0, 0.6)), num_epochs=5)


def test_other_learning_rates_names_or_orders_do_not_go_on(trainer, undisturbed):
    """Rates come back with the state: they would be the old ones, under new names."""
    start = models()
    faster = dataclasses.replace(
        start.states,
        opt_state=optax.tree_utils.tree_set(start.states.opt_state, learning_rate=np.full(3, 0.1, np.float32)),
    )
    with pytest.raises(InputError, match="Expected the optimizer that"):
        fit(undisturbed[0], trainer, dataclasses.replace(start, states=faster), num_epochs=5)
    with pytest.raises(InputError, match="Expected the names, order_seeds that"):
        fit(undisturbed[0], trainer, names=[{"model": name} for name in "abc"], order_seeds=(6, 5), num_epochs=5)


def test_wrong_numbers_are_refused(trainer, tmp_path):
    with pytest.raises(ValueError, match="got 3 names and 1 seeds"):
        fit(tmp_path, trainer, order_seeds=(5,))
    with pytest.raises(ValueError, match="validate_every=0"):
        fit(tmp_path, trainer, validate_every=0)
