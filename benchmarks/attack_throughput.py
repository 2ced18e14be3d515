"""Attacks BPR matrix factorisation, against plain PyTorch and foolbox: how many examples, gradients and bytes a second.

Five kinds of table, `--tables`:

    pgd       PGD on both embedding tables, one perturbation for all pairs, in pair-steps (pairs x gradient steps)
    attacks   every attack on each pair's own rows [B, 3 D], beside foolbox's on the same inputs where it has it
    batches   PGD on each pair's own rows over sizes of the batch, beside foolbox
    epsilons  PGD on both tables at several epsilons: batched by `jax.vmap`, or in a loop
    sizes     steps on the touched rows over sizes of the tables, drawn batches, tables donated

The loss is BPR's, each row (or input) moves in a ball of radius 0.5. Drawing the negatives is no part of an attack, and
left out for everyone. Bytes are the least that must move, counted from shapes (`on_rows.PASSES`, `on_tables.moved`),
and are set against a copy of an array of 64 MB on the same device; small batches stay in a processor's cache, which is
faster. Sizes are compared by their rates: the cost of a step on one is that of another times the ratio.

Run: python -m benchmarks.attack_throughput --json attack.json
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxrec import command, errors, runtime

if TYPE_CHECKING:
    import numpy as np

    from benchmarks import interactions, timing

COPIED = 2**26  # bytes of the array that is copied: larger than the caches
Tables = Iterator[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Config:
    tables: tuple[Literal["pgd", "attacks", "batches", "epsilons", "sizes"], ...] = (
        "pgd",
        "attacks",
        "batches",
        "epsilons",
        "sizes",
    )  # which to measure
    data_dir: pathlib.Path | None = None  # folder of leave-one-out files to take; interactions are drawn without one
    users: int = 6040  # rows of the user table of drawn interactions (ML-1M has 6040)
    items: int = 3706  # rows of the item table of drawn interactions (ML-1M has 3706)
    pairs: int = 994169  # training pairs to draw (the leave-one-out files of ML-1M have 994169)
    dimension: int = 64  # length of an embedding
    batch_sizes: tuple[int, ...] = (512, 2048)  # pgd: pairs in the loss; the batch of all pairs comes besides
    batch_size: int = 512  # pairs of the tables attacks, epsilons and sizes
    row_batch_sizes: tuple[int, ...] = (256, 512, 2048, 8192, 32768)  # batches: pairs
    table_rows: tuple[int, ...] = (10_000, 100_000, 1_000_000)  # sizes: rows of each of the two tables
    attacks: tuple[str, ...] = ()  # attacks: names of modules in jaxrec.attacks; all of them if none is given
    num_batches: int = 16  # sizes: batches of a run
    num_epsilons: int = 8  # epsilons: from .1 to .8
    piece_size: int = 256  # pairs whose gradient jaxrec takes at a time
    num_steps: int = 20  # gradient steps of an attack on a batch
    num_steps_all: int = 4  # the same on all pairs at once: the cost is linear in it, and 20 take PyTorch a minute
    num_queries: int = 100  # of the square attack
    threads: tuple[int, ...] = (1, 2)  # of PyTorch; the faster counts
    repeats: int = 5  # measured runs of each contestant, in turn, after one unmeasured
    repeats_all: int = 3  # the same for the attack on all pairs at once
    seed: int = 0  # of the interactions, the tables and the negatives
    json: pathlib.Path | None = None  # file to write every measured time to


class Bench(NamedTuple):
    """What the tables share: the settings, the data and the factors to attack, the rivals that are installed, and the
    bytes a second of copies."""

    config: Config
    data: interactions.Work
    factors: list[np.ndarray]
    libraries: list[str]
    copied: np.ndarray

    def batch(self, size: int) -> tuple[np.ndarray, ...]:
        """Users, positive and negative items of so many training pairs."""
        import numpy as np

        from benchmarks import interactions

        pairs = self.data.sample(size, self.config.seed)
        rng = np.random.default_rng(self.config.seed)
        return pairs.users, pairs.items, interactions.negatives(rng, pairs.users, self.data.seen)

    def record(self, title: str, unit: str, contestants: list[timing.Contestant], repeats: int) -> dict[str, Any]:
        """Times the contestants."""
        from benchmarks import timing

        return timing.record(title, unit, timing.interleave(contestants, repeats), self.copied)


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "batch_sizes", "batch_size", "row_batch_sizes", "table_rows")
    counts = ("num_batches", "num_epsilons", "piece_size", "num_steps", "num_steps_all", "threads", "repeats")
    positive: dict[str, command.Expected] = dict.fromkeys((*sizes, *counts, "repeats_all"), command.POSITIVE)
    command.check(config, positive, may_be_empty=("batch_sizes",))  # the batch of all pairs comes besides
    command.check(config, {"num_queries": command.between(3, 1e9)})
    runtime.prepare()

    import numpy as np

    from benchmarks import interactions, timing

    data = interactions.load(
        config.data_dir, num_users=config.users, num_items=config.items, num_pairs=config.pairs, seed=config.seed
    )
    rng = np.random.default_rng(config.seed)
    factors = [rng.normal(scale=0.1, size=(rows, config.dimension)).astype(np.float32) for rows in data.seen.shape]
    libraries = timing.rivals("torch", "foolbox")
    bench = Bench(config, data, factors, libraries, timing.copying(COPIED, config.repeats))
    rate = timing.spread(bench.copied / 1e9)
    copies = f"{rate['median']:.3g} GB/s read and written ({rate['min']:.3g} to {rate['max']:.3g})"
    makers = {"pgd": pgd, "attacks": attacks, "batches": batches, "epsilons": epsilons, "sizes": sizes_of_tables}
    tables = (table for name in config.tables for table in makers[name](bench))
    timing.report({**timing.machine(data.describe()), "copies": copies}, tables, config.json)


def pgd(bench: Bench) -> Tables:
    """PGD on both tables, over batches and all pairs."""
    from benchmarks import on_tables

    config = bench.config
    jobs = [(size, config.num_steps, config.repeats) for size in config.batch_sizes]
    jobs.append((len(bench.data.train), config.num_steps_all, config.repeats_all))
    for size, num_steps, repeats in jobs:
        work = on_tables.Work(bench.factors, bench.batch(size))
        contestants = on_tables.jaxrec_contestants(work, num_steps=num_steps, piece_size=config.piece_size)
        if "torch" in bench.libraries:
            contestants += on_tables.torch_contestants(work, num_steps=num_steps, threads=config.threads)
        title = f"PGD-{num_steps} on both tables, {len(work.batch[0])} pairs, d {config.dimension}"
        yield bench.record(title, "pair-steps a second", contestants, repeats)


def attacks(bench: Bench) -> Tables:
    """Every attack on each pair's own rows."""
    from benchmarks import on_rows

    config = bench.config
    x = on_rows.inputs(bench.factors, bench.batch(config.batch_size))
    cases = on_rows.cases(config.num_steps, config.num_queries)
    names = dict.fromkeys(case.name for case in cases)
    if unknown := [name for name in config.attacks if name not in names]:
        raise errors.InputError(f"Expected --attacks among {', '.join(names)}, got {unknown[0]}.")
    for case in cases:
        if config.attacks and case.name not in config.attacks:
            continue
        contestants = on_rows.contestants(case, x, foolbox="foolbox" in bench.libraries, threads=config.threads)
        given = ", ".join(f"{name} {value:g}" for name, value in case.hyperparameters.items())
        title = f"{case.title()}, {len(x)} pairs' own rows{f' ({given})' if given else ''}"
        yield bench.record(title, "pairs a second", contestants, config.repeats)


def batches(bench: Bench) -> Tables:
    """PGD on each pair's own rows, over sizes of the batch."""
    from benchmarks import on_rows

    config = bench.config
    both = [case for case in on_rows.cases(config.num_steps, config.num_queries) if case.name == "pgd"]
    for size in config.row_batch_sizes:
        x = on_rows.inputs(bench.factors, bench.batch(size))
        for case in both:
            contestants = on_rows.contestants(
                case, x, foolbox="foolbox" in bench.libraries, threads=config.threads, piece_size=config.piece_size
            )
            title = f"{case.title()}, {len(x)} pairs' own rows (num_steps {config.num_steps})"
            yield bench.record(title, "pairs a second", contestants, config.repeats)


def epsilons(bench: Bench) -> Tables:
    """PGD on both tables at several epsilons: batched, in a loop, and PyTorch's loop."""
    import numpy as np

    from benchmarks import on_tables

    config = bench.config
    work = on_tables.Work(bench.factors, bench.batch(config.batch_size))
    radii = tuple(np.linspace(0.1, 0.8, config.num_epsilons).tolist())
    contestants = on_tables.epsilon_contestants(work, epsilons=radii, num_steps=config.num_steps)
    if "torch" in bench.libraries:
        contestants += on_tables.torch_contestants(
            work, epsilons=radii, num_steps=config.num_steps, threads=config.threads
        )
    title = f"PGD-{config.num_steps} on both tables at {len(radii)} epsilons, {len(work.batch[0])} pairs"
    yield bench.record(title, "pair-steps a second", contestants, config.repeats)


def sizes_of_tables(bench: Bench) -> Tables:
    """Steps on the touched rows, over sizes of the tables."""
    from benchmarks import on_tables

    config = bench.config
    for kind in ("PGD", "FGSM", "APR"):
        settings = {"dimension": config.dimension, "batch_size": config.batch_size, "num_batches": config.num_batches}
        settings |= {"num_steps": config.num_steps, "seed": config.seed}
        contestants = [on_tables.size_contestant(kind, num_rows, **settings) for num_rows in config.table_rows]
        names = {"PGD": f"PGD-{config.num_steps}", "FGSM": "FGSM", "APR": "an APR step (Adagrad)"}
        title = f"{names[kind]} on the touched rows of two tables, {config.batch_size} pairs, d {config.dimension}"
        yield bench.record(title, "pair-steps a second", contestants, config.repeats)


if __name__ == "__main__":
    command.run(main, Config)
