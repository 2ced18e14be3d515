"""Makes each run's results.md again from its results.json, byte for byte; by default for all of runs/*/*.

python -m experiments.tables [RUN_DIR ...]
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated

import tyro

from jaxrec import command, errors, files, records, results


@dataclasses.dataclass(frozen=True)
class Config:
    """Which runs."""

    run_dirs: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional] = ()  # run directories; none given: runs/*/*


def main(config: Config) -> None:
    """Writes the tables and says which."""
    run_dirs = config.run_dirs or sorted(path.parent for path in pathlib.Path("runs").glob("*/*/results.json"))
    if not run_dirs:
        raise errors.InputError("Expected runs with records, runs/*/*/results.json, found none.")
    for run_dir in run_dirs:
        files.write_text(run_dir / "results.md", results.page(records.read_records(run_dir / "results.json")))
        print(run_dir / "results.md")


if __name__ == "__main__":
    command.run(main, Config)
