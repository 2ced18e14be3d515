"""How long one request for recommendations takes: the median and the 95th percentile, and a large catalogue's memory.

A call of `recommendations.best`, compiled before, with other users each time, until the list is on the host: one user,
and a batch of 16. Matrix factorisation on MovieLens-1M's items and on a million, SASRec on histories of 200, and EASE,
whose weights are item by item. Tables are drawn: what is in them does not change the time. The lists of 1,000 users
over the large catalogue are made by `evaluate.lists` in a process of its own, whose largest resident memory is told.

Run: python -m benchmarks.latency --json latency.json
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    users: int = 6040  # rows of the user table (ML-1M has 6040)
    items: int = 3706  # rows of the item table (ML-1M has 3706)
    many_items: int = 1_000_000  # rows of the large item table
    known: int = 200  # items left out of each list, and places of SASRec's histories
    dimension: int = 64  # length of an embedding of MF (SASRec: its default, 50)
    batch_sizes: tuple[int, ...] = (1, 16)  # users a call
    k: int = 10  # length of a list
    calls: int = 200  # measured calls of each model and batch size, after ten that are not
    lists_of: int = 1000  # users whose lists over the large table are made at once; 0 leaves this out
    list_length: int = 100  # of these lists
    seed: int = 0  # of the tables and the users
    json: pathlib.Path | None = None  # file to write every measured time to


class Case(NamedTuple):
    """A model with params, its name in the table, and how many items it ranks."""

    name: str
    model: Any
    params: Any
    num_items: int


WARM_UP = 10


def main(config: Config) -> None:
    sizes = ("users", "items", "many_items", "known", "dimension", "batch_sizes", "k", "calls", "list_length")
    command.check(config, dict.fromkeys(sizes, command.POSITIVE) | {"lists_of": command.NON_NEGATIVE})
    command.check(config, {"k": command.between(1, config.items), "known": command.between(1, config.items - 1)})
    command.check(config, {"list_length": command.between(1, config.many_items)})
    runtime.prepare()
    # Before jax is here: a child's peak begins with its parent's, which it shares until it starts its own program.
    memory = peak_of_lists(config) if config.lists_of else None
    import rich

    from benchmarks import timing

    about = timing.machine(f"{config.users} users, {config.known} known items each, k {config.k}")
    rich.print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    rows = []
    for case in cases(config):
        for size in config.batch_sizes:
            seconds = call_times(case, config, size)
            rows.append({"model": case.name, "items": case.num_items, "users": size, "seconds": seconds})
    show(rows, memory, config)
    if config.json is not None:
        config.json.write_text(json.dumps({**about, "rows": rows, "lists": memory}, indent=1) + "\n")
        rich.print(f"Written: {config.json}")


def cases(config: Config) -> Iterator[Case]:
    """The models, one after the other, so that the tables of one are gone before the next."""
    import jax.numpy as jnp
    import numpy as np

    from jaxrec import profiles
    from jaxrec.models import ease, mf, sasrec
    from jaxrec.types import Interactions

    rng = np.random.default_rng(config.seed)
    drawn = lambda *shape: jnp.asarray(0.1 * rng.standard_normal(shape, np.float32))
    for num_items in (config.items, config.many_items):
        model = mf.model(num_users=config.users, num_items=num_items, dimension=config.dimension)
        tables = {"user": drawn(config.users, config.dimension), "item": drawn(num_items, config.dimension)}
        yield Case(f"MF {config.dimension}", model, {"tables": tables, "weights": {}, "given": {}}, num_items)
    users = np.repeat(np.arange(config.users, dtype=np.int32), config.known)
    items = known_items(rng, config.users, config.items, config.known).reshape(-1)
    known = Interactions(users, items, config.users, config.items)
    import jax

    model = sasrec.model(num_items=config.items, max_length=config.known)
    params = model.knowing(jax.jit(model.init)(jax.random.key(config.seed)), known)
    yield Case(f"SASRec, {config.known} places", model, params, config.items)
    model = ease.model(num_users=config.users, num_items=config.items)
    given = {"profiles": profiles.prepare(known)}
    params = {"tables": {"item": drawn(config.items, config.items)}, "weights": {}, "given": given}
    yield Case("EASE, item by item", model, params, config.items)


def known_items(rng, num_users: int, num_items: int, num: int):
    """int32 [num_users, num]: so many items from a random one on, round the catalogue, each once."""
    import numpy as np

    return ((rng.integers(num_items, size=(num_users, 1)) + np.arange(num)) % num_items).astype(np.int32)


def call_times(case: Case, config: Config, size: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Seconds of each call, the first ones left out."""
    import jax
    import numpy as np

    from jaxrec import recommendations

    rng = np.random.default_rng(config.seed)
    seconds = []
    for _ in range(WARM_UP + config.calls):
        users = rng.integers(config.users, size=size).astype(np.int32)
        known = known_items(rng, size, case.num_items, config.known)
        start = clock()
        jax.device_get(recommendations.best(case.model, case.params, users, known, config.k))
        seconds.append(clock() - start)
    return seconds[WARM_UP:]


def peak_of_lists(config: Config) -> dict[str, float]:
    """`lists_at_once` in a process of its own."""
    sizes = (config.many_items, config.lists_of, config.list_length, config.dimension, config.known, config.seed)
    code = f"from benchmarks import latency; latency.lists_at_once(*{sizes})"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def lists_at_once(num_items: int, num_users: int, k: int, dimension: int, num_known: int, seed: int) -> None:
    """Prints the seconds of scoring all items for all users and listing the best, and the peak of resident bytes."""
    import jax
    import numpy as np

    from jaxrec import evaluate
    from jaxrec.models import mf
    from jaxrec.types import Interactions

    rng = np.random.default_rng(seed)
    model = mf.model(num_users=num_users, num_items=num_items, dimension=dimension)
    init = jax.jit(model.init)(jax.random.key(seed))
    users = np.repeat(np.arange(num_users, dtype=np.int32), num_known)
    known = Interactions(users, known_items(rng, num_users, num_items, num_known).reshape(-1), num_users, num_items)
    plan, seconds = evaluate.prepare_lists([known]), []
    for _ in range(2):  # the first compiles
        start = time.perf_counter()
        evaluate.lists(model, init, plan, k).block_until_ready()
        seconds.append(time.perf_counter() - start)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"seconds": seconds[1], "peak_bytes": peak}))


def show(rows: list[dict[str, Any]], memory: dict[str, float] | None, config: Config) -> None:
    """Prints the percentiles in milliseconds, and the memory."""
    import numpy as np
    import rich
    import rich.table

    shown = rich.table.Table("model", title=f"one call, top {config.k}: milliseconds of {config.calls} calls")
    for heading in ("items", "users", "p50", "p95", "p99"):
        shown.add_column(heading, justify="right")
    for row in rows:
        percentiles = 1000 * np.percentile(row["seconds"], (50, 95, 99))
        shown.add_row(row["model"], f"{row['items']:,}", str(row["users"]), *(f"{value:.3g}" for value in percentiles))
    rich.print(shown)
    if memory is not None:
        rich.print(
            f"Top {config.list_length} of {config.many_items:,} items for {config.lists_of:,} users: "
            f"{memory['seconds']:.1f} s, at most {memory['peak_bytes'] / 1e9:.2f} GB resident."
        )


if __name__ == "__main__":
    command.run(main, Config)
