"""The project's own promises: what README shows works, versions agree, and no data is committed."""

import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from packaging import requirements, utils

import jaxrec

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = (
    "pip install -e '.[demo]' && python -m experiments.ml1m_apr",
    "pip install -e '.[test]' && python -m pytest",
)
DATA = {".csv", ".dat", ".data", ".gz", ".inter", ".npy", ".npz", ".parquet", ".pkl", ".rating", ".tsv", ".xz", ".zip"}
LARGEST = 400_000  # bytes


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*args, path, cwd=ROOT, **environment):
    """Runs Python in a process that imports from the folder `path` first."""
    environment = os.environ | {"PYTHONPATH": str(path)} | environment
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_shows_the_two_commands(readme, command):
    assert re.search(rf"(^ *|`){re.escape(command)}($|`)", readme, re.MULTILINE), command


def test_the_quickstart_of_the_readme_runs(readme, tmp_path):
    block = re.search(
        r"^#+ [^\n]*Quickstart.*?^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE | re.IGNORECASE
    )
    assert block, "README.md has no ```python block under a heading with the word Quickstart"
    # A hundred thousand pairs an epoch, and a gradient: XLA at its fastest compiling would make it take twice as long.
    flags = os.environ.get("XLA_FLAGS", "").replace("optimization_level=0", "optimization_level=1")
    done = run("-c", block[1], path=ROOT, cwd=tmp_path, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr


def test_help_of_the_main_job_does_not_import_jax(tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('--help imported jax')")
    done = run("-m", "experiments.ml1m_apr", "--help", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--epsilon" in done.stdout


def test_the_version_is_one(project):
    assert jaxrec.__version__ == project["version"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_has_a_tested_version_that_the_project_allows(project):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    tested = {utils.canonicalize_name(name): version for name, version in tested.items()}
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in ("demo", "test", "bench", "dev") for line in extras[name])]
    for line in wanted:
        requirement = requirements.Requirement(line)
        if requirement.name != project["name"]:
            name = utils.canonicalize_name(requirement.name)
            assert name in tested, f"constraints.txt has no {line}"
            assert tested[name] in requirement.specifier, line


def test_no_data_and_no_large_file_is_committed():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert files
    assert [file for file in files if file.suffix in DATA] == []
    assert [file for file in files if file.stat().st_size > LARGEST] == []
