"""Laws of checkpoints: what comes back is what went in, bit for bit, or is not used."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import checkpoint, checkpoint_step
from jaxrec.types import InputError


def make_state(seed: int = 0) -> dict:
    """A train state with an optimiser's named tuples, a step and a typed key."""
    rng = np.random.default_rng(seed)
    params = {"tables": {"user": jnp.asarray(rng.normal(size=(50, 40)), jnp.float32)}, "weights": {}}
    opt_state = jax.tree.map(lambda leaf: leaf + 1, optax.adam(0.1).init(params))
    return {"params": params, "opt_state": opt_state, "step": jnp.int32(seed), "key": jax.random.key(seed)}


def save_steps(directory: pathlib.Path, scores: dict[int, float | None]) -> None:
    with checkpoint.Checkpoints(directory) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, make_state(step), {"position": step}, score)


def data_file(step: pathlib.Path) -> pathlib.Path:
    """The file of a step that holds the bytes of its table."""
    table = np.asarray(make_state(int(step.name))["params"]["tables"]["user"])
    return next(
        file for file in (step / "state").rglob("*") if file.is_file() and file.stat().st_size > table.nbytes / 2
    )


def flip_bit(path: pathlib.Path, position: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= bit
    path.write_bytes(bytes(content))


def test_a_step_comes_back_bit_for_bit_in_the_structure_of_its_template(tmp_path):
    state = make_state(3)
    meta = {"position": [2, 17], "logs": {"metrics": 123}, "best": 0.1 + 0.2}
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state, meta, score=0.5)
    abstract = jax.eval_shape(lambda: make_state(0))
    for template in (make_state(0), abstract):
        with checkpoint.Checkpoints(tmp_path) as checkpoints:
            restored = checkpoints.restore(template)
        assert restored is not None
        assert restored[1:] == (meta, 3, 0.5)
        assert jax.tree.structure(restored.state) == jax.tree.structure(state)
        assert [leaf.dtype for leaf in jax.tree.leaves(restored.state)] == [
            leaf.dtype for leaf in jax.tree.leaves(state)
        ]
        assert checkpoint_step.digest(restored.state) == checkpoint_step.digest(state)
        assert jax.random.uniform(restored.state["key"]) == jax.random.uniform(state["key"])


def test_a_restored_step_goes_to_the_devices_of_its_template(tmp_path):
    save_steps(tmp_path, {3: None})
    device = jax.devices()[-1]
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(jax.device_put(make_state(), device))
    assert restored is not None
    assert all(leaf.devices() == {device} for leaf in jax.tree.leaves(restored.state))


def test_buffers_may_be_donated_or_changed_right_after_a_save(tmp_path):
    bump = jax.jit(lambda x: x + 1, donate_argnums=0)
    state = {"donated": jnp.arange(200_000, dtype=jnp.float32), "changed": np.arange(200_000, dtype=np.float32)}
    expected = checkpoint_step.digest(state)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, None)
        state["changed"][:] = 0
        for _ in range(20):
            state["donated"] = bump(state["donated"])
        restored = checkpoints.restore(state)
    assert restored is not None
    assert checkpoint_step.digest(restored.state) == expected


def test_the_digest_sees_path_type_shape_and_every_bit():
    table = np.arange(6, dtype=np.float32)
    flipped = table.copy()
    flipped.view(np.uint32)[5] ^= 1
    trees = [
        {"a": table},
        {"b": table},
        {"a": table.view(np.int32)},
        {"a": table.reshape(2, 3)},
        {"a": flipped},
        {"a": jax.random.key(0)},
        {"a": jax.random.key(1)},
    ]
    assert len({checkpoint_step.digest(tree) for tree in trees}) == len(trees)
    assert checkpoint_step.digest({"a": jnp.asarray(table)}) == checkpoint_step.digest({"a": table})


def test_latest_two_and_best_one_are_kept(tmp_path):
    save_steps(tmp_path, {1: 0.1, 2: 0.9, 3: 0.3, 4: 0.9, 5: 0.2, 6: None, 7: None})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "6", "7"]
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        newest, best = checkpoints.restore(make_state()), checkpoints.restore_best(make_state())
    assert newest is not None
    assert best is not None
    assert (newest.step, newest.score) == (7, None)
    assert (best.step, best.score) == (2, 0.9)  # the earliest of the equal ones


def test_the_best_one_by_each_other_score_is_kept_beside_that_by_the_score(tmp_path):
    """Clean and robust selection take other steps; the earliest of equal ones; a step may lack either score."""
    scores = {1: (0.9, 0.1), 2: (0.8, 0.5), 3: (0.9, 0.3), 4: (0.7, 0.5), 5: (None, 0.2), 6: (0.1, None), 7: (0.1, 0.0)}
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for step, (score, robust) in scores.items():
            checkpoints.save(step, make_state(step), None, score, {} if robust is None else {"robust": robust})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "6", "7"]
    with checkpoint.Checkpoints(tmp_path) as checkpoints:  # opened anew
        clean, robust = (checkpoints.restore_best(make_state(), name=name) for name in (None, "robust"))
        assert checkpoints.restore_best(make_state(), name="another") is None
    assert clean is not None
    assert robust is not None
    assert (clean.step, clean.score, robust.step, robust.score) == (1, 0.9, 2, 0.5)
    assert checkpoint_step.digest(robust.state) == checkpoint_step.digest(make_state(2))


def test_steps_saved_before_there_were_other_scores_are_read_and_kept(tmp_path):
    save_steps(tmp_path, {1: 0.9, 2: 0.2})
    assert "other_scores" not in json.loads((tmp_path / "1" / "header.json").read_text())  # as it was then
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for step in (3, 4, 5):
            checkpoints.save(step, make_state(step), None, 0.1, {"robust": 1 / step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3", "4", "5"]


@pytest.mark.parametrize("others", [{"robust": float("nan")}, {"score": 1.0}, {"step": 1.0}])
def test_other_scores_that_say_nothing_are_refused(tmp_path, others):
    with checkpoint.Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="Expected other_scores"):
        checkpoints.save(1, make_state(1), None, None, others)


def test_steps_without_a_score_are_not_kept_for_ever_and_none_is_best(tmp_path):
    save_steps(tmp_path, dict.fromkeys(range(4)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_best(make_state()) is None


def test_an_empty_directory_has_nothing_to_restore(tmp_path):
    with checkpoint.Checkpoints(tmp_path / "a" / "b") as checkpoints:
        assert checkpoints.restore(make_state()) is None


def empty(step: pathlib.Path) -> None:
    for path in sorted(step.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


SPOIL = {
    "flipped data bit": (lambda step: flip_bit(data_file(step), -99), "was altered"),
    "truncated data": (lambda step: os.truncate(data_file(step), 40), "was altered"),
    "missing data": (lambda step: data_file(step).unlink(), "is missing"),
    "missing metadata": (lambda step: (step / "state" / "_METADATA").unlink(), "state/_METADATA is missing"),
    "missing state": (lambda step: (step / "state").rename(step / "elsewhere"), "was altered"),
    "flipped header bit": (lambda step: flip_bit(step / "header.json", 20), "header.json was altered"),
    "empty header": (lambda step: (step / "header.json").write_bytes(b""), "header.json was altered"),
    "header of NaN": (lambda step: (step / "header.json").write_bytes(b'{"step": NaN}'), "header.json was altered"),
    "header of another kind": (lambda step: (step / "header.json").write_bytes(b"[1]"), "header.json was altered"),
    "missing header": (lambda step: (step / "header.json").unlink(), "header.json, which is written last"),
    "altered score": (lambda step: (step / "metrics" / "metrics").write_bytes(b'{"score": 9}'), "metrics was altered"),
    "another step": (lambda step: shutil.copy(step.parent / "1" / "header.json", step), "it holds step 1"),
    "empty directory": (empty, "empty directory"),
}


@pytest.mark.parametrize("name", SPOIL)
def test_a_bad_step_is_named_and_the_step_before_it_is_used(tmp_path, capsys, name):
    spoil, why = SPOIL[name]
    save_steps(tmp_path, {1: 0.1, 2: 0.2})
    spoil(tmp_path / "2")
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(make_state())
        assert restored is not None
        assert (restored.step, restored.meta) == (1, {"position": 1})
        (warning,) = capsys.readouterr().err.splitlines()
        assert "step 2" in warning
        assert why in warning
        checkpoints.save(2, make_state(2), {"position": 2}, 0.2)  # the bad step is not in the way of a new one
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        again = checkpoints.restore(make_state())
    assert again is not None
    assert checkpoint_step.digest(again.state) == checkpoint_step.digest(make_state(2))
    assert capsys.readouterr().err == ""


def test_a_flipped_bit_in_any_file_is_found(tmp_path, capsys):
    save_steps(tmp_path, {1: 0.1})
    rng = np.random.default_rng(0)
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        original = path.read_bytes()
        flip_bit(path, int(rng.integers(len(original))), 1 << int(rng.integers(8)))
        assert checkpoint.verify(tmp_path) is None, path
        path.write_bytes(original)
    assert checkpoint.verify(tmp_path) == (1, checkpoint_step.digest(make_state(1)))


def test_data_without_the_digest_they_were_saved_with_are_found(tmp_path, monkeypatch, capsys):
    save_steps(tmp_path / "a", {1: 0.1})
    save_steps(tmp_path / "b", {2: 0.2})
    shutil.rmtree(tmp_path / "a" / "1" / "state")
    (tmp_path / "b" / "2" / "state").rename(tmp_path / "a" / "1" / "state")
    monkeypatch.setattr(checkpoint_step, "_sums", lambda path: json.loads((path / "header.json").read_text())["files"])
    assert checkpoint.verify(tmp_path / "a") is None
    assert "does not have the digest" in capsys.readouterr().err


def test_a_step_far_ahead_that_is_an_empty_directory_stops_no_save(tmp_path, capsys):
    save_steps(tmp_path, {1: None})
    (tmp_path / "999").mkdir()
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    save_steps(tmp_path, {2: None})
    unfinished, ahead = capsys.readouterr().err.splitlines()
    assert "2.orbax-checkpoint-tmp was not finished" in unfinished
    assert "step 999" in ahead
    assert checkpoint.verify(tmp_path) == (2, checkpoint_step.digest(make_state(2)))


def test_a_directory_that_a_training_writes_to_is_read_and_left_alone(tmp_path, capsys):
    save_steps(tmp_path, {1: 0.3, 2: 0.3, 3: 0.1})
    (tmp_path / "4.orbax-checkpoint-tmp").mkdir()
    shutil.copytree(tmp_path / "3", tmp_path / "4")
    (tmp_path / "4" / "header.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    found = checkpoint.best(tmp_path, make_state())
    assert found is not None
    assert (found.step, found.score, found.meta) == (1, 0.3, {"position": 1})
    assert checkpoint_step.digest(found.state) == checkpoint_step.digest(make_state(1))
    assert checkpoint.best(tmp_path, make_state(), name="robust") is None
    assert checkpoint.newest(tmp_path) == {"position": 3}
    latest = checkpoint.latest(tmp_path, make_state())
    assert latest is not None
    assert (latest.step, latest.score, latest.meta) == (3, 0.1, {"position": 3})
    assert checkpoint_step.digest(latest.state) == checkpoint_step.digest(make_state(3))
    assert sorted(tmp_path.rglob("*")) == before
    assert "step 4" in capsys.readouterr().err


@pytest.mark.parametrize("name", [None, "robust"])
def test_no_other_step_stands_for_a_damaged_best_one(tmp_path, name):
    scores = {1: (0.9, 0.1), 2: (0.1, 0.9), 3: (0.2, 0.2), 4: (0.3, 0.3)}
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for step, (score, robust) in scores.items():
            checkpoints.save(step, make_state(step), None, score, {"robust": robust})
    best = 1 if name is None else 2
    flip_bit(data_file(tmp_path / str(best)), -99)
    expected = rf"Expected the step of .* with the highest {name or 'score'}, 0.9, got none"
    with pytest.raises(InputError, match=expected):
        checkpoint.best(tmp_path, make_state(), name=name)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(InputError, match=expected):
            checkpoints.restore_best(make_state(), name=name)
        checkpoints.save(5, make_state(5), None, 0.95, {"robust": 0.95})
        assert getattr(checkpoints.restore_best(make_state(), name=name), "step", None) == 5


def test_a_score_that_is_trained_for_again_is_not_missed(tmp_path):
    save_steps(tmp_path, {1: 0.1, 2: 0.9})
    flip_bit(data_file(tmp_path / "2"), -99)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for found in (checkpoints.restore(make_state()), checkpoints.restore_best(make_state())):
            assert found is not None
            assert found.step == 1


def test_a_step_saved_again_is_replaced_if_it_changed(tmp_path):
    save_steps(tmp_path, {1: None, 2: None})
    before = data_file(tmp_path / "2").stat().st_mtime_ns
    save_steps(tmp_path, {2: None})
    assert data_file(tmp_path / "2").stat().st_mtime_ns == before
    save_steps(tmp_path, {2: 0.5})
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_best(make_state())
        assert restored is not None
        assert (restored.step, restored.score) == (2, 0.5)
        with pytest.raises(ValueError, match=r"Expected a step of at least 2, .* got 1"):
            checkpoints.save(1, make_state(1), None)


def test_a_template_of_another_state_is_refused_not_cast(tmp_path):
    save_steps(tmp_path, {1: None})
    state = make_state()
    narrow = state | {"params": jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state["params"])}
    wide = state | {"params": {"tables": {"user": jnp.zeros((50, 80))}, "weights": {}}}
    for template, message in (
        (narrow, r"\['user'\]: float32\[50, 40\] -> bfloat16\[50, 40\]"),
        (wide, r"\['user'\]: float32\[50, 40\] -> float32\[50, 80\]"),
        (state | {"more": jnp.zeros(2)}, r"\['more'\]: None -> float32\[2\]"),
        (state | {"key": jax.random.key_data(state["key"])}, r"key of uint32\[2\] -> uint32\[2\]"),
    ):
        with checkpoint.Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match=message):
            checkpoints.restore(template)
    assert (tmp_path / "1").exists()


@pytest.mark.parametrize(
    ("state", "score", "message"),
    [
        ({"a": 1}, None, "Expected an array at"),
        ({"a": np.zeros(2)}, None, "Expected a type that JAX keeps at .*float64"),
        ({"a": np.zeros((0, 2), np.float32)}, None, "with elements"),
        ({"a": np.zeros(2, np.float32)}, float("nan"), "finite score"),
    ],
)
def test_what_would_not_come_back_as_it_went_is_refused(tmp_path, state, score, message):
    with checkpoint.Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match=message):
        checkpoints.save(1, state, None, score)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"Could not open checkpoints in .*file"):
        checkpoint.Checkpoints(tmp_path / "file" / "below")


SAVE_FOR_EVER = """
    import sys
    import numpy as np
    from jaxrec import checkpoint
    with checkpoint.Checkpoints(sys.argv[1]) as checkpoints:
        restored = checkpoints.restore({"table": np.zeros(50_000, np.float32)})
        step = restored.step if restored else 0
        while True:
            step += 1
            checkpoints.save(step, {"table": np.full(50_000, step, np.float32)}, {"step": step})
            print(step, flush=True)
"""


def test_kill_9_at_any_moment_leaves_a_good_step(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(SAVE_FOR_EVER)]
    delays = {"at once": 0.0, "a moment later": 0.07}
    children = {
        name: subprocess.Popen([*command, str(tmp_path / name)], stdout=subprocess.PIPE, text=True) for name in delays
    }
    for name, child in children.items():
        with child:
            assert child.stdout is not None
            begun = [int(child.stdout.readline()) for _ in range(4)][-1]
            time.sleep(delays[name])
            child.send_signal(signal.SIGKILL)
        with checkpoint.Checkpoints(tmp_path / name) as checkpoints:
            restored = checkpoints.restore({"table": np.zeros(50_000, np.float32)})
        assert restored is not None
        assert restored.step >= begun - 1  # the save before the one that began last has ended
        assert restored.meta == {"step": restored.step}
        assert np.all(np.asarray(restored.state["table"]) == restored.step)


def digest_of(run_dir: pathlib.Path, capsys) -> list[str]:
    """What the command prints, a warning left in `capsys`."""
    checkpoint.main(checkpoint.Config("digest", run_dir))
    return capsys.readouterr().out.splitlines()


def test_the_command_verifies_the_newest_good_step_of_every_model(tmp_path, capsys):
    save_steps(tmp_path / "checkpoints" / "apr-0", {1: 0.1, 2: 0.2})
    newest = checkpoint_step.digest(make_state(2))
    assert digest_of(tmp_path, capsys) == [f"apr-0 step 2 {newest}", newest]
    save_steps(tmp_path / "checkpoints" / "bpr-0", {7: None})
    flip_bit(data_file(tmp_path / "checkpoints" / "apr-0" / "2"), -99)
    lines = digest_of(tmp_path, capsys)
    models = {"apr-0 step 1": make_state(1), "bpr-0 step 7": make_state(7)}
    assert lines[:2] == [f"{name} {checkpoint_step.digest(state)}" for name, state in models.items()]
    assert lines[2:] == [hashlib.sha256("\n".join(lines[:2]).encode()).hexdigest()]
    assert (tmp_path / "checkpoints" / "apr-0" / "2").exists()  # looking changes nothing


def test_the_command_refuses_models_without_a_good_step(tmp_path):
    (tmp_path / "checkpoints" / "apr-0").mkdir(parents=True)
    with pytest.raises(InputError, match=r"Expected a good checkpoint in .*apr-0, found none"):
        checkpoint.main(checkpoint.Config("digest", tmp_path))


def test_the_command_refuses_a_directory_without_checkpoints_in_one_line(tmp_path):
    command = [sys.executable, "-m", "jaxrec.checkpoint", "digest", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Expected checkpoints in ")
