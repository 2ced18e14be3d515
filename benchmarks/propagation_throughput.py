"""One layer of LightGCN, A x for the normalised adjacency of users and items: edges a second, and who does it how fast.

jaxrec gathers groups of neighbours; SciPy and PyTorch multiply a matrix in compressed sparse rows with a dense one. The
graphs are laid out before the clock starts. An edge counts in both directions.

Run: python -m benchmarks.propagation_throughput --json propagation.json [--data-dir FOLDER]
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from jaxrec import command

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse

    from benchmarks import timing
    from jaxrec import types


@dataclasses.dataclass(frozen=True)
class Config:
    data_dir: pathlib.Path | None = None  # folder with train.txt and valid.txt of item lists; drawn without one
    users: int = 29858  # of drawn interactions (Gowalla as LightGCN has it)
    items: int = 40981  # of drawn interactions
    pairs: int = 810128  # of drawn interactions; those drawn twice count once
    dimension: int = 64  # length of an embedding
    chunk_sizes: tuple[int, ...] = (256, 1024, 4096)  # groups of neighbours at a time; the fastest counts
    threads: tuple[int, ...] = (1, 2)  # of PyTorch; the faster counts
    repeats: int = 7  # measured runs of each contestant, in turn, after one unmeasured
    seed: int = 0  # of the interactions and the embeddings
    json: pathlib.Path | None = None  # file to write every measured time to


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "chunk_sizes", "threads", "repeats")
    command.check(config, dict.fromkeys(sizes, command.POSITIVE))

    import numpy as np

    from benchmarks import timing

    known = drawn(config) if config.data_dir is None else published(config.data_dir)
    adjacency = normalised(known)
    shape = (known.num_users + known.num_items, config.dimension)
    x = np.random.default_rng(config.seed).normal(size=shape).astype(np.float32)
    contestants = jaxrec_contestants(config, known, adjacency.nnz, x)
    contestants += [timing.Contestant("scipy", "CSR", lambda: adjacency @ x, adjacency.nnz)]
    if timing.rivals("torch"):
        contestants += torch_contestants(config, adjacency, x)
    about = f"{known.num_users} users, {known.num_items} items, {adjacency.nnz // 2} edges"
    title = f"one layer of propagation, d {config.dimension}"
    table = timing.record(title, "edges a second", timing.interleave(contestants, config.repeats))
    timing.report(timing.machine(about), [table], config.json)


def drawn(config: Config) -> types.Interactions:
    """Pairs of users and items, each by its own weight: few users and few items have most."""
    import numpy as np

    from jaxrec import types

    rng = np.random.default_rng(config.seed)

    def ids(num: int, sigma: float) -> np.ndarray:
        weights = rng.lognormal(sigma=sigma, size=num)
        return rng.choice(num, config.pairs, p=weights / weights.sum()).astype(np.int32)

    return types.Interactions(ids(config.users, 0.9), ids(config.items, 1.3), config.users, config.items)


def published(folder: pathlib.Path) -> types.Interactions:
    """The training and validation items of a folder of item lists."""
    from jaxrec import splits
    from jaxrec.datasets import item_lists

    split = item_lists.load(folder)
    return splits.joined(split.train, split.valid)


def normalised(known: types.Interactions) -> scipy.sparse.csr_matrix:
    """The adjacency of users, then items, each edge divided by the root of both degrees: float32 CSR."""
    import numpy as np
    import scipy.sparse

    nodes, others = known.users, known.items + known.num_users
    ends = np.concatenate([nodes, others]), np.concatenate([others, nodes])
    num = known.num_users + known.num_items
    matrix = scipy.sparse.csr_matrix((np.ones(len(ends[0]), np.float32), ends), shape=(num, num))
    matrix.data[:] = 1  # a pair drawn twice was added up
    degrees = np.bincount(matrix.indices, minlength=num)  # it is symmetric
    scale = scipy.sparse.diags_array(1 / np.sqrt(np.maximum(degrees, 1)), dtype=np.float32)
    return scipy.sparse.csr_matrix(scale @ matrix @ scale, dtype=np.float32)


def jaxrec_contestants(
    config: Config, known: types.Interactions, num_edges: int, x: np.ndarray
) -> list[timing.Contestant]:
    """`lightgcn.propagate`, with one chunk size each."""
    import jax

    from benchmarks import timing
    from jaxrec.models import lightgcn

    propagate, on_device = jax.jit(lightgcn.propagate), jax.device_put(x)

    def contestant(chunk_size: int) -> timing.Contestant:
        graph = lightgcn.graph(known, chunk_size=chunk_size)
        run = lambda: propagate(graph, on_device).block_until_ready()
        return timing.Contestant("jaxrec", f"chunks of {chunk_size}", run, num_edges)

    return [contestant(chunk_size) for chunk_size in config.chunk_sizes]


def torch_contestants(config: Config, adjacency: scipy.sparse.csr_matrix, x: np.ndarray) -> list[timing.Contestant]:
    """A product of `torch.sparse_csr_tensor`."""
    import warnings

    import torch

    from benchmarks import timing

    parts = [torch.from_numpy(part) for part in (adjacency.indptr, adjacency.indices, adjacency.data)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)  # that CSR is in beta
        matrix = torch.sparse_csr_tensor(*parts, size=adjacency.shape)
    dense = torch.from_numpy(x)

    def contestant(threads: int) -> timing.Contestant:
        def run() -> None:
            torch.set_num_threads(threads)
            _ = matrix @ dense

        return timing.Contestant("torch", f"CSR, {timing.threads(threads)}", run, adjacency.nnz)

    return [contestant(threads) for threads in config.threads]


if __name__ == "__main__":
    command.run(main, Config)
