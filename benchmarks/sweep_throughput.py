"""Trains S models of APR that differ in epsilon and seed: one program for all, against one after another.

Examples a second of all models together, batches laid out before. `in turn` is the default on a CPU, `at once` on an
accelerator; alone, the same compiled steps are asked for S times, so that compiling is in neither's time. It also
prints what a model takes of the device's memory, and so how many fit.

Run: python -m benchmarks.sweep_throughput --models 2 8 --json sweep.json
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from jaxrec import command, runtime

if TYPE_CHECKING:
    import numpy as np

    from benchmarks import interactions, timing
    from jaxrec import sampling, sweep, train


@dataclasses.dataclass(frozen=True)
class Config:
    data_dir: pathlib.Path | None = None  # folder of leave-one-out files to take; interactions are drawn without one
    users: int = 6040  # rows of the user table of drawn interactions (ML-1M has 6040)
    items: int = 3706  # rows of the item table of drawn interactions (ML-1M has 3706)
    pairs: int = 994169  # training pairs to draw (the leave-one-out files of ML-1M have 994169)
    dimension: int = 64  # length of an embedding
    examples: int = 65536  # of the pairs, each model is trained on so many a run
    batch_size: int = 512
    models: tuple[int, ...] = (8,)  # models trained together
    repeats: int = 5  # measured runs of each contestant, in turn, after one unmeasured
    seed: int = 0  # of the interactions, the tables and the sampling
    json: pathlib.Path | None = None  # file to write every measured time to


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "examples", "batch_size", "models", "repeats")
    command.check(config, dict.fromkeys(sizes, command.POSITIVE))
    runtime.prepare()

    from benchmarks import interactions, timing

    work = interactions.load(
        config.data_dir, num_users=config.users, num_items=config.items, num_pairs=config.pairs, seed=config.seed
    )
    about = timing.machine(work.describe()) | {"memory": memory_of(recipe_of(config, work))}

    def table(num_models: int) -> dict:
        contestants = contestants_of(config, work, num_models)
        title = f"APR, Adagrad, batch {config.batch_size}, {num_models} models"
        return timing.record(title, "examples a second", timing.interleave(contestants, config.repeats))

    timing.report(about, map(table, config.models), config.json)


class Recipe(NamedTuple):
    """What all contestants train: the step of an epsilon, the state of a seed, what is seen, and the batches."""

    step: Callable[[sweep.Hyper], train.Step]
    state: Callable[[int], train.TrainState]
    seen: sampling.Seen
    batches: dict[str, np.ndarray]


def recipe_of(config: Config, work: interactions.Work) -> Recipe:
    import jax
    import optax

    from jaxrec import objectives, sampling, surfaces, train
    from jaxrec.attacks import fgsm
    from jaxrec.defences import apr
    from jaxrec.models import mf

    num_users, num_items = work.seen.shape
    model = mf.model(num_users=num_users, num_items=num_items, dimension=config.dimension)
    optimizer = optax.adagrad(0.05, initial_accumulator_value=0.1)
    clean, surface = objectives.pairwise(model=model), surfaces.tables("user", "item")

    def step(hyper: sweep.Hyper) -> train.Step:
        objective = apr.objective(clean=clean, attack=fgsm.attack(epsilon=hyper["epsilon"]), surface=surface)
        return train.make_step(objective, optimizer, reads=model.reads)

    def state(seed: int) -> train.TrainState:
        init_key, key = jax.random.split(jax.random.key(seed))
        return train.init_state(model.init(init_key), optimizer, key)

    pairs = work.sample(config.examples, config.seed)
    order, num = sampling.shuffled(pairs, seed=config.seed, epoch=0), -(-len(pairs) // config.batch_size)
    batches = sampling.batches(pairs, order, batch_size=config.batch_size, first=0, num=num)
    return Recipe(step, state, sampling.seen(work.train), batches)


def memory_of(recipe: Recipe, num_models: int = 4) -> str:
    """What one model more takes, by XLA's account of the program for `num_models` and for twice as many."""
    import jax
    import numpy as np

    from jaxrec import sweep

    def total(num: int, each: sweep.Each) -> float:
        models = sweep.stack([recipe.state(0)] * num, hyper=[{"epsilon": 0.5}] * num)
        run = sweep.parallel(recipe.step, num_models=num, each=each).run
        batches = {name: column[None] for name, column in recipe.batches.items()}
        leaves, structure = jax.tree.flatten(models)
        whole = lambda leaves, running: run(structure.unflatten(leaves), {}, recipe.seen, batches, running)
        used = jax.jit(whole, donate_argnums=0).lower(leaves, np.ones(num, bool)).compile().memory_analysis()
        return used.argument_size_in_bytes + used.temp_size_in_bytes if used else math.nan

    words = []
    for setting, each in (("in turn", sweep.in_turn), ("at once", sweep.at_once)):
        more = (total(2 * num_models, each) - total(num_models, each)) / num_models
        words.append(f"{more / 1e6:.1f} MB a model {setting}, {16e9 / more:.0f} in 16 GB")
    return "; ".join(words)


def contestants_of(config: Config, work: interactions.Work, num_models: int) -> list[timing.Contestant]:
    """The sweep in both ways, and the steps of one model taken for each in turn."""
    import jax
    import numpy as np

    from benchmarks import timing
    from jaxrec import sweep, train

    recipe = recipe_of(config, work)
    epsilons = np.linspace(0.1, 1, num_models)
    states = [recipe.state(config.seed + number) for number in range(num_models)]
    amount = num_models * int(recipe.batches["where"].sum())
    shared: dict[str, np.ndarray] = {name: column[None] for name, column in recipe.batches.items()}

    def together(setting: str, each: sweep.Each) -> timing.Contestant:
        trainer = sweep.parallel(recipe.step, num_models=num_models, each=each)
        state = trainer.put(sweep.stack(states, hyper=[{"epsilon": float(epsilon)} for epsilon in epsilons]))

        def run() -> None:
            nonlocal state
            state, metrics = trainer.run(state, {}, recipe.seen, shared, np.ones(num_models, bool))
            jax.block_until_ready((state, metrics))

        return timing.Contestant("sweep", setting, run, amount)

    def alone() -> timing.Contestant:
        trainer = train.parallel(lambda devices: recipe.step({"epsilon": 0.5}))
        each = [trainer.put(state) for state in states]

        def run() -> None:
            for number, state in enumerate(each):
                each[number], metrics = trainer.run(state, {}, recipe.seen, recipe.batches)
                jax.block_until_ready((each[number], metrics))

        return timing.Contestant("one model", "after another", run, amount)

    return [together("in turn", sweep.in_turn), together("at once", sweep.at_once), alone()]


if __name__ == "__main__":
    command.run(main, Config)
