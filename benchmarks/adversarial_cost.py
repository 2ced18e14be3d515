"""What adversarial training costs: steps of each kind beside plain ones, and a request to what they have trained.

An example is one training pair with one uniform unseen negative, in one step: free training replays each batch, and
each replay counts. Matrix factorisation by Adagrad on MovieLens-1M's shape, all steps on the touched rows. Aims, in
times of plain training: fast and free within 2.2, PGD with k steps within 1.15 (k + 1); a request to an adversarially
trained model takes .95 to 1.05 of one to a plain model.

Run: python -m benchmarks.adversarial_cost --json cost.json
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, NamedTuple

from jaxrec import command, runtime

if TYPE_CHECKING:
    from benchmarks import interactions, timing
    from jaxrec.types import Model, Objective, Params

EPSILON = 0.5


@dataclasses.dataclass(frozen=True)
class Config:
    data_dir: pathlib.Path | None = None  # folder of leave-one-out files to take; interactions are drawn without one
    users: int = 6040  # rows of the user table of drawn interactions (ML-1M has 6040)
    items: int = 3706  # rows of the item table of drawn interactions (ML-1M has 3706)
    pairs: int = 994169  # training pairs to draw (the leave-one-out files of ML-1M have 994169)
    dimension: int = 64  # length of an embedding
    examples: int = 65536  # of the pairs, a run trains on so many
    batch_size: int = 512
    pgd_steps: tuple[int, ...] = (3, 7)
    replays: int = 4  # of a batch in free training
    requests: int = 200  # calls for the first k items in a run, one user each
    k: int = 10  # length of a list
    repeats: int = 5  # measured runs of each contestant, in turn, after one unmeasured
    seed: int = 0  # of the interactions, the tables and the sampling
    json: pathlib.Path | None = None  # file to write every measured time to


class Training(NamedTuple):
    """A kind of training. `carries`: its state holds a perturbation."""

    objective: Objective
    num_replays: int = 1
    carries: bool = False


def main(config: Config) -> None:
    sizes = ("users", "items", "pairs", "dimension", "examples", "batch_size", "pgd_steps", "replays", "requests", "k")
    command.check(config, dict.fromkeys((*sizes, "repeats"), command.POSITIVE))
    runtime.prepare()

    from benchmarks import interactions, timing
    from jaxrec.models import mf

    work = interactions.load(
        config.data_dir, num_users=config.users, num_items=config.items, num_pairs=config.pairs, seed=config.seed
    )
    num_users, num_items = work.seen.shape
    command.check(config, {"k": command.between(1, num_items)})
    model = mf.model(num_users=num_users, num_items=num_items, dimension=config.dimension)
    last: dict[str, Params] = {}

    def tables():
        training = [
            contestant(config, work, model, name, each, last) for name, each in trainings(config, model).items()
        ]
        title = f"training, Adagrad, batch {config.batch_size}, d {config.dimension}"
        yield timing.record(title, "examples a second", timing.interleave(training, config.repeats))
        serving = [requests(config, model, name, last[name]) for name in ("plain", "FGSM")]
        title = f"one user's first {config.k} items, by what was trained"
        yield timing.record(title, "requests a second", timing.interleave(serving, config.repeats))

    timing.report(timing.machine(work.describe()), tables(), config.json)


def trainings(config: Config, model: Model) -> dict[str, Training]:
    """By name; plain training first, which the others are compared with."""
    from jaxrec import objectives, surfaces
    from jaxrec.attacks import fgsm, pgd
    from jaxrec.defences import apr, fast, free

    parts = {"clean": objectives.pairwise(model=model), "surface": surfaces.tables("user", "item")}
    return {
        "plain": Training(parts["clean"]),
        "FGSM": Training(apr.objective(attack=fgsm.attack(epsilon=EPSILON), **parts)),
        **{
            f"PGD-{steps}": Training(apr.objective(attack=pgd.attack(epsilon=EPSILON, num_steps=steps), **parts))
            for steps in config.pgd_steps
        },
        "free": Training(free.objective(epsilon=EPSILON, **parts), config.replays, carries=True),
        "fast": Training(fast.objective(epsilon=EPSILON, **parts)),
    }


def contestant(
    config: Config, work: interactions.Work, model: Model, name: str, each: Training, last: dict[str, Params]
) -> timing.Contestant:
    """Trains on the pairs once more a run, and leaves in `last` what it has trained."""
    import jax
    import optax

    from benchmarks import timing
    from jaxrec import min_max, sampling, surfaces, train

    optimizer = optax.adagrad(0.05, initial_accumulator_value=0.1)
    pairs = work.sample(config.examples, config.seed)
    order, num = sampling.shuffled(pairs, seed=config.seed, epoch=0), -(-len(pairs) // config.batch_size)
    batches = sampling.batches(pairs, order, batch_size=config.batch_size, first=0, num=num)

    def make(devices: train.Devices) -> train.Step:
        step = train.make_step(each.objective, optimizer, reads=model.reads, devices=devices)
        return step if each.num_replays == 1 else train.replayed(step, each.num_replays)

    trainer, seen = train.parallel(make), sampling.seen(work.train)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    params = model.init(init_key)
    carried = min_max.nothing(surfaces.tables("user", "item"))(params) if each.carries else {}
    state = trainer.put(train.init_state(params, optimizer, run_key, carried=carried))

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(trainer.run(state, {}, seen, batches))
        last[name] = {**state.trained, "given": {}}

    setting = f"{each.num_replays} replays" if each.num_replays > 1 else f"epsilon {EPSILON}"
    return timing.Contestant(name, "" if name == "plain" else setting, run, len(pairs) * each.num_replays)


def requests(config: Config, model: Model, name: str, params: Params) -> timing.Contestant:
    """Calls of `recommendations.best`, until each list is on the host; no item is left out."""
    import jax
    import numpy as np

    from benchmarks import timing
    from jaxrec import recommendations

    num_users = len(params["tables"]["user"])
    users = np.random.default_rng(config.seed).integers(num_users, size=(config.requests, 1)).astype(np.int32)
    none = np.full((1, 1), -1, np.int32)

    def run() -> None:
        for user in users:
            jax.device_get(recommendations.best(model, params, user, none, config.k))

    return timing.Contestant(name, "trained so", run, config.requests)


if __name__ == "__main__":
    command.run(main, Config)
