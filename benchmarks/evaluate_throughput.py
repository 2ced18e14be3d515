"""Ranks every user's held-out item against all items they have not seen: users a second, and who else does it how fast.

jaxrec counts the items that score at or above the target, which gives the metrics at every cutoff. PyTorch and implicit
make lists of the top k by scores and look for the target in them; NumPy counts. Which training items belong to which
user is laid out for all of them before the clock starts.

Run: python -m benchmarks.evaluate_throughput --json evaluate.json
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import TYPE_CHECKING

from jaxrec import command

if TYPE_CHECKING:
    from benchmarks import interactions, timing


@dataclasses.dataclass(frozen=True)
class Config:
    data_dir: pathlib.Path | None = None  # folder of leave-one-out files to take; interactions are drawn without one
    users: int = 6040  # rows of the user table; each user is ranked once of drawn interactions (ML-1M has 6040)
    items: int = 3706  # rows of the item table of drawn interactions (ML-1M has 3706)
    pairs: int = 994169  # training pairs to draw (the leave-one-out files of ML-1M have 994169)
    dimension: int = 64  # length of an embedding
    k: int = 10  # length of the lists of PyTorch and implicit; short ones are cheaper for them
    chunk_sizes: tuple[int, ...] = (128, 512)  # users scored at once; everyone's fastest counts
    threads: tuple[int, ...] = (1, 2)  # of PyTorch and implicit; the faster counts
    repeats: int = 7  # measured runs of each contestant, in turn, after one unmeasured
    seed: int = 0  # of the interactions and the tables
    json: pathlib.Path | None = None  # file to write every measured time to


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "k", "chunk_sizes", "threads", "repeats")
    command.check(config, dict.fromkeys(sizes, command.POSITIVE))
    command.check(config, {"k": command.between(1, config.items)})

    import numpy as np

    from benchmarks import interactions, timing

    work = interactions.load(
        config.data_dir, num_users=config.users, num_items=config.items, num_pairs=config.pairs, seed=config.seed
    )
    rng = np.random.default_rng(config.seed)
    tables = [rng.normal(scale=0.1, size=(rows, config.dimension)).astype(np.float32) for rows in work.seen.shape]
    others = {"torch": torch_contestants, "implicit": implicit_contestants}
    contestants = jaxrec_contestants(config, work, tables)
    contestants += numpy_contestants(config, work, tables)
    for library in timing.rivals(*others):
        contestants += others[library](config, work, tables)
    title = f"full ranking, d {config.dimension}"
    table = timing.record(title, "users a second", timing.interleave(contestants, config.repeats))
    timing.report(timing.machine(work.describe()), [table], config.json)


def jaxrec_contestants(config: Config, work: interactions.Work, tables: list) -> list[timing.Contestant]:
    """`evaluate.ranks`, with one chunk size each."""
    import jax
    import numpy as np

    from benchmarks import timing
    from jaxrec import evaluate, types
    from jaxrec.models import mf

    num_users, num_items = work.seen.shape
    held_out = types.Interactions(np.arange(num_users, dtype=np.int32), work.targets, num_users, num_items)
    model = mf.model(num_users=num_users, num_items=num_items, dimension=config.dimension)
    params = jax.device_put({"tables": dict(zip(("user", "item"), tables, strict=True)), "weights": {}, "given": {}})

    def contestant(chunk_size: int) -> timing.Contestant:
        plan = evaluate.prepare([work.train], held_out, chunk_size=chunk_size)
        run = lambda: evaluate.ranks(model, params, plan).block_until_ready()
        return timing.Contestant("jaxrec", f"chunks of {chunk_size}", run, num_users)

    return [contestant(chunk_size) for chunk_size in config.chunk_sizes]


def numpy_contestants(config: Config, work: interactions.Work, tables: list) -> list[timing.Contestant]:
    """Masks the training items, and counts."""
    import numpy as np

    from benchmarks import timing

    num_users, user_table, item_table = len(work.seen), *tables
    starts = np.searchsorted(work.train.users, np.arange(num_users + 1))

    def ranks(chunk_size: int) -> np.ndarray:
        found = []
        for start in range(0, num_users, chunk_size):
            users = slice(start, start + chunk_size)
            scores = user_table[users] @ item_table.T
            pairs = slice(starts[start], starts[min(start + chunk_size, num_users)])
            scores[work.train.users[pairs] - start, work.train.items[pairs]] = -np.inf
            threshold = np.take_along_axis(scores, work.targets[users, None], axis=1)
            found.append(np.count_nonzero(scores >= threshold, axis=1))
        return np.concatenate(found)

    return [
        timing.Contestant("numpy", f"chunks of {size}", lambda size=size: ranks(size), num_users)
        for size in config.chunk_sizes
    ]


def torch_contestants(config: Config, work: interactions.Work, tables: list) -> list[timing.Contestant]:
    """Masks the training items, and takes the top k."""
    import numpy as np
    import torch

    from benchmarks import timing, torch_mf

    seen = torch.from_numpy(work.train.users).long(), torch.from_numpy(work.train.items).long()
    starts = np.searchsorted(work.train.users, np.arange(len(work.seen) + 1))
    user_table, item_table = (torch.from_numpy(table) for table in tables)
    targets = torch.from_numpy(work.targets).long()

    def contestant(threads: int, chunk_size: int) -> timing.Contestant:
        def run() -> None:
            torch.set_num_threads(threads)
            torch_mf.hits((user_table, item_table), seen, starts, targets, k=config.k, chunk_size=chunk_size)

        setting = f"top {config.k}, chunks of {chunk_size}, {timing.threads(threads)}"
        return timing.Contestant("torch", setting, run, len(work.seen))

    return [contestant(threads, size) for threads in config.threads for size in config.chunk_sizes]


def implicit_contestants(config: Config, work: interactions.Work, tables: list) -> list[timing.Contestant]:
    """`recommend` for all users at once, and `ranking_metrics_at_k`."""
    import implicit.evaluation as evaluation
    import numpy as np
    import scipy.sparse
    from implicit import bpr

    from benchmarks import timing

    def matrix(users: np.ndarray, items: np.ndarray) -> scipy.sparse.csr_matrix:
        return scipy.sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=work.seen.shape)

    users = np.arange(len(work.seen))
    known, held_out = matrix(work.train.users, work.train.items), matrix(users, work.targets)

    def on(threads: int) -> list[timing.Contestant]:
        model = bpr.BayesianPersonalizedRanking(factors=config.dimension, num_threads=threads, use_gpu=False)
        model.user_factors, model.item_factors = tables
        setting = f"top {config.k}, {timing.threads(threads)}"
        ranking = functools.partial(
            evaluation.ranking_metrics_at_k,
            *(model, known, held_out),
            K=config.k,
            num_threads=threads,
            show_progress=False,
        )
        lists = functools.partial(model.recommend, users, known, N=config.k)
        return [
            timing.Contestant("implicit", f"recommend, {setting}", lists, len(users)),
            timing.Contestant("implicit", f"ranking_metrics_at_k, {setting}", ranking, len(users)),
        ]

    return [contestant for threads in config.threads for contestant in on(threads)]


if __name__ == "__main__":
    command.run(main, Config)
