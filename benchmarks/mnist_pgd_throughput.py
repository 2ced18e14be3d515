"""Trains a perceptron against PGD, as `experiments.mnist_pgd` does: images a second, against PyTorch with foolbox.

Each contestant shuffles the same images (drawn: their values change no cost), perturbs each batch by PGD in the Linf
ball of .1, and takes a step of Adam on the clean and the adversarial loss. PyTorch's attack is foolbox's, and also one
written by hand, which has none of foolbox's overhead.

Run: python -m benchmarks.mnist_pgd_throughput --json mnist.json
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from jaxrec import command, runtime

if TYPE_CHECKING:
    import numpy as np

    from benchmarks import timing

EPSILON, STEP_SIZE, LEARNING_RATE = 0.1, 0.01, 1e-3


@dataclasses.dataclass(frozen=True)
class Config:
    images: int = 6400  # a run trains on so many
    pixels: int = 784  # of an image
    hidden: int = 128  # width of the hidden layer
    batch_size: int = 64  # images a step
    num_steps: int = 10  # of PGD
    threads: tuple[int, ...] = (1, 2)  # of PyTorch; the faster counts
    repeats: int = 5  # measured runs of each contestant, in turn, after one unmeasured
    seed: int = 0  # of the images, the weights and the order
    json: pathlib.Path | None = None  # file to write every measured time to


def main(config: Config) -> None:
    sizes = ("images", "pixels", "hidden", "batch_size", "num_steps", "threads", "repeats")
    command.check(config, dict.fromkeys(sizes, command.POSITIVE))
    runtime.prepare()
    import numpy as np

    from benchmarks import timing

    draw = np.random.default_rng(config.seed)
    images = draw.integers(256, size=(config.images, config.pixels), dtype=np.uint8)
    labels = draw.integers(10, size=config.images, dtype=np.uint8)
    contestants = [jaxrec_contestant(config, images, labels)]
    libraries = timing.rivals("torch", "foolbox")
    if "torch" in libraries:
        contestants += torch_contestants(config, images, labels, with_foolbox="foolbox" in libraries)
    shapes = f"{config.pixels}-{config.hidden}-10, batch {config.batch_size}, PGD-{config.num_steps}"
    table = timing.record(shapes, "images a second", timing.interleave(contestants, config.repeats))
    timing.report(timing.machine(f"PGD training on {config.images} images"), [table], config.json)


def jaxrec_contestant(config: Config, images: np.ndarray, labels: np.ndarray) -> timing.Contestant:
    """`classifier.objective` under `train.parallel`, one scan a run."""
    import itertools

    import jax
    import optax

    from benchmarks import timing
    from jaxrec import classifier, norms, sampling, train
    from jaxrec.attacks import pgd

    model = classifier.mlp(num_pixels=config.pixels, hidden=(config.hidden,))
    attack = pgd.attack(epsilon=EPSILON, norm=norms.LINF, num_steps=config.num_steps, step_size=STEP_SIZE)
    objective, optimizer = classifier.objective(classifier=model, attack=attack), optax.adam(LEARNING_RATE)
    make = lambda devices: train.make_step(objective, optimizer, devices=devices)
    trainer = train.parallel(make, draw=classifier.no_negatives)
    data = classifier.interactions(labels)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    params, seen = classifier.init(model, images, init_key), sampling.seen(data)
    state = trainer.put(train.init_state(params, optimizer, run_key))
    num_batches, epochs = -(-len(data) // config.batch_size), itertools.count()

    def run() -> None:
        nonlocal state
        order = sampling.shuffled(data, seed=config.seed, epoch=next(epochs))
        batches = sampling.batches(data, order, batch_size=config.batch_size, first=0, num=num_batches)
        state, metrics = trainer.run(state, params["given"], seen, batches)
        jax.block_until_ready((state, metrics))

    return timing.Contestant("jaxrec", "one scan", run, config.images)


def torch_contestants(
    config: Config, images: np.ndarray, labels: np.ndarray, *, with_foolbox: bool
) -> list[timing.Contestant]:
    """`torch_classifier`'s step, with foolbox's attack and with one by hand, on each number of threads."""
    import torch

    from benchmarks import timing, torch_classifier

    x, classes = torch.from_numpy(images).float() / 255, torch.from_numpy(labels).long()

    def contestant(library: str, make_attack, threads: int) -> timing.Contestant:
        torch.manual_seed(config.seed)
        model = torch_classifier.mlp(config.pixels, config.hidden)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        attack = make_attack(epsilon=EPSILON, step_size=STEP_SIZE, num_steps=config.num_steps)

        def run() -> None:
            torch.set_num_threads(threads)
            for rows in torch.randperm(len(x)).split(config.batch_size):
                torch_classifier.step(model, optimizer, x[rows], classes[rows], attack)

        return timing.Contestant(library, timing.threads(threads), run, config.images)

    attacks = {"torch + foolbox": torch_classifier.by_foolbox} if with_foolbox else {}
    attacks["torch"] = torch_classifier.by_hand
    return [contestant(name, make, threads) for name, make in attacks.items() for threads in config.threads]


if __name__ == "__main__":
    command.run(main, Config)
