"""Laws of the command line: instant help, and one line with status 2 for whatever the user got wrong."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import pathlib
import subprocess
import sys
import textwrap
from typing import Literal

import pytest

from jaxrec import command
from jaxrec.types import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    epsilon: float = 0.5  # radius of the ball round each row
    num_seeds: int = 1  # training seeds
    sampler: Literal["shuffled", "user_blocked"] = "shuffled"  # how batches are made
    epsilons: tuple[float, ...] = (0.1, 0.2)  # radii of the curve
    max_users: int | None = None  # users to keep; all by default
    smoke: bool = False  # a tiny slice


def run(main, *args: str) -> None:
    command.run(main, Config, args)


def test_flags_become_the_config():
    configs = []
    keep = lambda config: configs.append(config)
    run(keep, "--epsilon", "1e-1", "--num_seeds=3", "--sampler", "user_blocked", "--smoke", "--max-users", "7")
    run(keep, "--epsilons", "0", "1", "2", "--no-smoke")
    assert configs == [
        Config(epsilon=0.1, num_seeds=3, sampler="user_blocked", smoke=True, max_users=7),
        Config(epsilons=(0.0, 1.0, 2.0)),
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--epsilom", "3"], ["--epsilom", "did you mean --epsilon?"]),
        (["--num_seedz=3"], ["--num_seedz=3", "did you mean --num-seeds?"]),
        (["--wholly-unlike"], ["--wholly-unlike", "--help"]),
        (["stray"], ["stray"]),
        (["--smoke", "yes"], ["yes"]),
        (["--epsilon", "big"], ["--epsilon", "'big'", "expected --epsilon FLOAT"]),
        (["--num-seeds", "1.5"], ["--num-seeds", "'1.5'", "expected --num-seeds INT"]),
        (["--num-seeds="], ["--num-seeds", "''", "expected --num-seeds INT"]),
        (["--epsilons", "1", "b"], ["--epsilons", "'b'", "expected --epsilons [FLOAT [FLOAT ...]]"]),
        (["--max-users", "x"], ["--max-users", "'x'", "expected --max-users {None}|INT"]),
        (["--epsilon"], ["--epsilon", "Expected 1 values"]),
        (["--sampler", "random"], ["--sampler", "'random'", "Expected one of ('shuffled', 'user_blocked')"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_wrong_arguments_get_one_line_that_names_them_and_status_2(capsys, monkeypatch, args, said, encoding):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)  # tyro draws its boxes by it
    with pytest.raises(SystemExit) as leaving:
        run(lambda config: pytest.fail("main was called"), *args)
    assert leaving.value.code == 2
    assert stdout.tell() == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert all(words in line for words in said), line


def raises(error: BaseException):
    """A main that raises."""

    def main(config: Config) -> None:
        raise error

    return main


def test_an_input_error_is_printed_in_one_line_without_traceback(capsys):
    with pytest.raises(SystemExit) as leaving:
        run(raises(InputError("ratings.dat, line 3:\nexpected 4 fields, got 2")))
    assert leaving.value.code == 2
    assert capsys.readouterr() == ("", "ratings.dat, line 3: expected 4 fields, got 2\n")


def test_an_interrupt_is_one_line_and_status_130(capsys):
    with pytest.raises(SystemExit) as leaving:
        run(raises(KeyboardInterrupt()))
    assert leaving.value.code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_a_programming_error_keeps_its_traceback():
    for error in (ValueError("a bug"), RuntimeError("another")):
        with pytest.raises(type(error), match=str(error)):
            run(raises(error))


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, -(10**400)])
def test_check_names_flag_value_and_expectation(value):
    for expected in (command.POSITIVE, command.NON_NEGATIVE, command.between(0, 1)):
        with pytest.raises(InputError, match=rf"^Expected --num-seeds .*, got --num-seeds {value}\.$"):
            command.check(Config(num_seeds=value), {"num_seeds": expected})


def test_check_looks_at_every_element_and_lets_none_pass():
    checks = {"epsilons": command.NON_NEGATIVE, "max_users": command.POSITIVE, "num_seeds": command.between(1, 2**31)}
    command.check(Config(), checks)
    with pytest.raises(InputError, match=r"Expected --epsilons finite and >= 0, got --epsilons -2\.0"):
        command.check(Config(epsilons=(0.0, -2.0)), checks)


def test_values_of_a_table_are_one_or_more_and_each_comes_once_unless_it_may():
    checks = {"epsilons": command.NON_NEGATIVE}
    with pytest.raises(InputError, match=r"Expected a value or more of --epsilons, finite and >= 0; got none"):
        command.check(Config(epsilons=()), checks)
    with pytest.raises(InputError, match=r"Expected each value of --epsilons once, got 0\.5 0\.5"):
        command.check(Config(epsilons=(0.5, 0.5)), checks)
    command.check(Config(epsilons=()), checks, may_be_empty=("epsilons",))
    command.check(Config(epsilons=(0.5, 0.5)), checks, may_repeat=("epsilons",))


def test_names_are_one_or_more_known_and_each_comes_once():
    assert command.named(("a", "b"), {"a", "b"}, "kinds_of") == ("a", "b")
    with pytest.raises(InputError, match=r"^Expected --kinds-of of a, b; got c\.$"):
        command.named(("a", "c"), ("a", "b"), "kinds_of")
    with pytest.raises(InputError, match=r"^Expected --kinds-of of a, b; got none\.$"):
        command.named((), ("a", "b"), "kinds_of")
    with pytest.raises(InputError, match=r"^Expected each value of --kinds-of once, got a b a\.$"):
        command.named(("a", "b", "a"), ("a", "b"), "kinds_of")


def test_zero_is_no_positive_number_but_a_legal_radius():
    command.check(Config(epsilon=0.0), {"epsilon": command.NON_NEGATIVE})
    with pytest.raises(InputError, match=r"finite and > 0, got --epsilon 0\.0"):
        command.check(Config(epsilon=0.0), {"epsilon": command.POSITIVE})
    command.check(Config(num_seeds=10**400), {"num_seeds": command.POSITIVE})


EXPERIMENT = '''
    """APR against its twin: a claim.

    Expected: it holds,
              or not.
    Cost:     none.
    Run:      python -m apr
    """

    import dataclasses
    import sys

    from jaxrec import command


    @dataclasses.dataclass(frozen=True)
    class Config:
        epsilon: float = 0.5  # radius of the ball; 0.5 in the paper


    def main(config):
        command.check(config, {"epsilon": command.POSITIVE})
        print("main")


    if __name__ == "__main__":
        try:
            command.run(main, Config)
        finally:
            print([name for name in ("jax", "numpy", "pandas", "orbax") if name in sys.modules])
'''


@pytest.fixture
def start(tmp_path):
    """Runs that experiment in a process of its own; its last line lists the heavy modules it imported."""
    (tmp_path / "apr.py").write_text(textwrap.dedent(EXPERIMENT))
    root = pathlib.Path(command.__file__).parents[1]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}
    run = [sys.executable, "-m", "apr"]
    return lambda *args: subprocess.run([*run, *args], capture_output=True, text=True, check=False, env=env)


def test_help_shows_claim_flags_help_and_defaults_and_imports_nothing_heavy(start):
    done = start("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m apr ")
    words = " ".join(done.stdout.replace("│", " ").split())
    assert "APR against its twin: a claim." in words
    lines = [line.strip() for line in done.stdout.splitlines()]
    start_of = lines.index("Expected: it holds,")
    assert lines[start_of + 1 : start_of + 4] == ["or not.", "Cost:     none.", "Run:      python -m apr"]
    assert "--epsilon FLOAT radius of the ball; 0.5 in the paper (default: 0.5)" in words
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("flag", ["--epsilon=0", "--epsilom=1"])
def test_a_refusal_imports_nothing_heavy(start, flag):
    done = start(flag)
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert len(done.stderr.splitlines()) == 1
