"""Trains SASRec, sampling included: users a second, against plain PyTorch.

An example is one user: every item of the history after those before it, against one uniform item a place, by binary
cross-entropy; Adam, dropout .2. Each contestant shuffles the same users and takes all steps. Histories are those of a
file of sequences without the last two items of each, or drawn with lengths like MovieLens-1M's.

Run: python -m benchmarks.sequence_throughput --data sequences.txt --json sequences.json   (NPROC=2 for two XLA threads)
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
from typing import TYPE_CHECKING

from jaxrec import command, runtime

if TYPE_CHECKING:
    from benchmarks import timing
    from jaxrec.types import Interactions


@dataclasses.dataclass(frozen=True)
class Config:
    data: pathlib.Path | None = None  # file of item sequences; histories are drawn without one
    users: int = 6040  # of drawn histories (ML-1M has 6040)
    items: int = 3416  # of drawn histories (ML-1M's sequences have 3416)
    examples: int = 768  # users a run trains on; 0 for all
    batch_size: int = 128  # users a step
    dimension: int = 50  # length of an embedding
    max_length: int = 200  # items of a history that are read
    blocks: int = 2  # of attention
    piece_sizes: tuple[int, ...] = (4,)  # users whose gradient jaxrec takes at a time; 0 for the batch at once
    threads: tuple[int, ...] = (1, 2)  # of PyTorch; the faster counts
    repeats: int = 5  # measured runs of each contestant, in turn, after one unmeasured
    seed: int = 0  # of histories, parameters and sampling
    json: pathlib.Path | None = None  # file to write every measured time to


def main(config: Config) -> None:
    sizes = ("users", "items", "batch_size", "dimension", "max_length", "blocks", "threads", "repeats")
    command.check(config, dict.fromkeys(sizes, command.POSITIVE))
    runtime.prepare()

    import numpy as np

    from benchmarks import timing
    from jaxrec import sequences, splits
    from jaxrec.datasets import sequence_lists

    known = drawn(config) if config.data is None else splits.leave_one_out(sequence_lists.load(config.data)).train
    examples = sequences.examples(known)
    if config.examples:
        examples = examples.take(np.arange(len(examples)) < config.examples)
    contestants = jaxrec_contestants(config, known, examples)
    if "torch" in timing.rivals("torch"):
        contestants += torch_contestants(config, known, examples)
    title = (
        f"SASRec, batch {config.batch_size}, d {config.dimension}, {config.blocks} blocks, length {config.max_length}"
    )
    source = f"{config.data or 'drawn'}: {known.num_users} users, {known.num_items} items, {len(known)} interactions"
    tables = (timing.record(title, "users a second", timing.interleave(contestants, config.repeats)) for _ in range(1))
    timing.report(timing.machine(source), tables, config.json)


def drawn(config: Config) -> Interactions:
    """Uniform items in histories whose lengths are log-normal, with ML-1M's median (96) and mean (163), from 3 on."""
    import numpy as np

    from jaxrec.types import Interactions

    rng = np.random.default_rng(config.seed)
    lengths = np.maximum(3, rng.lognormal(np.log(96), 1.03, config.users)).astype(np.int64)
    users = np.repeat(np.arange(config.users, dtype=np.int32), lengths)
    items = rng.integers(config.items, size=len(users)).astype(np.int32)
    return Interactions(users, items, num_users=config.users, num_items=config.items)


def jaxrec_contestants(config: Config, known: Interactions, examples: Interactions) -> list[timing.Contestant]:
    """`sequences.next_item` under `train.parallel`, the batch at once or in pieces."""
    import jax
    import optax

    from benchmarks import timing
    from jaxrec import sampling, sequences, train
    from jaxrec.models import sasrec

    model = sasrec.model(
        num_items=known.num_items,
        dimension=config.dimension,
        max_length=config.max_length,
        num_blocks=config.blocks,
    )
    seen, given = sampling.seen(known), model.given(known) if model.given else {}
    num_batches = -(-len(examples) // config.batch_size)
    optimizer = optax.adam(1e-3, b2=0.98)

    def contestant(piece_size: int) -> timing.Contestant:
        objective = sequences.next_item(
            model=model, num_items=known.num_items, negatives="place", piece_size=piece_size or None
        )
        trainer = train.parallel(lambda devices: train.make_step(objective, optimizer, devices=devices))
        init_key, run_key = jax.random.split(jax.random.key(config.seed))
        state = trainer.put(train.init_state(jax.jit(model.init)(init_key), optimizer, run_key))
        epochs = itertools.count()

        def run() -> None:
            nonlocal state
            order = sampling.shuffled(examples, seed=config.seed, epoch=next(epochs))
            batches = sampling.batches(examples, order, batch_size=config.batch_size, first=0, num=num_batches)
            state, metrics = trainer.run(state, given, seen, batches)
            jax.block_until_ready((state, metrics))

        setting = f"pieces of {piece_size}" if piece_size else "batch at once"
        return timing.Contestant("jaxrec", setting, run, len(examples))

    return [contestant(piece_size) for piece_size in config.piece_sizes]


def torch_contestants(config: Config, known: Interactions, examples: Interactions) -> list[timing.Contestant]:
    """`torch_sasrec` on each number of threads."""
    import numpy as np
    import torch

    from benchmarks import timing, torch_sasrec
    from jaxrec import sequences

    histories = sequences.histories(known, max_length=config.max_length)[examples.users].astype(np.int64) + 1
    rng = np.random.default_rng(config.seed)

    def contestant(threads: int) -> timing.Contestant:
        torch.manual_seed(config.seed)
        model = torch_sasrec.SASRec(
            known.num_items, config.dimension, config.max_length, num_blocks=config.blocks, dropout=0.2
        )
        step = functools.partial(torch_sasrec.step, model, torch.optim.Adam(model.parameters(), betas=(0.9, 0.98)))

        def run() -> None:
            torch.set_num_threads(threads)
            for batch in torch_sasrec.batches(rng, histories, known.num_items, config.batch_size):
                step(batch)

        return timing.Contestant("torch", timing.threads(threads), run, len(examples))

    return [contestant(threads) for threads in config.threads]


if __name__ == "__main__":
    command.run(main, Config)
