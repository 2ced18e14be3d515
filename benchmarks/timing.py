"""Times contestants that do the same work in turn, A B C A B C, so that what else the machine does is fair to all.

One call of each is left out as the warm-up (it compiles). Nothing is ever asserted about a time: a benchmark prints
what it ran on, how fast each contestant was, and how many times as fast the first one was, repeat by repeat.
"""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import rich
import rich.table


class Contestant(NamedTuple):
    """One way to do the work.

    Attributes:
        library: Whose way: "jaxrec", "torch", ...
        setting: What else tells it from the others.
        run: Does the work once, and returns when the device is done with it.
        amount: How many examples (users, pair-steps) one run handles.
        gradients: How many gradients of one example it takes; 0 where they are not counted.
        moved: The least bytes it reads and writes, counted from shapes; 0 where they are not counted.
    """

    library: str
    setting: str
    run: Callable[[], object]
    amount: int
    gradients: int = 0
    moved: int = 0


class Timing(NamedTuple):
    """A contestant and what its runs took, in order.

    Attributes:
        contestant: Whose.
        seconds: [repeats], on the wall clock.
        cpu_seconds: [repeats], of all threads of this process: steadier on a machine with other work, but it also
            counts threads that wait in a loop, and nothing that another device does.
    """

    contestant: Contestant
    seconds: np.ndarray
    cpu_seconds: np.ndarray

    @property
    def rates(self) -> np.ndarray:
        """Examples a second of each repeat."""
        return self.contestant.amount / self.seconds

    @property
    def cpu_rates(self) -> np.ndarray:
        """Examples a second of processor time of each repeat."""
        return self.contestant.amount / self.cpu_seconds


Clock = Callable[[], float]
_PAUSE = 0.2  # seconds between runs: the threads of BLAS and OpenMP go on spinning for a while after their work


def interleave(
    contestants: Sequence[Contestant],
    repeats: int,
    clock: Clock = time.perf_counter,
    cpu_clock: Clock = time.process_time,
) -> list[Timing]:
    """Runs each contestant once unmeasured, then all of them in turn `repeats` times."""
    for contestant in contestants:
        contestant.run()
    seconds = np.zeros((2, len(contestants), repeats))
    for repeat in range(repeats):
        for place, contestant in enumerate(contestants):
            time.sleep(_PAUSE)
            start = clock(), cpu_clock()
            contestant.run()
            seconds[:, place, repeat] = clock() - start[0], cpu_clock() - start[1]
    return [Timing(contestant, *seconds[:, place]) for place, contestant in enumerate(contestants)]


def spread(values: np.ndarray) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": float(np.median(values)), "min": float(values.min()), "max": float(values.max())}


def copying(num_bytes: int, repeats: int, clock: Clock = time.perf_counter) -> np.ndarray:
    """Bytes a second of each of `repeats` copies of an array on JAX's device, read and written: twice `num_bytes`."""
    import jax
    import jax.numpy as jnp

    # Into a buffer that is there: the pages of a new one would have to be mapped first.
    copy = jax.jit(lambda to, source: to.at[:].set(source), donate_argnums=0)
    source = jnp.ones(num_bytes // 4)
    to = jnp.zeros_like(source)

    def run() -> None:
        nonlocal to
        to = jax.block_until_ready(copy(to, source))

    (timing,) = interleave([Contestant("jax", "copy", run, 2 * num_bytes)], repeats, clock)
    return timing.rates


def record(work: str, unit: str, timings: Sequence[Timing], copied: np.ndarray | None = None) -> dict[str, Any]:
    """One table as plain values: each contestant's times, and how the first one's library compares with the others.

    `copied` are the device's bytes a second when it copies: of their median each row's bytes are a share.
    """
    rows = [
        {
            "library": timing.contestant.library,
            "setting": timing.contestant.setting,
            "amount": timing.contestant.amount,
            "seconds": timing.seconds.tolist(),
            "cpu_seconds": timing.cpu_seconds.tolist(),
            "rate": spread(timing.rates),
            "cpu_rate": spread(timing.cpu_rates),
            **_counted(timing, copied),
        }
        for timing in timings
    ]
    return {"work": work, "unit": unit, "rows": rows, "comparisons": compare(timings)}


def _counted(timing: Timing, copied: np.ndarray | None) -> dict[str, Any]:
    """Gradients and bytes a second, where they are counted, and the bytes as a share of those of a copy."""
    counts = {"gradients": timing.contestant.gradients, "moved": timing.contestant.moved}
    rates = {f"{name}_rate": spread(count / timing.seconds) for name, count in counts.items() if count}
    if copied is None or not counts["moved"]:
        return counts | rates
    return counts | rates | {"share_of_copy": rates["moved_rate"]["median"] / float(np.median(copied))}


def compare(timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """How many times as fast the first contestant's library is as each other one, repeat by repeat.

    By the wall clock and by processor time; each time both libraries are there with the setting that is their best.
    """
    ours, *others = dict.fromkeys(timing.contestant.library for timing in timings)

    def ratio(library: str, rates: Callable[[Timing], np.ndarray]) -> dict[str, Any]:
        best = {
            name: max((t for t in timings if t.contestant.library == name), key=lambda t: float(np.median(rates(t))))
            for name in (ours, library)
        }
        settings = {"setting": best[ours].contestant.setting, "other_setting": best[library].contestant.setting}
        return settings | spread(rates(best[ours]) / rates(best[library]))

    return [
        {
            "library": ours,
            "other_library": other,
            "speedup": ratio(other, lambda timing: timing.rates),
            "cpu_speedup": ratio(other, lambda timing: timing.cpu_rates),
        }
        for other in others
    ]


def report(about: dict[str, Any], tables: Iterable[dict[str, Any]], path: pathlib.Path | None) -> None:
    """Prints what the times depend on and each table as it comes; writes the same, with every repeat, as JSON."""
    rich.print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    shown = []
    for table in tables:
        rich.print(_layout(table), *map(_sentence, table["comparisons"]), sep="\n", end="\n\n")
        shown.append(table)
    if path is not None:
        path.write_text(json.dumps({**about, "tables": shown}, indent=1) + "\n")
        rich.print(f"Written: {path}")


def _layout(table: dict[str, Any]) -> rich.table.Table:
    """A record as a table to print."""
    shown = rich.table.Table("contestant", title=f"{table['work']}: {table['unit']}", title_justify="left")
    counted = [name for name in ("gradients", "moved") if any(row[name] for row in table["rows"])]
    headings = {"gradients": ("gradients/s",), "moved": ("bytes/s", "of a copy")}
    for heading in ("median", "min", "max", "by CPU time", *(h for name in counted for h in headings[name])):
        shown.add_column(heading, justify="right")
    for row in table["rows"]:
        rates = [row["rate"][key] for key in ("median", "min", "max")] + [row["cpu_rate"]["median"]]
        rates += [row.get(f"{name}_rate", {"median": 0.0})["median"] for name in counted]
        share = [f"{row['share_of_copy']:.1%}"] if "share_of_copy" in row else []
        shown.add_row(f"{row['library']}, {row['setting']}", *map(_rate, rates), *share)
    return shown


def _sentence(comparison: dict[str, Any]) -> str:
    """A comparison in words."""
    wall, cpu = comparison["speedup"], comparison["cpu_speedup"]
    return (
        f"{comparison['library']} ({wall['setting']}) is {wall['median']:.2f} times ({wall['min']:.2f} to "
        f"{wall['max']:.2f}) as fast as {comparison['other_library']} ({wall['other_setting']}); "
        f"by CPU time {cpu['median']:.2f} times ({cpu['min']:.2f} to {cpu['max']:.2f})."
    )


def _rate(value: float) -> str:
    """A rate to three digits, with its magnitude in words' short forms."""
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"


def machine(work: str) -> dict[str, Any]:
    """What the times depend on besides the code: the work's shapes, JAX's device, and the machine."""
    import jax

    libraries = ("jax", "torch", "foolbox", "implicit", "numpy")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in libraries if installed(name)]
    return {
        "work": work,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind} ({jax.default_backend()})",
        "cores": os.cpu_count(),
        "threads of XLA": os.environ.get("NPROC", "one for each core"),
        "load": f"{os.getloadavg()[0]:.1f} before the start",
        "system": platform.platform(),
        "versions": ", ".join([f"python {platform.python_version()}", *versions]),
    }


def installed(library: str) -> bool:
    """Whether an optional library can be imported."""
    return importlib.util.find_spec(library) is not None


def rivals(*libraries: str) -> list[str]:
    """Those of the libraries that are installed; says in one line which are not."""
    missing = [library for library in libraries if not installed(library)]
    if missing:
        rich.print(f"Left out, because not installed: {', '.join(missing)} (pip install 'jaxrec\\[bench]').\n")
    return [library for library in libraries if library not in missing]


def threads(count: int) -> str:
    """A number of threads in words."""
    return "1 thread" if count == 1 else f"{count} threads"
