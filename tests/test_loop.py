"""The loop: what it logs and keeps, and that a run which was interrupted ends with the bytes of one that was not."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import killed_run
import numpy as np
import optax
import pytest
import two_processes

from jaxrec import checkpoint, checkpoint_step, loop, sampling, train
from jaxrec.types import InputError, Interactions


@pytest.fixture(scope="module")
def trainer():
    return killed_run.make_trainer()


@pytest.fixture(scope="module")
def undisturbed(trainer, tmp_path_factory):
    """The directory of a run that nobody stopped, and what it returned."""
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, killed_run.fit(directory, trainer, killed_run.make_state())


def read_log(directory: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def restore(directory: pathlib.Path, *, best: bool = False) -> checkpoint_step.Restored | None:
    with checkpoint.Checkpoints(directory / "checkpoints") as checkpoints:
        return (checkpoints.restore_best if best else checkpoints.restore)(killed_run.make_state())


def newest(directory: pathlib.Path) -> checkpoint_step.Restored:
    restored = restore(directory)
    assert restored is not None
    return restored


def assert_same_end(directory: pathlib.Path, expected: pathlib.Path) -> None:
    assert (directory / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    for best in (False, True):
        end, expected_end = restore(directory, best=best), restore(expected, best=best)
        assert end is not None
        assert expected_end is not None
        assert end[1:] == expected_end[1:]
        assert checkpoint_step.digest(end.state) == checkpoint_step.digest(expected_end.state)


def all_batches(num_epochs: int, sampler=sampling.user_blocked, batch_size=killed_run.BATCH_SIZE) -> dict:
    """The batches of several epochs in one stack."""
    data = two_processes.make_data()
    num = -(-len(data) // batch_size)
    epochs = [
        sampling.batches(data, sampler(data, seed=0, epoch=epoch), batch_size=batch_size, first=0, num=num)
        for epoch in range(num_epochs)
    ]
    return {name: np.concatenate([epoch[name] for epoch in epochs]) for name in epochs[0]}


def run_at_once(
    trainer: train.Trainer, start: train.TrainState, num_epochs: int
) -> tuple[train.TrainState, dict[str, np.ndarray]]:
    seen = sampling.seen(two_processes.make_data())
    state, metrics = trainer.run(trainer.put(start), {}, seen, all_batches(num_epochs))
    return trainer.get(state), jax.device_get(metrics)


def test_the_loop_is_one_scan_over_the_batches_of_all_epochs(trainer, undisturbed):
    directory, fitted = undisturbed
    state, metrics = run_at_once(trainer, killed_run.make_state(), killed_run.NUM_EPOCHS)
    jax.tree.map(np.testing.assert_array_equal, fitted.state.trained, state.trained)
    jax.tree.map(np.testing.assert_array_equal, fitted.state.opt_state, state.opt_state)
    assert int(fitted.state.step) == killed_run.NUM_EPOCHS * killed_run.NUM_BATCHES
    assert checkpoint_step.digest(newest(directory).state) == checkpoint_step.digest(fitted.state)

    lines, users = read_log(directory), all_batches(killed_run.NUM_EPOCHS)["users"]
    chunks = [(e, first, num) for e in range(killed_run.NUM_EPOCHS) for first, num in killed_run.CHUNKS]
    assert len(lines) == len(chunks)
    for line, (epoch, first, num) in zip(lines, chunks, strict=True):
        steps = slice(epoch * killed_run.NUM_BATCHES + first, epoch * killed_run.NUM_BATCHES + first + num)
        assert (line["model"], line["epoch"], line["step"]) == ("apr", epoch + 1, steps.stop)
        examples = 20 * num - (15 if first == 8 else 0)  # an epoch's last batch has 5
        for name in ("loss", "adv_loss", "margin", "adv_margin"):
            assert line[name] == pytest.approx(metrics[name][steps].sum() / examples, rel=1e-5)
        assert line["margin_shift"] == line["adv_margin"] - line["margin"] < 0
        sizes = [20] * (num - 1) + [5 if first == 8 else 20]
        distinct = [len(set(batch[:size])) for batch, size in zip(users[steps], sizes, strict=True)]
        assert line["distinct_users"] == pytest.approx(np.mean(distinct))
    assert fitted.log_end == (directory / "metrics.jsonl").stat().st_size


def test_validation_and_checkpoints_come_when_due(undisturbed):
    directory, fitted = undisturbed
    scores = {line["epoch"]: line["quality"] for line in read_log(directory) if "quality" in line}
    assert list(scores) == [2, 4, 6]
    assert scores[6] == killed_run.quality(fitted.state.trained)["quality"]
    best_epoch = max(scores, key=scores.__getitem__)
    best = restore(directory, best=True)
    assert best is not None
    assert (best.step, best.score) == (best_epoch * killed_run.NUM_BATCHES, scores[best_epoch])
    kept = {int(path.name) // killed_run.NUM_BATCHES for path in (directory / "checkpoints").glob("[0-9]*")}
    assert kept == {4, 6, best_epoch}
    timings = (directory / "timings.jsonl").read_text().splitlines()
    assert len(timings) == len(read_log(directory))
    assert all(json.loads(line)["examples_per_second"] > 0 for line in timings)


def test_a_robust_score_chooses_another_checkpoint_than_the_clean_one(trainer, tmp_path):
    """Scripted validation: the clean score is best after 2 epochs, the robust one after 4, of 8."""
    script = iter([(0.9, 0.1), (0.8, 0.4), (0.7, 0.3), (0.6, 0.2)])
    validate = lambda params: dict(zip(("clean", "robust"), next(script), strict=True))
    changes = {"validate": validate, "score": "clean", "other_scores": ("robust",), "num_epochs": 8}
    killed_run.fit(tmp_path, trainer, killed_run.make_state(), **changes)
    with checkpoint.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        clean, robust = (checkpoints.restore_best(killed_run.make_state(), name=name) for name in (None, "robust"))
    assert clean is not None
    assert robust is not None
    assert (clean.meta["epoch"], clean.score, robust.meta["epoch"], robust.score) == (2, 0.9, 4, 0.4)


class Crash(Exception):
    """What stands for a process that dies."""


def test_a_run_that_dies_again_and_again_ends_with_the_same_bytes(trainer, undisturbed, tmp_path):
    for lives in (1, 3, 7, 8, 1, 6):  # chunks until it dies, after its line and before its checkpoint
        left = iter(range(lives))

        def report(line, left=left, lives=lives):
            if next(left) == lives - 1:
                raise Crash

        with pytest.raises(Crash):
            killed_run.fit(tmp_path, trainer, killed_run.make_state(), report=report)
    killed_run.fit(tmp_path, trainer, killed_run.make_state())
    assert_same_end(tmp_path, undisturbed[0])


def test_a_run_that_is_done_does_nothing_more(trainer, undisturbed, tmp_path):
    directory, fitted = undisturbed
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    again = killed_run.fit(directory, trainer, killed_run.make_state(), report=lambda line: pytest.fail("it went on"))
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert checkpoint_step.digest(again.state) == checkpoint_step.digest(fitted.state)
    assert again.log_end == fitted.log_end


EARLY = {"num_epochs": 12, "validate_every": 1, "patience": 3}


@pytest.fixture(scope="module")
def stopped(trainer, tmp_path_factory):
    """The directory of a run that validation stopped, and what it returned."""
    directory = tmp_path_factory.mktemp("stopped")
    return directory, killed_run.fit(directory, trainer, killed_run.make_state(), **EARLY)


def test_training_stops_when_validation_has_not_risen_for_so_many_looks(trainer, stopped, tmp_path):
    killed_run.fit(tmp_path, trainer, killed_run.make_state(), **EARLY | {"patience": None})
    scores = [line["quality"] for line in read_log(tmp_path) if "quality" in line]
    highest = np.maximum.accumulate(scores)
    last = next(i for i in range(3, 12) if highest[i] == highest[i - 3])
    assert last < 11, "the script has no three looks without a better score"
    directory, fitted = stopped
    lines = read_log(directory)
    assert lines[-1] == read_log(tmp_path)[len(lines) - 1] | {"stopped": "not better at 3 looks"}
    assert lines[:-1] == read_log(tmp_path)[: len(lines) - 1]
    assert lines[-1]["epoch"] == last + 1
    assert int(fitted.state.step) == (last + 1) * killed_run.NUM_BATCHES
    best = restore(directory, best=True)
    assert best is not None
    assert best.score == highest[last]


def test_a_run_that_dies_stops_at_the_same_look_with_the_same_bytes(trainer, stopped, tmp_path):
    for lives in (2, 4, 5, 7):
        left = iter(range(lives))

        def report(line, left=left, lives=lives):
            if next(left) == lives - 1:
                raise Crash

        with contextlib.suppress(Crash):
            killed_run.fit(tmp_path, trainer, killed_run.make_state(), report=report, **EARLY)
        with contextlib.suppress(SystemExit):  # and is told to go in the middle of an epoch
            killed_run.fit(tmp_path, trainer, killed_run.make_state(), report=stop_after_a_chunk, **EARLY)
    killed_run.fit(tmp_path, trainer, killed_run.make_state(), **EARLY)
    assert_same_end(tmp_path, stopped[0])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = killed_run.fit(
        tmp_path, trainer, killed_run.make_state(), report=lambda line: pytest.fail("it went on"), **EARLY
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert checkpoint_step.digest(again.state) == checkpoint_step.digest(stopped[1].state)


def test_an_equal_score_is_no_better_one(trainer, tmp_path):
    killed_run.fit(tmp_path, trainer, killed_run.make_state(), **EARLY, validate=lambda params: {"quality": 1.0})
    lines = read_log(tmp_path)
    assert lines[-1]["epoch"] == 4, "the first look, and three that do not rise"
    assert "stopped" in lines[-1]


@pytest.mark.parametrize("changes", [{"patience": 0}, {"validate": None}, {"score": ""}], ids=str)
def test_patience_needs_something_to_look_at(trainer, tmp_path, changes):
    with pytest.raises(ValueError, match="Expected patience >= 1 with validate and score"):
        killed_run.fit(tmp_path, trainer, killed_run.make_state(), **EARLY | changes)


def test_what_was_logged_before_this_training_stays(trainer, undisturbed, tmp_path):
    earlier = b'{"model": "bpr"}\n'
    (tmp_path / "metrics.jsonl").write_bytes(earlier + b'{"model": "apr", "left by": "a killed run"}\n')
    fitted = killed_run.fit(tmp_path, trainer, killed_run.make_state(), log_start=len(earlier))
    assert (tmp_path / "metrics.jsonl").read_bytes() == earlier + (undisturbed[0] / "metrics.jsonl").read_bytes()
    assert fitted.log_end == (tmp_path / "metrics.jsonl").stat().st_size


def test_a_training_that_would_go_on_does_not_drop_the_lines_of_a_later_one(trainer, undisturbed, tmp_path):
    """Its newest step is damaged after the next training has written to the log that they share."""
    shutil.copytree(undisturbed[0], tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").glob("[0-9]*"), key=lambda step: int(step.name))
    (newest / "header.json").write_text("{}")
    log = tmp_path / "run" / "metrics.jsonl"
    log.write_bytes(log.read_bytes() + b'{"model": "bpr", "epoch": 1}\n')
    before = log.read_bytes()
    with pytest.raises(InputError, match=r"only lines of \{'model': 'apr'\} in .*metrics.jsonl .* got one of .*'bpr'"):
        killed_run.fit(tmp_path / "run", trainer, killed_run.make_state())
    assert log.read_bytes() == before


@pytest.mark.parametrize("sent_at", [2, 4, 18], ids=["in an epoch", "later", "at the last chunk"])
def test_a_signal_saves_and_leaves_with_its_status(trainer, undisturbed, tmp_path, sent_at):
    """Sent in this process; the test below sends one from outside."""
    lines = []

    def report(line):
        lines.append(line)
        if len(lines) == sent_at:
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as leaving:
        killed_run.fit(tmp_path, trainer, killed_run.make_state(), report=report)
    assert leaving.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(lines) == sent_at
    epochs, chunks = divmod(sent_at, 3)
    assert newest(tmp_path).step == 11 * epochs + sum(killed_run.CHUNKS[chunks]) - killed_run.CHUNKS[chunks][1]
    killed_run.fit(tmp_path, trainer, killed_run.make_state())
    assert_same_end(tmp_path, undisturbed[0])


def stop_after_a_chunk(line):
    signal.raise_signal(signal.SIGTERM)


def test_a_run_goes_on_with_other_chunks_and_ends_with_the_same_tables(trainer, undisturbed, tmp_path):
    with pytest.raises(SystemExit):
        killed_run.fit(tmp_path, trainer, killed_run.make_state(), report=stop_after_a_chunk)
    assert newest(tmp_path).step == 4
    fitted = killed_run.fit(tmp_path, trainer, killed_run.make_state(), chunk_size=3 * killed_run.BATCH_SIZE)
    assert checkpoint_step.digest(fitted.state) == checkpoint_step.digest(undisturbed[1].state)
    assert [line["step"] for line in read_log(tmp_path)][:5] == [4, 7, 10, 11, 14]
    assert [line["epoch"] for line in read_log(tmp_path)][:5] == [1, 1, 1, 1, 2]


@pytest.mark.parametrize(("batch_size", "num_batches"), [(40, 6), (21, 10), (19, 11)])
def test_a_checkpoint_of_another_batch_size_is_refused(trainer, tmp_path, batch_size, num_batches):
    """Also where as many epochs of the other length are behind it, or its epochs have as many batches."""
    killed_run.fit(tmp_path, trainer, killed_run.make_state(), num_epochs=2)
    words = rf"step 22 has 2 epochs behind it, got {num_batches} batches an epoch;.* batch_size: 20 -> {batch_size}\."
    with pytest.raises(InputError, match=words):
        killed_run.fit(tmp_path, trainer, killed_run.make_state(), batch_size=batch_size)


@pytest.fixture
def start():
    """Starts `killed_run.py` on a directory; none outlives the test."""
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(train.__file__).parents[1])}
    with contextlib.ExitStack() as stack:

        def start(directory: pathlib.Path) -> subprocess.Popen:
            process = subprocess.Popen([sys.executable, killed_run.__file__, str(directory)], env=env)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


def wait_until(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_run_killed_from_outside_ends_with_the_same_bytes(start, undisturbed, tmp_path):
    log, checkpoints = tmp_path / "metrics.jsonl", tmp_path / "checkpoints"

    process = start(tmp_path)
    wait_until(lambda: any(checkpoints.glob("44.orbax-checkpoint-tmp*")), process)  # while it writes its second
    process.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL

    process = start(tmp_path)
    wait_until(lambda: len(log.read_bytes().splitlines()) == 16, process)  # in the last epoch
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert newest(tmp_path).step % killed_run.NUM_BATCHES > 0

    process = start(tmp_path)
    assert process.wait(timeout=240) == 0
    assert_same_end(tmp_path, undisturbed[0])


def test_a_loss_that_is_not_finite_stops_the_run_at_that_step(tmp_path):
    away = optax.sgd(-0.5)  # the wrong sign: everything grows until float32 ends
    trainer, state = killed_run.make_trainer(away), killed_run.make_state(away)
    _, metrics = run_at_once(trainer, state, 40)
    step = int(np.flatnonzero(~np.isfinite(metrics["loss"]) | ~np.isfinite(metrics["adv_loss"]))[0]) + 1
    epoch, batch = (step - 1) // 11 + 1, (step - 1) % 11 + 1
    assert epoch > 2
    with pytest.raises(loop.NonFiniteLoss) as stopped:
        killed_run.fit(tmp_path, trainer, state, num_epochs=40, validate_every=1)
    assert f"in step {step} (epoch {epoch}, batch {batch} of 11; all counted from 1)" in str(stopped.value)
    assert str(tmp_path / "checkpoints") in str(stopped.value)
    with checkpoint.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(state)
    assert restored is not None
    assert restored.step == 11 * (epoch - 1)
    assert all(np.isfinite(table).all() for table in restored.state.trained["tables"].values())
    assert len(read_log(tmp_path)) == 3 * (epoch - 1) + (batch - 1) // 4


def test_tables_that_are_not_finite_are_not_saved(tmp_path):
    """One step an epoch, of a finite loss, after which the tables are not."""
    too_far = optax.sgd(3e38)
    trainer, state = killed_run.make_trainer(too_far), killed_run.make_state(too_far)
    with pytest.raises(loop.NonFiniteLoss, match="Tables are not finite after step 1"):
        killed_run.fit(tmp_path, trainer, state, batch_size=300, chunk_size=300, validate_every=1)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))
    assert not read_log(tmp_path)


def test_nothing_to_train_on_is_refused(trainer, tmp_path, monkeypatch):
    everything = Interactions(np.zeros(40, np.int32), np.arange(40, dtype=np.int32), 30, 40)
    monkeypatch.setattr(two_processes, "make_data", lambda: everything)
    with pytest.raises(InputError, match="users who have an unseen item, got none"):
        killed_run.fit(tmp_path, trainer, killed_run.make_state())


@pytest.mark.parametrize(("num_batches", "most"), [(11, 4), (1, 4), (7, 3), (3, 0), (2, 50)])
def test_chunks_cover_epochs_from_any_step(num_batches, most):
    for start in range(num_batches):
        step, trained = start, []
        while step < 2 * num_batches:
            epoch, first, num = loop.chunk_at(step, num_batches, most)
            assert 1 <= num <= max(1, most)
            trained += [(epoch, batch) for batch in range(first, first + num)]
            step += num
        assert trained == [divmod(at, num_batches) for at in range(start, 2 * num_batches)]
