"""Crafts the learned fakes of an attack through unrolled training, once: time by both clocks, and the largest memory.

The whole attack as `poisoning.unrolled` makes it, each outer step a training of weighted matrix factorisation that is
differentiated through its last steps, compilation counted. The memory is the process's largest resident set, libraries
and data in it. The bar: 1 % fakes on MovieLens-1M, ten unrolled steps, below 4 GB and ten minutes on two cores.

Run: python -m benchmarks.poisoning_cost --data-dir ML1M --json poisoning.json
"""

from __future__ import annotations

import dataclasses
import pathlib
import resource
import sys
import time
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
    dimension: int = 64  # length of an embedding of the surrogate
    fakes: float = 0.01  # of the users
    fillers: int = 50  # of each fake, beside the targets
    targets: int = 5  # of the items that most users have
    steps: int = 10  # of the attack, each a training of the surrogate
    train_steps: int = 10  # of a training
    unrolled_steps: int = 10  # of them, the last, that are differentiated
    seed: int = 0  # of the interactions and the attack
    json: pathlib.Path | None = None  # file to write what was measured to


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "fillers", "targets", "steps", "train_steps", "unrolled_steps")
    command.check(config, dict.fromkeys((*sizes, "fakes"), command.POSITIVE))
    command.check(config, {"unrolled_steps": command.between(1, config.train_steps)})
    runtime.prepare()

    from benchmarks import interactions, timing

    sizes = {"num_users": config.users, "num_items": config.items, "num_pairs": config.pairs}
    work = interactions.load(config.data_dir, **sizes, seed=config.seed)
    about = timing.machine(work.describe()) | {"fakes": round(config.fakes * work.train.num_users)}
    timed = crafted(config, work)
    title = f"{config.steps} outer steps of {config.train_steps} steps of training, {config.unrolled_steps} unrolled"
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found = {"peak MiB": round(peak / 2**20), "seconds": timed.seconds[0], "cpu_seconds": timed.cpu_seconds[0]}
    timing.report(about | found, [timing.record(title, "outer steps a second", [timed])], config.json)


def crafted(config: Config, work: interactions.Work) -> timing.Timing:
    """What the attack takes, from a cold start to the fakes."""
    import jax
    import numpy as np

    from benchmarks import timing
    from jaxrec.inner import unrolled as training
    from jaxrec.poisoning import unrolled

    steps = {"train_steps": config.train_steps, "unrolled_steps": config.unrolled_steps}
    poison = unrolled.attack(
        num_fakes=round(config.fakes * work.train.num_users),
        num_fillers=config.fillers,
        surrogate=training.surrogate(dimension=config.dimension, **steps),
        num_steps=config.steps,
    )
    popular = np.argsort(-np.bincount(work.train.items, minlength=work.train.num_items), kind="stable")
    run = lambda: poison(jax.random.key(config.seed), work.train, popular[: config.targets])
    start = time.perf_counter(), time.process_time()
    run()
    spent = np.array([[time.perf_counter() - start[0]], [time.process_time() - start[1]]])
    return timing.Timing(timing.Contestant("jaxrec", "unrolled", run, config.steps), *spent)


if __name__ == "__main__":
    command.run(main, Config)
