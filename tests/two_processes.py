"""Min-max training of a tiny model, in this process or as one of two: `python two_processes.py ID PORT OUT`."""

import sys

import jax
import numpy as np
import optax

from jaxrec import objectives, rows, sampling, surfaces, train
from jaxrec.attacks import fgsm
from jaxrec.defences import apr
from jaxrec.models import mf
from jaxrec.types import Interactions

BATCH_SIZE = 10  # padded to 12 for four devices
MODEL = mf.model(num_users=30, num_items=40, dimension=4, init_scale=0.5)
OPTIMIZER = optax.sgd(0.05)


def make_data() -> Interactions:
    """Pairs that a model can learn: users like the items of their own quarter.

    Where it cannot, the gradients of a row come to cancel, and normalising what is left of them magnifies rounding:
    then even the dense step on one device ends elsewhere than the sparse one.
    """
    users, items = np.divmod(np.arange(30 * 40), 40)
    own = np.flatnonzero(users % 4 == items % 4)
    rows = np.random.default_rng(0).permutation(own)[:205]
    return Interactions(users[rows].astype(np.int32), items[rows].astype(np.int32), 30, 40)


def make_objective(*, in_pieces=False):
    clean = objectives.pairwise(model=MODEL)
    if in_pieces:
        assert MODEL.reads is not None
        clean = rows.in_pieces(lambda model: objectives.pairwise(model=model), MODEL, size=2)
    return apr.objective(clean=clean, attack=fgsm.attack(epsilon=0.2), surface=surfaces.tables("user", "item"))


def make_batches(num_steps: int, padded_size: int) -> dict[str, np.ndarray]:
    """As many epochs as give `num_steps`, the last batch of each smaller."""
    data = make_data()
    num = -(-len(data) // BATCH_SIZE)
    epochs = [
        sampling.batches(
            data,
            sampling.shuffled(data, seed=0, epoch=epoch),
            batch_size=BATCH_SIZE,
            first=0,
            num=num,
            padded_size=padded_size,
        )
        for epoch in range(-(-num_steps // num))
    ]
    return {name: np.concatenate([epoch[name] for epoch in epochs])[:num_steps] for name in epochs[0]}


def make_trainer(num_devices: int, *, objective=None, sparse=True) -> train.Trainer:
    reads = MODEL.reads if sparse else None
    objective = objective or make_objective()
    return train.parallel(
        lambda devices: train.make_step(objective, OPTIMIZER, reads=reads, devices=devices), num_devices=num_devices
    )


def make_state() -> train.TrainState:
    return train.init_state(MODEL.init(jax.random.key(0)), OPTIMIZER, jax.random.key(1))


def trained(trainer: train.Trainer, num_steps: int) -> tuple[train.TrainState, dict[str, np.ndarray]]:
    """The state on the host after `num_steps`, and the steps' metrics."""
    batches = make_batches(num_steps, -(-BATCH_SIZE // trainer.count) * trainer.count)
    state, metrics = trainer.run(trainer.put(make_state()), {}, sampling.seen(make_data()), batches)
    return trainer.get(state), jax.device_get(metrics)


def main(process: int, port: int, out: str) -> None:
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process, heartbeat_timeout_seconds=10, initialization_timeout=60)
    state, metrics = trained(make_trainer(jax.device_count()), 40)
    np.savez(out, devices=jax.device_count(), loss=metrics["loss"], **state.trained["tables"])
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
