"""Laws of run directories, logs and records."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import records, types
from jaxrec.types import InputError


def interactions(**changes) -> types.Interactions:
    """Three interactions of two users and three items, with every column."""
    columns = {
        "users": np.array([0, 1, 1], np.int32),
        "items": np.array([2, 0, 1], np.int32),
        "num_users": 2,
        "num_items": 3,
        "ratings": np.array([1.0, 2.0, 3.0], np.float32),
        "timestamps": np.array([5, 6, 7], np.int64),
        "user_ids": np.array(["ann", "bob"], object),
        "item_ids": np.array([10, 20, 30]),
    }
    return types.Interactions(**(columns | changes))


@dataclasses.dataclass(frozen=True)
class Config:
    epsilon: float = 0.5
    batch_size: int = 512
    epsilons: tuple[float, ...] = (0.0, 0.1)
    run_dir: pathlib.Path = pathlib.Path("runs/a")
    num_seeds: int = 1


DATA = {"rows": 3, "users": 2, "items": 3, "sha256": "ab"}


# Fingerprints.


def test_the_fingerprint_counts_and_hashes():
    assert records.fingerprint(interactions()) | {"sha256": ""} == {"rows": 3, "users": 2, "items": 3, "sha256": ""}
    split = types.Split(interactions(), interactions(), interactions().take(np.array([0])))
    assert records.fingerprint(split) | {"sha256": ""} == {"rows": 7, "users": 2, "items": 3, "sha256": ""}
    assert records.fingerprint(split) == records.fingerprint(types.Split(*split))


def test_the_fingerprint_sees_every_column_its_type_and_its_shape():
    changed = [
        {},
        {"users": np.array([1, 1, 1], np.int32)},
        {"items": np.array([2, 0, 2], np.int32)},
        {"num_users": 4, "user_ids": None},
        {"num_users": 5, "user_ids": None},
        {"ratings": None},
        {"ratings": np.array([1.0, 2.0, np.nextafter(np.float32(3), 4, dtype=np.float32)], np.float32)},
        {"timestamps": np.array([5, 6, 8], np.int64)},
        {"user_ids": np.array(["ann", "bop"], object)},
        {"item_ids": np.array([10, 20, 30], np.int32)},
    ]
    hashes = [records.fingerprint(interactions(**change))["sha256"] for change in changed]
    data = interactions()
    for negatives in (None, np.zeros((2, 2), np.int32), np.zeros((4, 1), np.int32)):
        hashes.append(records.fingerprint(types.Split(data, data, data, negatives))["sha256"])
    assert len(set(hashes)) == len(hashes)
    equal = interactions(user_ids=np.array(["".join("ann"), "".join("bob")], object))  # other objects, equal words
    assert records.fingerprint(equal)["sha256"] == hashes[0]


# Files and logs.


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    records.write_json(path, {"a": [0.1, 1]})

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        records.write_json(path, {"b": 2})
    assert json.loads(path.read_text()) == {"a": [0.1, 1]}
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    with pytest.raises(ValueError, match="nan"):
        records.write_json(path, math.nan)


def test_a_log_gives_back_the_numbers_it_got(tmp_path):
    log = records.Log(tmp_path / "metrics.jsonl")
    single = np.float32(0.1)
    line = {"z": 0.1 + 0.2, "a": single, "n": np.int32(3), "t": (1, 2), "j": jnp.float32(0.1)}
    log.write(line)
    text = (tmp_path / "metrics.jsonl").read_text()  # before it is closed: each line is flushed
    log.close()
    assert list(json.loads(text)) == list(line)
    assert json.loads(text) == {"z": 0.1 + 0.2, "a": float(single), "n": 3, "t": [1, 2], "j": float(single)}


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), [1.0, math.nan], np.array([1.0, math.inf])])
def test_a_log_takes_no_number_that_is_not_finite(tmp_path, value):
    log = records.Log(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.write({"loss": value})
    assert log.position() == 0
    log.close()


def test_a_resumed_log_ends_with_the_same_bytes(tmp_path):
    with contextlib.closing(records.Log(tmp_path / "whole.jsonl")) as whole:
        for step in range(6):
            whole.write({"step": step, "loss": 1 / (step + 1)})
    path = tmp_path / "resumed.jsonl"
    with contextlib.closing(records.Log(path)) as first:
        for step in range(3):
            first.write({"step": step, "loss": 1 / (step + 1)})
        position = first.position()
        first.write({"step": 3, "loss": 0.0})
    path.write_bytes(path.read_bytes() + b'{"step": 4, "lo')  # killed in the middle of a line
    with contextlib.closing(records.Log(path)) as second:
        second.truncate(position)
        for step in range(3, 6):
            second.write({"step": step, "loss": 1 / (step + 1)})
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_log_shorter_than_its_checkpoint_says_is_refused(tmp_path):
    with contextlib.closing(records.Log(tmp_path / "metrics.jsonl")) as log:
        log.write({"step": 1})
        with pytest.raises(InputError, match=r"at least 99 bytes in .*metrics\.jsonl.* found 12"):
            log.truncate(99)


# Run directories.


def test_a_run_goes_on_with_the_same_config_and_data(tmp_path, capsys):
    path = tmp_path / "runs" / "a"
    with records.open_run(path, Config(), DATA) as run:
        assert run.is_new
        run.metrics.write({"step": 1})
        run.timings.write({"seconds": 1.5})
    recorded = (path / "config.json").read_bytes()
    with records.open_run(path, Config(run_dir=path), DATA) as run:
        assert not run.is_new
        run.metrics.write({"step": 2})
    assert (path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert (path / "config.json").read_bytes() == recorded
    found = json.loads(recorded)
    assert found["config"] == {
        "epsilon": 0.5,
        "batch_size": 512,
        "epsilons": [0.0, 0.1],
        "run_dir": "runs/a",
        "num_seeds": 1,
    }
    assert found["data"] == DATA
    assert found["versions"].keys() >= {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"}
    assert found["device"].startswith("4 x cpu")
    assert found["commit"]
    assert capsys.readouterr().err == ""


def test_every_changed_field_and_the_changed_data_are_listed(tmp_path):
    with records.open_run(tmp_path, Config(), DATA):
        pass
    changed = Config(epsilon=1.0, epsilons=(0.0,), run_dir=pathlib.Path("elsewhere"), num_seeds=5)
    with (
        pytest.raises(InputError) as refusal,
        records.open_run(tmp_path, changed, DATA | {"rows": 4, "sha256": "cd"}, may_change=("run_dir", "num_seeds")),
    ):
        pytest.fail("the run was opened")
    for difference in (
        "config.epsilon: 0.5 -> 1.0",
        "config.epsilons: [0.0, 0.1] -> [0.0]",
        "data.rows: 3 -> 4",
        'data.sha256: "ab" -> "cd"',
    ):
        assert difference in str(refusal.value)
    for same in ("batch_size", "run_dir", "num_seeds", "data.users"):
        assert same not in str(refusal.value)
    with records.open_run(tmp_path, Config(), DATA):
        pass  # a refusal lets go of the lock


def test_a_field_that_came_or_went_is_a_difference(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Later(Config):
        sampler: str = "shuffled"

    with records.open_run(tmp_path, Config(), DATA):
        pass
    with pytest.raises(InputError, match=r'config\.sampler: \(absent\) -> "shuffled"'):
        records.open_run(tmp_path, Later(), DATA).__enter__()


def test_another_environment_is_warned_of_not_refused(tmp_path, capsys):
    with records.open_run(tmp_path, Config(), DATA):
        pass
    recorded = json.loads((tmp_path / "config.json").read_text())
    recorded["versions"]["jax"] = "0.0.1"
    records.write_json(tmp_path / "config.json", recorded)
    with records.open_run(tmp_path, Config(), DATA) as run:
        assert not run.is_new
    (warning,) = capsys.readouterr().err.splitlines()
    assert 'versions.jax: "0.0.1" -> ' in warning


@pytest.mark.parametrize("spoilt", ["{", "[1]"])
def test_a_config_that_cannot_be_read_is_named(tmp_path, spoilt):
    (tmp_path / "config.json").write_text(spoilt)
    with pytest.raises(InputError, match=r"Expected .*JSON.* in .*config\.json"):
        records.open_run(tmp_path, Config(), DATA).__enter__()


def test_checkpoints_without_a_config_are_not_gone_on_from(tmp_path):
    (tmp_path / "checkpoints" / "bpr-0" / "3").mkdir(parents=True)
    with pytest.raises(InputError, match=r"Expected config\.json beside the checkpoints"):
        records.open_run(tmp_path, Config(), DATA).__enter__()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    places = [
        tmp_path / "file",
        tmp_path / "file" / "below",
        pathlib.Path("/proc/jaxrec-run"),
        pathlib.Path("/proc/self"),
    ]
    for place in places:
        with pytest.raises(InputError, match=f"Expected a run directory that can be written, got {place}: "):
            records.open_run(place, Config(), DATA).__enter__()


HOLD = """
    import sys
    from jaxrec import records
    with records._locked(records.pathlib.Path(sys.argv[1]) / "lock"):
        print("held", flush=True)
        sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_dead_one_is_followed(tmp_path, capsys):
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"in use by process {holder.pid} on \S+ since \S+ \(-c {tmp_path}\)"):
            records.open_run(tmp_path, Config(), DATA).__enter__()
        holder.send_signal(signal.SIGKILL)
    with records.open_run(tmp_path, Config(), DATA) as run:
        assert run.is_new
        (warning,) = capsys.readouterr().err.splitlines()
        assert f"took over the lock on {tmp_path} from process {holder.pid}" in warning
        with pytest.raises(InputError, match=f"in use by process {os.getpid()} "):
            records.open_run(tmp_path, Config(), DATA).__enter__()
    with records.open_run(tmp_path, Config(), DATA):
        assert capsys.readouterr().err == ""  # the last one left in peace


# Provenance.


def git(tree: pathlib.Path, *args: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", "-C", tree, *identity, *args], capture_output=True, text=True, check=True).stdout


def test_the_commit_says_whether_the_code_was_changed(tmp_path, monkeypatch):
    module = tmp_path / "jaxrec" / "records.py"
    module.parent.mkdir()
    module.touch()
    monkeypatch.setattr(records, "__file__", str(module))
    assert records.commit() == "unknown"
    git(tmp_path, "init", "-q")
    assert records.commit() == "unknown"  # nothing is committed
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    short = git(tmp_path, "rev-parse", "--short", "HEAD").strip()
    (tmp_path / "notes.txt").touch()
    assert records.commit() == short
    (tmp_path / "jaxrec" / "new.py").touch()
    assert records.commit() == f"{short}-dirty"
    monkeypatch.setattr(records, "__file__", str(tmp_path / "venv" / "lib" / "jaxrec" / "records.py"))
    (tmp_path / "venv" / "lib").mkdir(parents=True)
    assert records.commit() == "unknown"  # that tree is not ours


# Records.


def record(**changes) -> records.Record:
    """A measurement without an attack."""
    fields: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(records.Record))
    fields |= {
        "experiment": "ml1m_apr",
        "model": "mf",
        "dataset": "MovieLens-1M",
        "split": "leave-one-out",
        "protocol": "full ranking",
        "metric": "ndcg",
        "k": 10,
        "value": 0.0427,
        "interval": (0.0412, 0.0441),
        "seeds": (0, 1),
        "users": 6040,
        "step": 200,
        "chosen_by": "validation",
        "training": "200 epochs",
        "device": "2 x cpu",
        "commit": "abc",
        "fingerprint": "ff",
    }
    return records.Record(**(fields | changes))


ATTACKED = {
    "defence": "apr",
    "surface": "user and item tables",
    "attack": "pgd",
    "oracle": "white-box",
    "epsilon": 0.5,
    "epsilon_unit": "absolute",
    "achieved_norm": {"user": 0.5, "item": 0.25},
    "gradient_evaluations": 20,
}


def test_records_come_back_as_they_were_written(tmp_path):
    written = [record(), record(**ATTACKED, metric="coverage", k=None, value=1 / 3, interval=None)]
    records.write_records(tmp_path / "results.json", written)
    assert records.read_records(tmp_path / "results.json") == written
    before = (tmp_path / "results.json").read_bytes()
    records.write_records(tmp_path / "results.json", records.read_records(tmp_path / "results.json"))
    assert (tmp_path / "results.json").read_bytes() == before


def test_a_record_has_the_fields_of_the_design_and_all_are_required():
    names = """
        experiment model defence dataset split protocol surface attack oracle epsilon epsilon_unit gauge achieved_norm
        gradient_evaluations queries metric k value interval seeds users step chosen_by training device commit
        fingerprint
    """
    assert [field.name for field in dataclasses.fields(records.Record)] == names.split()
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(records.Record))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": math.nan}, "finite"),
        ({"interval": (0.1, math.inf)}, "finite"),
        (ATTACKED | {"achieved_norm": {"user": math.nan}}, "finite"),
        ({"interval": (0.2, 0.1)}, r"interval \(low, high\)"),
        (ATTACKED | {"epsilon": -1.0}, "epsilon >= 0"),
        (ATTACKED | {"epsilon_unit": None}, "absolute or relative"),
        ({"epsilon": 0.5, "epsilon_unit": "absolute"}, "no attack"),
        ({"queries": 3}, "no attack"),
        ({"device": ""}, "empty device"),
        ({"seeds": ()}, "empty seeds"),
    ],
)
def test_an_unsound_record_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        record(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("users"), "record 2; missing or unknown: users"),
        (lambda entry: entry.update(note="x"), "record 2; missing or unknown: note"),
        (lambda entry: entry.update(value=float("nan")), "record 2: Expected finite"),
        (lambda entry: entry.update(interval=[0.1]), "record 2: "),
    ],
)
def test_a_spoilt_record_is_named(tmp_path, change, message):
    path = tmp_path / "results.json"
    records.write_records(path, [record(), record()])
    entries = json.loads(path.read_text())
    change(entries[1])
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=message):
        records.read_records(path)


@pytest.mark.parametrize(
    ("text", "message"), [("[", "Expected JSON"), ("{}", "Expected a list"), (None, "No such file")]
)
def test_a_file_that_holds_no_records_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=rf"{message}|results\.json: {message}"):
        records.read_records(tmp_path / "results.json")


def test_the_table_has_a_row_for_each_condition_and_a_column_for_each_metric():
    made = records.markdown_table(
        [
            record(),
            record(metric="coverage", k=None, value=0.5, interval=None),
            record(**ATTACKED, step=300),
            record(**ATTACKED | {"epsilon": 0.01, "epsilon_unit": "relative", "gauge": "canonical"}, step=300),
        ]
    )
    norm = "user 0.5, item 0.25"
    assert made == textwrap.dedent(
        f"""\
        # ml1m_apr on MovieLens-1M

        | model | defence | attack | epsilon | step | ndcg@10 | coverage |
        | --- | --- | --- | --- | --- | --: | --: |
        | mf | - | - | - | 200 | 0.0427 [0.0412, 0.0441] | 0.5000 |
        | mf | apr | pgd | 0.5 absolute | 300 | 0.0427 [0.0412, 0.0441] | - |
        | mf | apr | pgd | 0.01 relative, canonical gauge | 300 | 0.0427 [0.0412, 0.0441] | - |

        - achieved_norm: {norm}
        - surface: user and item tables
        - oracle: white-box
        - gradient_evaluations: 20
        - training: 200 epochs
        - chosen_by: validation
        - dataset: MovieLens-1M
        - split: leave-one-out
        - protocol: full ranking
        - users: 6040
        - seeds: 0 1
        - device: 2 x cpu
        - commit: abc
        - fingerprint: ff
        - in brackets: 95 % intervals
        """
    )


def test_a_table_hides_no_second_value_of_a_cell_and_breaks_on_no_bar():
    with pytest.raises(ValueError, match="a second"):
        records.markdown_table([record(), record(value=0.5, interval=None)])
    with pytest.raises(ValueError, match="at least one record"):
        records.markdown_table([])
    assert r"| a\|b |" in records.markdown_table([record(model="a|b\n")])
