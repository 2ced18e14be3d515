"""The command line of an experiment: flags from a frozen dataclass (https://brentyi.github.io/tyro), one-line errors.

Imports nothing heavy, so that `--help` and refusals are instant; an experiment imports jax and ours inside `main`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import math
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import tyro

from jaxrec import errors

ConfigT = TypeVar("ConfigT")


class Expected(NamedTuple):
    """What a field must be: in words, and as a test of one value."""

    words: str
    holds: Callable[[Any], bool]


POSITIVE = Expected("finite and > 0", lambda value: 0 < value < math.inf)
NON_NEGATIVE = Expected("finite and >= 0", lambda value: 0 <= value < math.inf)


def between(low: float, high: float) -> Expected:
    """A number in [low, high]."""
    return Expected(f"in [{low}, {high}]", lambda value: low <= value <= high)


def check(
    config: Any,
    expected: Mapping[str, Expected],
    *,
    may_be_empty: Collection[str] = (),
    may_repeat: Collection[str] = (),
) -> None:
    """Refuses a config whose named fields are not as expected; every element of a tuple is looked at, None is let pass.

        command.check(config, {"epsilon": command.NON_NEGATIVE, "epochs": command.POSITIVE})

    Args:
        config: A dataclass.
        expected: {field: what it must be}.
        may_be_empty, may_repeat: Those of the fields which, as a tuple of any length, may hold nothing, or one value
            twice: mostly each value is a row of a table, and two rows would be one.

    Raises:
        InputError: Naming the flag, its value and what was expected.
    """
    any_length = {field.name for field in dataclasses.fields(config) if "..." in str(field.type)}
    for name, (words, holds) in expected.items():
        given = getattr(config, name)
        if name in any_length and not given and name not in may_be_empty:
            raise errors.InputError(f"Expected a value or more of {_flag(name)}, {words}; got none.")
        if name in any_length and name not in may_repeat:
            _check_once(given, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and not holds(value):
                raise errors.InputError(f"Expected {_flag(name)} {words}, got {_flag(name)} {value}.")


def named(names: Sequence[str], known: Collection[str], flag: str) -> Sequence[str]:
    """The names of a flag, if there is one, all are known and each comes once; else an InputError."""
    if not names or (unknown := [name for name in names if name not in known]):
        got = ", ".join(unknown) if names else "none"
        raise errors.InputError(f"Expected {_flag(flag)} of {', '.join(known)}; got {got}.")
    _check_once(names, flag)
    return names


def _check_once(values: Sequence[Any], name: str) -> None:
    """Raises an InputError if a value of a flag comes twice."""
    if len(set(values)) < len(values):
        raise errors.InputError(f"Expected each value of {_flag(name)} once, got {' '.join(map(str, values))}.")


def run(main: Callable[[ConfigT], None], config: type[ConfigT], args: Sequence[str] | None = None) -> None:
    """Reads a `config` from the command line and calls `main` with it.

    Leaves with one line on stderr: with status 2 when the arguments are wrong or `main` raises an InputError, with 1
    when training diverges, with 130 when it is interrupted from the keyboard. `--help` shows the docstring of the
    module of `main`, and every flag with the comment at its line and its default.

    Args:
        main: Does the work; imports what is heavy.
        config: A frozen dataclass whose fields become the flags.
        args: The arguments; those of the process by default.
    """
    parsed = _parse(config, sys.argv[1:] if args is None else args, sys.modules[main.__module__].__doc__)
    try:
        main(parsed)
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    except FloatingPointError as error:
        _leave(str(error), 1)  # training diverged (loop.NonFiniteLoss): the message says where
    except errors.InputError as error:
        _leave(str(error), 2)


def _parse(config: type[ConfigT], args: Sequence[str], description: str | None) -> ConfigT:
    """The config that `args` spell; tyro's boxes are made into one line."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            parsed, unknown = tyro.cli(
                config,
                prog=_prog(),
                description=_lines_kept(description or ""),
                args=args,
                return_unknown_args=True,
                use_underscores=False,
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        _leave(_one_line(stderr.getvalue()), 2)
    if unknown:
        _leave(_unknown_argument(unknown[0], config), 2)
    return parsed


def _lines_kept(docstring: str) -> str:
    """The docstring with its lines "Expected:", "Cost:" and "Run:" set in by one: tyro joins those that are not."""
    return re.sub(r"^(?= |(Expected|Cost|Run):)", " ", docstring, flags=re.MULTILINE)


def _one_line(box: str) -> str:
    """A box of tyro's as one line: what is wrong and, where it shows the argument, how that is written."""
    content = re.sub(r"\A.*\n( -+ *\n)?", "", box)  # without the title: in the border, or above a rule if not in UTF-8
    parts = [
        [line.strip(" │") for line in part.splitlines() if line.strip(" │") and not line.startswith("╰")]
        for part in re.split(r"^[ │]+[─-]{3,}[ │]*$", content, flags=re.MULTILINE)
    ]
    message = " ".join(parts[0] or box.split()).rstrip(".")
    message = re.sub(r"\.\s+Got errors:.*", "", message)  # of a union, what each of its types had against the value
    shown = next((part[1] for part in parts[1:] if part and part[0] == "Argument helptext:"), None)
    return f"{message}; expected {shown}." if shown else f"{message}."


def _unknown_argument(argument: str, config: type) -> str:
    """What to say of an argument that no field has."""
    flags = [_flag(name) for name in getattr(config, "__dataclass_fields__", {})]
    near = difflib.get_close_matches(argument.partition("=")[0].replace("_", "-"), flags, n=1)
    hint = f"did you mean {near[0]}?" if near else "--help lists those that are."
    return f"{argument} is not an argument of {_prog()}; {hint}"


def _flag(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def _prog() -> str:
    """The command as it is typed."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return sys.argv[0] if spec is None else f"python -m {spec.name.removesuffix('.__main__')}"


def _leave(message: str, status: int) -> NoReturn:
    """One line on stderr, and out."""
    print(" ".join(message.splitlines()), file=sys.stderr, flush=True)
    sys.exit(status)
