"""Lists the experiments: what each claims, what it costs, and the command that runs it."""

from __future__ import annotations

import ast
import dataclasses
import pathlib
import re
from typing import NamedTuple

from jaxrec import command


class Experiment(NamedTuple):
    """What the docstring of an experiment says; "" where it says nothing."""

    claim: str
    expected: str
    cost: str
    run: str


def read_docstring(docstring: str) -> Experiment | None:
    """The parts of an experiment's docstring; None if it has no "Run:", and so is no experiment.

    Claim, in the first paragraph.

    Expected: figures. Cost: time.
    Run:      command
    """
    claim, _, rest = docstring.partition("\n\n")
    parts = re.split(r"\b(Expected|Cost|Run): ", " ".join(rest.split()))
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    if "Run" not in found:
        return None
    return Experiment(" ".join(claim.split()), *(found.get(name, "").strip() for name in ("Expected", "Cost", "Run")))


def find(folder: pathlib.Path) -> dict[str, Experiment]:
    """{module: experiment} of a folder, read without importing anything."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if (experiment := read_docstring(docstring)) is not None:
            found[path.stem] = experiment
    return found


@dataclasses.dataclass(frozen=True)
class Config:
    """Nothing to choose."""


def main(config: Config) -> None:
    """Prints the list."""
    for name, experiment in find(pathlib.Path(__file__).parent).items():
        print(f"{name}: {experiment.claim}")
        for label, text in (("expected", experiment.expected), ("cost", experiment.cost), ("run", experiment.run)):
            print(f"  {label:<9} {text or '-'}")


if __name__ == "__main__":
    command.run(main, Config)
