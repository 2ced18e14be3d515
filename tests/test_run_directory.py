"""Laws of run directories."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import measured
import pytest

from jaxrec import files, provenance, records, results, run_directory
from jaxrec.types import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    epsilon: float = 0.5
    batch_size: int = 512
    epsilons: tuple[float, ...] = (0.0, 0.1)
    run_dir: pathlib.Path = pathlib.Path("runs/a")
    num_seeds: int = 1


DATA = {"rows": 3, "users": 2, "items": 3, "sha256": "ab"}


def test_a_run_goes_on_with_the_same_config_and_data(tmp_path, capsys):
    path = tmp_path / "runs" / "a"
    with run_directory.open_run(path, Config(), DATA) as run:
        assert run.is_new
        run.metrics.write({"step": 1})
        run.timings.write({"seconds": 1.5})
    recorded = (path / "config.json").read_bytes()
    with run_directory.open_run(path, Config(run_dir=path), DATA) as run:
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
    with run_directory.open_run(tmp_path, Config(), DATA):
        pass
    changed = Config(epsilon=1.0, epsilons=(0.0,), run_dir=pathlib.Path("elsewhere"), num_seeds=5)
    with (
        pytest.raises(InputError) as refusal,
        run_directory.open_run(
            tmp_path, changed, DATA | {"rows": 4, "sha256": "cd"}, may_change=("run_dir", "num_seeds")
        ),
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
    with run_directory.open_run(tmp_path, Config(), DATA):
        pass  # a refusal lets go of the lock


def test_a_field_that_came_or_went_is_a_difference(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Later(Config):
        sampler: str = "shuffled"

    with run_directory.open_run(tmp_path, Config(), DATA):
        pass
    with pytest.raises(InputError, match=r'config\.sampler: \(absent\) -> "shuffled"'):
        run_directory.open_run(tmp_path, Later(), DATA).__enter__()


def test_a_field_that_came_and_asks_for_nothing_is_no_difference(tmp_path, capsys):
    @dataclasses.dataclass(frozen=True)
    class Later(Config):
        sampler: str | None = None

    with run_directory.open_run(tmp_path, Config(), DATA):
        pass
    with run_directory.open_run(tmp_path, Later(), DATA) as run:
        assert not run.is_new
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match=r'config\.sampler: \(absent\) -> "shuffled"'):
        run_directory.open_run(tmp_path, Later(sampler="shuffled"), DATA).__enter__()


def test_another_environment_is_warned_of_not_refused(tmp_path, capsys):
    with run_directory.open_run(tmp_path, Config(), DATA):
        pass
    recorded = json.loads((tmp_path / "config.json").read_text())
    recorded["versions"]["jax"] = "0.0.1"
    files.write_json(tmp_path / "config.json", recorded)
    with run_directory.open_run(tmp_path, Config(), DATA) as run:
        assert not run.is_new
    (warning,) = capsys.readouterr().err.splitlines()
    assert 'versions.jax: "0.0.1" -> ' in warning


def test_records_name_every_commit_and_device_that_the_run_was_opened_with(tmp_path, monkeypatch):
    """Also of a run that began before openings were kept; what is opened alike adds nothing."""
    made = measured.record(device="now", commit="now")
    assert results.write(tmp_path, [made]) == [made], "outside of a run records are as they were made"
    for commit, device in (("a1", "cpu"), ("b2", "cpu"), ("a1", "cpu"), ("b2", "gpu")):
        monkeypatch.setattr(provenance, "commit", lambda commit=commit: commit)
        monkeypatch.setattr(provenance, "device", lambda device=device: device)
        with run_directory.open_run(tmp_path, Config(), DATA):
            written = results.write(tmp_path, [made])
        if commit == "a1":
            recorded = json.loads((tmp_path / "config.json").read_text())
            assert (recorded["commit"], recorded["device"]) == ("a1", "cpu")
            if len(recorded["openings"]) == 1:
                del recorded["openings"]
                files.write_json(tmp_path / "config.json", recorded)
    assert (written[0].commit, written[0].device) == ("a1, b2", "cpu, gpu")
    assert records.read_records(tmp_path / "results.json") == written
    assert (tmp_path / "results.md").read_text() == results.page(written)


@pytest.mark.parametrize("spoilt", ["{", "[1]"])
def test_a_config_that_cannot_be_read_is_named(tmp_path, spoilt):
    (tmp_path / "config.json").write_text(spoilt)
    with pytest.raises(InputError, match=r"Expected .*JSON.* in .*config\.json"):
        run_directory.open_run(tmp_path, Config(), DATA).__enter__()


def test_checkpoints_without_a_config_are_not_gone_on_from(tmp_path):
    (tmp_path / "checkpoints" / "bpr-0" / "3").mkdir(parents=True)
    with pytest.raises(InputError, match=r"Expected config\.json beside the checkpoints"):
        run_directory.open_run(tmp_path, Config(), DATA).__enter__()


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
            run_directory.open_run(place, Config(), DATA).__enter__()


HOLD = """
    import sys
    from jaxrec import run_directory
    with run_directory._locked(run_directory.pathlib.Path(sys.argv[1]) / "lock"):
        print("held", flush=True)
        sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_dead_one_is_followed(tmp_path, capsys):
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"in use by process {holder.pid} on \S+ since \S+ \(-c {tmp_path}\)"):
            run_directory.open_run(tmp_path, Config(), DATA).__enter__()
        holder.send_signal(signal.SIGKILL)
    with run_directory.open_run(tmp_path, Config(), DATA) as run:
        assert run.is_new
        (warning,) = capsys.readouterr().err.splitlines()
        assert f"took over the lock on {tmp_path} from process {holder.pid}" in warning
        with pytest.raises(InputError, match=f"in use by process {os.getpid()} "):
            run_directory.open_run(tmp_path, Config(), DATA).__enter__()
    with run_directory.open_run(tmp_path, Config(), DATA):
        assert capsys.readouterr().err == ""  # the last one left in peace
