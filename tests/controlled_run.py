"""A tiny run that a controller steers, to be interrupted."""

import functools
import json
import math
import pathlib

import jax
import numpy as np
import optax
import two_processes

from jaxrec import checkpoint, controller, files, loop, objectives, sampling, surfaces, train
from jaxrec.attacks import fgsm
from jaxrec.defences import apr

OPTIMIZER = optax.inject_hyperparams(optax.adagrad)(learning_rate=0.05)
START = controller.State(epsilon=0.2, adv_weight=1.0, learning_rate=0.05)
DECIDE = controller.decide(
    epsilon_bounds=(0.1, 0.4), adv_weight_bounds=(0.5, 2.0), min_learning_rate=0.01, tolerance=0.2, patience=1
)


def make(epsilon, adv_weight):
    return apr.objective(
        clean=objectives.pairwise(model=two_processes.MODEL),
        attack=fgsm.attack(epsilon=epsilon),
        surface=surfaces.tables("user", "item"),
        adv_weight=adv_weight,
    )


@functools.cache
def trainer(num_devices: int = 1) -> train.Trainer:
    step = functools.partial(train.make_step, controller.objective(make=make), OPTIMIZER)
    make_step = lambda devices: step(reads=two_processes.MODEL.reads, devices=devices)
    return train.parallel(make_step, num_devices=num_devices)


def state() -> train.TrainState:
    return train.init_state(two_processes.MODEL.init(jax.random.key(0)), OPTIMIZER, jax.random.key(1))


def validate(params) -> dict[str, float]:
    """Values with every bit of the tables in them, that go up and down."""
    total = float(np.sum(params["tables"]["user"], dtype=np.float64))
    return {"valid_ndcg": 1 + math.sin(1000 * total) / 4, "valid_robust_ndcg": 1 + math.cos(1000 * total) / 4}


def validate_smoothly(params) -> dict[str, float]:
    """Values that rounding hardly moves, and that go up and down all the same."""
    size = float(np.square(params["tables"]["user"], dtype=np.float64).mean())
    return {"valid_ndcg": 1 + math.sin(150 * size) / 4, "valid_robust_ndcg": 1 + math.cos(150 * size) / 4}


def fit(directory: pathlib.Path, *, num_devices: int = 1, **changes) -> loop.Fitted:
    directory.mkdir(exist_ok=True)
    log, timings, decisions = (files.Log(directory / f"{name}.jsonl") for name in ("metrics", "timings", "decisions"))
    arguments = {"start": START, "decide": DECIDE, "decide_every": 2, "num_epochs": 9, "validate": validate}
    try:
        with checkpoint.Checkpoints(directory / "checkpoints") as checkpoints:
            return controller.fit(
                trainer(num_devices),
                state(),
                two_processes.make_data(),
                name={"model": "apr"},
                batch_size=20,
                sampler=sampling.shuffled,
                seed=0,
                checkpoints=checkpoints,
                log=log,
                timings=timings,
                decisions=decisions,
                **{**arguments, **changes},
            )
    finally:
        for each in (log, timings, decisions):
            each.close()


def decided(directory: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "decisions.jsonl").read_text().splitlines()]
