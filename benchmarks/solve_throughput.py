"""Solves the models that are not trained by steps: EASE against NumPy, iALS against implicit's ALS.

EASE: from training pairs to weights, in float32 here and in float64 by NumPy as in the paper's code. iALS: one epoch,
the users' table and then the items'; implicit solves by conjugate gradients (three steps, its default, not exact) and
by Cholesky, as here. Numbers are solutions, or epochs, a second.

Run: python -m benchmarks.solve_throughput --json solve.json
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from jaxrec import command, runtime

if TYPE_CHECKING:
    from benchmarks import interactions, timing


@dataclasses.dataclass(frozen=True)
class Config:
    data_dir: pathlib.Path | None = None  # folder with ml-1m.train.rating and its sisters; drawn interactions if None
    users: int = 6040  # of the drawn interactions
    items: int = 3706  # of the drawn interactions
    pairs: int = 994169  # training pairs to draw (the leave-one-out files of ML-1M have 994169)
    dimension: int = 64  # length of an embedding of iALS
    l2: float = 500.0  # of EASE
    threads: tuple[int, ...] = (1, 2)  # of implicit; the faster counts
    repeats: int = 5  # measured runs of each contestant, in turn, after one unmeasured
    seed: int = 0  # of the interactions and the tables
    json: pathlib.Path | None = None  # file to write every measured time to


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "l2", "threads", "repeats")
    command.check(config, dict.fromkeys(sizes, command.POSITIVE))
    runtime.prepare()

    from benchmarks import interactions, timing

    work = interactions.load(
        config.data_dir, num_users=config.users, num_items=config.items, num_pairs=config.pairs, seed=config.seed
    )
    libraries = timing.rivals("implicit")

    def tables():
        contestants = [jaxrec_ease(config, work), numpy_ease(config, work)]
        timings = timing.interleave(contestants, config.repeats)
        yield timing.record(f"EASE, l2 {config.l2:g}", "solutions a second", timings)
        contestants = [jaxrec_ials(config, work)]
        if "implicit" in libraries:
            contestants += implicit_als(config, work)
        timings = timing.interleave(contestants, config.repeats)
        yield timing.record(f"iALS, d {config.dimension}", "epochs a second", timings)

    timing.report(timing.machine(work.describe()), tables(), config.json)


def jaxrec_ease(config: Config, work: interactions.Work) -> timing.Contestant:
    """`ease.model`'s `solve`, with the threads that BLAS takes."""
    import jax

    from benchmarks import timing
    from jaxrec.models import ease

    model = ease.model(num_users=work.train.num_users, num_items=work.train.num_items, l2=config.l2)
    solve = model.solve
    assert solve is not None
    run = lambda: jax.block_until_ready(solve(work.train, jax.random.key(config.seed))["tables"])
    return timing.Contestant("jaxrec", "float32, Cholesky", run, 1)


def numpy_ease(config: Config, work: interactions.Work) -> timing.Contestant:
    """The paper's few lines: a sparse Gram matrix, `np.linalg.inv`, a division."""
    import numpy as np

    from benchmarks import timing
    from jaxrec import profiles

    def run() -> None:
        pairs = profiles.matrix(work.train).astype(np.float64)
        gram = (pairs.T @ pairs).toarray()
        gram[np.diag_indices_from(gram)] += config.l2
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices_from(weights)] = 0

    return timing.Contestant("numpy", "float64, inv", run, 1)


def jaxrec_ials(config: Config, work: interactions.Work) -> timing.Contestant:
    """One epoch of `ials.sweeps`, its plans made before."""
    import jax
    import jax.numpy as jnp

    from benchmarks import timing
    from jaxrec.models import ials

    sizes = {"num_users": work.train.num_users, "num_items": work.train.num_items}
    start = ials.model(**sizes, dimension=config.dimension).init(jax.random.key(config.seed))["tables"]
    tables, plans, weights = (start["user"], start["item"]), ials.plans(work.train), jnp.array([0.007, 0.3, 1.0])

    def run() -> None:
        nonlocal tables
        tables = jax.block_until_ready(ials.sweeps(*tables, *plans, weights, num_epochs=1))

    return timing.Contestant("jaxrec", "Cholesky", run, 1)


def implicit_als(config: Config, work: interactions.Work) -> list[timing.Contestant]:
    """One iteration in C++, by conjugate gradients and by Cholesky, on each number of threads."""
    import numpy as np
    import scipy.sparse
    import threadpoolctl
    from implicit import als

    from benchmarks import timing

    seen = scipy.sparse.csr_matrix(work.seen, dtype=np.float32)

    def contestant(threads: int, conjugate: bool) -> timing.Contestant:
        def run() -> None:
            with threadpoolctl.threadpool_limits(1, "blas"):  # implicit warns: BLAS threads below its own are slow
                model.fit(seen, show_progress=False)

        with threadpoolctl.threadpool_limits(1, "blas"):
            model = als.AlternatingLeastSquares(
                factors=config.dimension, iterations=1, num_threads=threads, use_cg=conjugate, use_gpu=False
            )
        method = "conjugate gradients" if conjugate else "Cholesky"
        return timing.Contestant("implicit", f"{method}, {timing.threads(threads)}", run, 1)

    return [contestant(threads, conjugate) for conjugate in (True, False) for threads in config.threads]


if __name__ == "__main__":
    command.run(main, Config)
