"""Trains BPR and APR matrix factorisation, sampling included: examples a second, against PyTorch and implicit.

An example is one training pair with one uniform unseen negative. Each contestant shuffles the same pairs, draws the
negatives and takes all steps; APR has epsilon 0.5 and adv_weight 1 (their values change no cost). A larger batch is
another adversary at the same epsilon: these are times, not results.

Run: python -m benchmarks.train_throughput --json train.json
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from jaxrec import command, runtime

if TYPE_CHECKING:
    import numpy as np

    from benchmarks import interactions, timing
    from jaxrec import train
    from jaxrec.types import Model, Objective

EPSILON, ADV_WEIGHT = 0.5, 1.0


@dataclasses.dataclass(frozen=True)
class Config:
    data_dir: pathlib.Path | None = None  # folder of leave-one-out files to take; interactions are drawn without one
    users: int = 6040  # rows of the user table of drawn interactions (ML-1M has 6040)
    items: int = 3706  # rows of the item table of drawn interactions (ML-1M has 3706)
    pairs: int = 994169  # training pairs to draw (the leave-one-out files of ML-1M have 994169)
    dimension: int = 64  # length of an embedding
    examples: int = 131072  # of the pairs, a run trains on so many; implicit takes all
    bpr_batch_sizes: tuple[int, ...] = (512,)  # examples a step of BPR, by SGD and by Adagrad
    apr_batch_sizes: tuple[int, ...] = (512, 2048, 8192)  # examples a step of APR, by Adagrad
    piece_size: int = 256  # examples whose gradient jaxrec takes at a time
    threads: tuple[int, ...] = (1, 2)  # of PyTorch and implicit; the faster counts
    repeats: int = 5  # measured runs of each contestant, in turn, after one unmeasured
    seed: int = 0  # of the interactions, the tables and the sampling
    json: pathlib.Path | None = None  # file to write every measured time to


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "examples", "bpr_batch_sizes", "apr_batch_sizes", "piece_size")
    command.check(config, dict.fromkeys((*sizes, "threads", "repeats"), command.POSITIVE))
    runtime.prepare()

    from benchmarks import interactions, timing

    work = interactions.load(
        config.data_dir, num_users=config.users, num_items=config.items, num_pairs=config.pairs, seed=config.seed
    )
    libraries = timing.rivals("torch", "implicit")
    jobs = [("BPR", optimizer, size) for optimizer in ("sgd", "adagrad") for size in config.bpr_batch_sizes]
    jobs += [("APR", "adagrad", size) for size in config.apr_batch_sizes]

    def table(method: str, optimizer: str, batch_size: int) -> dict:
        contestants = jaxrec_contestants(config, work, method, optimizer, batch_size)
        if "torch" in libraries:
            contestants += torch_contestants(config, work, method, optimizer, batch_size)
        if "implicit" in libraries and (method, optimizer) == ("BPR", "sgd"):
            contestants += implicit_contestants(config, work)
        title = f"{method}, {optimizer}, batch {batch_size}, d {config.dimension}"
        return timing.record(title, "examples a second", timing.interleave(contestants, config.repeats))

    timing.report(timing.machine(work.describe()), (table(*job) for job in jobs), config.json)


def jaxrec_contestants(
    config: Config, work: interactions.Work, method: str, optimizer: str, batch_size: int
) -> list[timing.Contestant]:
    """`train.make_step` under `train.parallel`, the loss summed at once and in pieces; for SGD, `make_direct_step`.

    The next run's batches are laid out while the device is at work, as `loop.fit` does it.
    """
    import jax
    import optax

    from benchmarks import timing
    from jaxrec import objectives, rows, sampling, surfaces, train
    from jaxrec.attacks import fgsm
    from jaxrec.defences import apr
    from jaxrec.models import mf

    num_users, num_items = work.seen.shape
    pairs = work.sample(config.examples, config.seed)
    model = mf.model(num_users=num_users, num_items=num_items, dimension=config.dimension)
    optimize = {"sgd": optax.sgd(0.05), "adagrad": optax.adagrad(0.05, initial_accumulator_value=0.1)}[optimizer]
    seen = sampling.seen(work.train)

    def make(model: Model) -> Objective:
        return objectives.pairwise(model=model)

    def stepper(clean: Objective) -> Callable[[train.Devices], train.Step]:
        attack, surface = fgsm.attack(epsilon=EPSILON), surfaces.tables("user", "item")
        against = apr.objective(clean=clean, attack=attack, surface=surface, adv_weight=ADV_WEIGHT)
        objective = clean if method == "BPR" else against
        return lambda devices: train.make_step(objective, optimize, reads=model.reads, devices=devices)

    def contestant(setting: str, make_step: Callable[[train.Devices], train.Step]) -> timing.Contestant:
        trainer = train.parallel(make_step)
        init_key, run_key = jax.random.split(jax.random.key(config.seed))
        state = trainer.put(train.init_state(model.init(init_key), optimize, run_key))

        def epochs() -> Iterator[dict[str, np.ndarray]]:
            for epoch in itertools.count():
                order = sampling.shuffled(pairs, seed=config.seed, epoch=epoch)
                num_batches = -(-len(pairs) // batch_size)
                yield sampling.batches(pairs, order, batch_size=batch_size, first=0, num=num_batches)

        upcoming = epochs()
        batches = next(upcoming)

        def run() -> None:
            nonlocal state, batches
            state, metrics = trainer.run(state, {}, seen, batches)
            batches = next(upcoming)
            jax.block_until_ready((state, metrics))

        return timing.Contestant("jaxrec", setting, run, len(pairs))

    contestants = [contestant("batch at once", stepper(make(model)))]
    if batch_size > config.piece_size:
        pieces = rows.in_pieces(make, model, size=config.piece_size)
        contestants.append(contestant(f"pieces of {config.piece_size}", stepper(pieces)))
    if (method, optimizer) == ("BPR", "sgd"):
        direct = lambda devices: train.make_direct_step(make, model, optimize, devices=devices)
        contestants.append(contestant("direct", direct))
    return contestants


def torch_contestants(
    config: Config, work: interactions.Work, method: str, optimizer: str, batch_size: int
) -> list[timing.Contestant]:
    """`torch_mf` with dense and with sparse gradients, on each number of threads."""
    import numpy as np
    import torch

    from benchmarks import timing, torch_mf

    pairs = work.sample(config.examples, config.seed)
    users, items = pairs.users.astype(np.int64), pairs.items.astype(np.int64)
    rng = np.random.default_rng(config.seed)
    num_users, num_items = work.seen.shape

    def contestant(sparse: bool, threads: int) -> timing.Contestant:
        model = torch_mf.MatrixFactorisation(num_users, num_items, config.dimension, sparse=sparse, seed=config.seed)
        optimize = {"sgd": torch_mf.sgd, "adagrad": torch_mf.adagrad}[optimizer](model)
        adversary = torch_mf.adversary(model, epsilon=EPSILON, adv_weight=ADV_WEIGHT)
        apr_step = functools.partial(torch_mf.apr_step, against=adversary)
        step = torch_mf.bpr_step if method == "BPR" else apr_step

        def run() -> None:
            torch.set_num_threads(threads)
            for batch in torch_mf.batches(rng, users, items, work.seen, batch_size):
                step(model, optimize, batch)

        setting = f"{'sparse' if sparse else 'dense'} gradients, {timing.threads(threads)}"
        return timing.Contestant("torch", setting, run, len(pairs))

    return [contestant(sparse, threads) for sparse in (False, True) for threads in config.threads]


def implicit_contestants(config: Config, work: interactions.Work) -> list[timing.Contestant]:
    """Asynchronous SGD in C++, example by example: no batches, and an item bias beside the embedding."""
    import numpy as np
    import scipy.sparse
    from implicit import bpr

    from benchmarks import timing

    seen = scipy.sparse.csr_matrix(work.seen, dtype=np.float32)

    def contestant(threads: int) -> timing.Contestant:
        model = bpr.BayesianPersonalizedRanking(
            factors=config.dimension,
            learning_rate=0.05,
            regularization=0.0,
            iterations=1,
            num_threads=threads,
            use_gpu=False,
        )
        run = lambda: model.fit(seen, show_progress=False)
        return timing.Contestant("implicit", timing.threads(threads), run, seen.nnz)

    return [contestant(threads) for threads in config.threads]


if __name__ == "__main__":
    command.run(main, Config)
