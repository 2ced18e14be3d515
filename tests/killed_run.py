"""A tiny run with chunks, validation and checkpoints, to be interrupted: `python killed_run.py DIRECTORY`."""

import pathlib
import sys
import time

import jax
import numpy as np
import optax
import two_processes

from jaxrec import checkpoint, files, loop, sampling, train

BATCH_SIZE, NUM_BATCHES, NUM_EPOCHS = 20, 11, 6  # 205 pairs
CHUNKS = [(0, 4), (4, 4), (8, 3)]
OPTIMIZER = optax.adagrad(0.05, initial_accumulator_value=0.1)


def make_trainer(optimizer: optax.GradientTransformation = OPTIMIZER) -> train.Trainer:
    objective, reads = two_processes.make_objective(), two_processes.MODEL.reads
    return train.parallel(lambda devices: train.make_step(objective, optimizer, reads=reads, devices=devices))


def make_state(optimizer: optax.GradientTransformation = OPTIMIZER) -> train.TrainState:
    return train.init_state(two_processes.MODEL.init(jax.random.key(0)), optimizer, jax.random.key(1))


def quality(params) -> dict[str, float]:
    """A value with every bit of the tables in it, that goes up and down."""
    return {"quality": float(np.sin(1000 * np.sum(params["tables"]["user"], dtype=np.float64)))}


def fit(directory: pathlib.Path, trainer: train.Trainer, state: train.TrainState, **changes) -> loop.Fitted:
    directory.mkdir(exist_ok=True)
    log, timings = (files.Log(directory / name) for name in ("metrics.jsonl", "timings.jsonl"))
    arguments = {
        "name": {"model": "apr"},
        "num_epochs": NUM_EPOCHS,
        "batch_size": BATCH_SIZE,
        "sampler": sampling.user_blocked,
        "seed": 0,
        "validate": quality,
        "score": "quality",
        "validate_every": 2,
        "chunk_size": 4 * BATCH_SIZE + 3,
    }
    try:
        with checkpoint.Checkpoints(directory / "checkpoints") as checkpoints:
            return loop.fit(
                trainer,
                state,
                two_processes.make_data(),
                checkpoints=checkpoints,
                log=log,
                timings=timings,
                **{**arguments, **changes},
            )
    finally:
        log.close()
        timings.close()


if __name__ == "__main__":
    fit(pathlib.Path(sys.argv[1]), make_trainer(), make_state(), report=lambda line: time.sleep(0.05))
