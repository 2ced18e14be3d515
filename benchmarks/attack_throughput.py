"""Attacks both embedding tables with PGD: pair-steps a second (pairs in the loss x gradient steps), against PyTorch.

The loss is BPR's, summed over a batch of training pairs, or over all of them at once; each row moves in an L2 ball of
radius 0.5. Drawing the negatives is not part of the attack, and left out for everyone.

Run: python -m benchmarks.attack_throughput --json attack.json
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxrec import command, runtime

if TYPE_CHECKING:
    import numpy as np

    from benchmarks import timing
    from jaxrec.types import Array, Objective, Params, PyTree

EPSILON = 0.5


@dataclasses.dataclass(frozen=True)
class Config:
    data_dir: pathlib.Path | None = None  # folder of leave-one-out files to take; interactions are drawn without one
    users: int = 6040  # rows of the user table of drawn interactions (ML-1M has 6040)
    items: int = 3706  # rows of the item table of drawn interactions (ML-1M has 3706)
    pairs: int = 994169  # training pairs to draw (the leave-one-out files of ML-1M have 994169)
    dimension: int = 64  # length of an embedding
    batch_sizes: tuple[int, ...] = (512, 2048)  # pairs in the loss; the batch of all pairs comes besides
    piece_size: int = 256  # pairs whose gradient jaxrec takes at a time
    num_steps: int = 20  # gradient steps of an attack on a batch
    num_steps_all: int = 4  # the same on all pairs at once: the cost is linear in it, and 20 take PyTorch a minute
    threads: tuple[int, ...] = (1, 2)  # of PyTorch; the faster counts
    repeats: int = 5  # measured runs of each contestant, in turn, after one unmeasured
    repeats_all: int = 3  # the same for the attack on all pairs at once
    seed: int = 0  # of the interactions, the tables and the negatives
    json: pathlib.Path | None = None  # file to write every measured time to


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "batch_sizes", "piece_size", "num_steps", "num_steps_all")
    command.check(config, dict.fromkeys((*sizes, "threads", "repeats", "repeats_all"), command.POSITIVE))
    runtime.prepare()

    import numpy as np

    from benchmarks import interactions, timing

    work = interactions.load(
        config.data_dir, num_users=config.users, num_items=config.items, num_pairs=config.pairs, seed=config.seed
    )
    rng = np.random.default_rng(config.seed)
    tables = [rng.normal(scale=0.1, size=(rows, config.dimension)).astype(np.float32) for rows in work.seen.shape]
    libraries = timing.rivals("torch")
    jobs = [(size, config.num_steps, config.repeats) for size in config.batch_sizes]
    jobs.append((len(work.train), config.num_steps_all, config.repeats_all))

    def table(batch_size: int, num_steps: int, repeats: int) -> dict:
        pairs = work.sample(batch_size, config.seed)
        batch = pairs.users, pairs.items, interactions.negatives(rng, pairs.users, work.seen)
        contestants = jaxrec_contestants(config, tables, batch, num_steps)
        if "torch" in libraries:
            contestants += torch_contestants(config, tables, batch, num_steps)
        title = f"PGD-{num_steps} on both tables, {len(pairs)} pairs, d {config.dimension}"
        return timing.record(title, "pair-steps a second", timing.interleave(contestants, repeats))

    timing.report(timing.machine(work.describe()), (table(*job) for job in jobs), config.json)


def jaxrec_contestants(
    config: Config, tables: list[np.ndarray], batch: tuple[np.ndarray, ...], num_steps: int
) -> list[timing.Contestant]:
    """`pgd.attack`: on the rows that the batch touches, and with its gradient summed in pieces."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks import timing
    from jaxrec import objectives, oracles, rows, surfaces
    from jaxrec.attacks import pgd
    from jaxrec.models import mf

    model = mf.model(num_users=len(tables[0]), num_items=len(tables[1]), dimension=config.dimension)
    params = jax.device_put({"tables": {"user": tables[0], "item": tables[1]}, "weights": {}, "given": {}})
    columns = dict(zip(("users", "pos", "neg"), batch, strict=True))
    columns = jax.device_put(columns | {"where": np.ones(len(batch[0]), bool)})
    surface, attack = surfaces.tables("user", "item"), pgd.attack(epsilon=EPSILON, num_steps=num_steps)
    key = jax.random.key(config.seed)

    def perturbed(loss: Objective, params: Params, batch: dict[str, Array]) -> PyTree:
        oracle = oracles.white_box(lambda key, x: loss(surface.put(params, x), batch, key, lambda tree: tree)[0][None])
        x = surface.get(params)
        delta, _ = attack(key, oracle, x)
        return jax.tree.map(jnp.add, x, delta)

    whole = objectives.pairwise(model=model)

    def on_touched_rows(params: Params, batch: dict[str, Array]) -> PyTree:
        full = surface.get(params)
        plan, local = rows.compact(full, batch, model.reads or {}, lambda ids: ids)
        names = sorted(full)  # a tree's leaves are in the order of its keys
        small = perturbed(whole, surface.put(params, rows.take(full, names, plan)), local)
        return rows.write_back(full, small, names, plan)

    def in_pieces(params: Params, batch: dict[str, Array]) -> PyTree:
        return perturbed(
            rows.in_pieces(lambda model: objectives.pairwise(model=model), model, size=config.piece_size), params, batch
        )

    def contestant(setting: str, perturb: Callable[[Params, dict[str, Array]], PyTree]) -> timing.Contestant:
        compiled = jax.jit(perturb)
        run = lambda: jax.block_until_ready(compiled(params, columns))
        return timing.Contestant("jaxrec", setting, run, len(batch[0]) * num_steps)

    return [contestant(f"pieces of {config.piece_size}", in_pieces), contestant("touched rows", on_touched_rows)]


def torch_contestants(
    config: Config, tables: list[np.ndarray], batch: tuple, num_steps: int
) -> list[timing.Contestant]:
    """`torch_mf.pgd` with dense and with sparse gradients, on each number of threads."""
    import torch

    from benchmarks import timing, torch_mf

    users, pos, neg = (torch.from_numpy(column).long() for column in batch)
    start = [torch.from_numpy(table) for table in tables]

    step_size = 2.5 * EPSILON / num_steps  # jaxrec's default

    def contestant(sparse: bool, threads: int) -> timing.Contestant:
        attack = functools.partial(
            torch_mf.pgd, epsilon=EPSILON, step_size=step_size, num_steps=num_steps, sparse=sparse
        )

        def run() -> None:
            torch.set_num_threads(threads)
            attack(start, (users, pos, neg))

        setting = f"{'sparse' if sparse else 'dense'} gradients, {timing.threads(threads)}"
        return timing.Contestant("torch", setting, run, len(batch[0]) * num_steps)

    return [contestant(sparse, threads) for sparse in (False, True) for threads in config.threads]


if __name__ == "__main__":
    command.run(main, Config)
