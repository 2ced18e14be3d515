"""Runs of tables of models, opened again: which experiment made them, with which flags, on which data.

A table of models is an experiment with `Config` and `parts(config) -> (data, bench, rows)`. Nothing here imports jax
before a run is found to be one.
"""

import dataclasses
import importlib
import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxrec import errors


class Opened(NamedTuple):
    """A run: the experiment's name, its flags, and its parts made anew (study.Data, bench.Bench and rows)."""

    path: pathlib.Path
    experiment: str
    settings: Any
    data: Any
    on: Any
    rows: list[Any]


def read_config(run: pathlib.Path) -> dict[str, Any]:
    """What config.json records.

    Raises:
        InputError: If it is not there or records something else.
    """
    try:
        recorded = json.loads((run / "config.json").read_text())
        if isinstance(recorded["config"], dict) and isinstance(recorded["data"]["sha256"], str):
            return recorded
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise errors.InputError(f"Expected a run directory with its config.json, got {run}.")


def experiment_of(run: pathlib.Path, *, named: str | None = None, besides: tuple[str, ...] = ()) -> str:
    """The experiment that made a run: a table of models, or one of `besides`.

    Args:
        run: The run directory, whose results.json says so.
        named: What the user says it is, for a run that has no results yet.

    Raises:
        InputError: If it is no such run.
    """
    name = named
    if name is None:
        try:
            name = json.loads((run / "results.json").read_text())[0]["experiment"]
        except (OSError, ValueError, LookupError, TypeError):
            message = f"Expected {run}/results.json to say which experiment made the run; say --experiment NAME."
            raise errors.InputError(message) from None
    if name in besides:
        return name
    is_ours = isinstance(name, str) and name.isidentifier() and importlib.util.find_spec(f"experiments.{name}")
    if is_ours and hasattr(importlib.import_module(f"experiments.{name}"), "parts"):
        return name
    wanted = "".join(f"{other}, or of " for other in besides)
    raise errors.InputError(f"Expected a run of {wanted}a table of models, got one of {name!r}.")


def open_run(run: pathlib.Path, experiment: str, *, moved: Mapping[str, Any] = {}) -> Opened:
    """The parts of a table with the flags that the run has.

    Args:
        run: The run directory.
        experiment: From `experiment_of`.
        moved: Flags in place of the run's, such as where its data lie now.

    Raises:
        InputError: If the experiment has no such flag, or the data are others.
    """
    from jaxrec import run_directory

    recorded = read_config(run)
    module = importlib.import_module(f"experiments.{experiment}")
    settings = run_directory.typed_config(module.Config, recorded["config"])
    if absent := [name for name in moved if not hasattr(settings, name)]:
        raise errors.InputError(f"Expected no --{absent[0].replace('_', '-')} for a run of {experiment}, got one.")
    settings = dataclasses.replace(settings, **moved)
    data, on, rows = module.parts(settings)
    if data.fingerprint["sha256"] != recorded["data"]["sha256"]:
        message = f"Expected the data that {run} was trained on (SHA-256 {recorded['data']['sha256'][:16]})"
        raise errors.InputError(f"{message}, got others: name their place with --data-dir, or --data.")
    return Opened(run, experiment, settings, data, on, rows)
