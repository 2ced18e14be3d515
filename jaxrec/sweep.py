"""Many models at once: one compiled program trains models that differ in seed, order of data and hyperparameters.

    make = lambda hyper: train.make_step(objective(hyper["epsilon"]), optimizer, reads=model.reads)
    trainer = sweep.parallel(make, num_models=len(states))
    models = sweep.stack(states, hyper=[{"epsilon": 0.5}, {"epsilon": 1.0}], orders=[0, 0])
    sweep_loop.fit(trainer, models, data, names=..., order_seeds=[0], ...)

Each model takes the steps that `train.parallel` would take with it alone. `in_turn`, for CPUs, trains one model after
another, to the same bytes; `at_once`, for accelerators, trains them all in each operation, to the same up to rounding.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, sampling, train
from jaxrec.types import Array, InputError, Metrics, PyTree, Scalar

Hyper = Mapping[str, Scalar]  # what may differ from model to model
TrainOne = Callable[["Models", dict[str, Array], Array], tuple[train.TrainState, Metrics]]
Each = Callable[[TrainOne, "Models", dict[str, Array], Array], tuple[train.TrainState, Metrics]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Models:
    """S models in training: every array has the model's axis in front.

    Attributes:
        states: As `train.TrainState`.
        hyper: {name: [S]}.
        order: int32 [S], which of the orders of the data each model goes through.
    """

    states: train.TrainState
    hyper: Mapping[str, Array | np.ndarray]
    order: Array | np.ndarray


def stack(
    states: Sequence[train.TrainState], *, hyper: Sequence[Hyper] | None = None, orders: Sequence[int] | None = None
) -> Models:
    """Models to train together, on the host.

    Args:
        states: From `train.init_state`, of one model's shapes. A learning rate that differs is part of the optimiser's
            state: `optax.inject_hyperparams(optax.adagrad)(learning_rate=...)`, another one for each model.
        hyper: What `parallel`'s `make` gets of each model; all with the same names.
        orders: For each model the position of its order in `sweep_loop.fit`'s `order_seeds`; all the first by default.

    Raises:
        ValueError: If the lengths differ, or the names.
    """
    hyper = [{}] * len(states) if hyper is None else hyper
    orders = [0] * len(states) if orders is None else orders
    if not len(states) == len(hyper) == len(orders) > 0:
        raise ValueError(
            f"Expected hyper and orders of each state, got {len(states)} states, {len(hyper)} and {len(orders)}."
        )
    if any(each.keys() != hyper[0].keys() for each in hyper):
        raise ValueError(f"Expected the same names of all models, got {[sorted(each) for each in hyper]}.")
    values = {name: np.array([each[name] for each in hyper], np.float32) for name in hyper[0]}
    stacked = train.map_data(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *states)
    return Models(stacked, values, np.array(orders, np.int32))


def model(tree: PyTree, number: int | Array) -> PyTree:
    """What a stacked tree holds of one model."""
    return jax.tree.map(lambda leaf: leaf[number, ...], tree)


def in_turn(train_one: TrainOne, models: Models, batches: dict[str, Array], running: Array):
    """Trains one model after another, its tables in the processor's cache for all the steps."""

    def body(states, number):
        of_one = dataclasses.replace(model(models, number), states=model(states, number))
        state, metrics = train_one(of_one, batches, running[number])
        return jax.tree.map(lambda all_of, one: all_of.at[number].set(one), states, state), metrics

    return jax.lax.scan(body, models.states, jnp.arange(len(models.order)))


def at_once(train_one: TrainOne, models: Models, batches: dict[str, Array], running: Array):
    """Trains all models in each operation. One that has stopped still costs its share."""
    return jax.vmap(train_one, in_axes=(0, None, 0))(models, batches, running)


def default() -> Each:
    """`in_turn` on a CPU, `at_once` on an accelerator."""
    return in_turn if jax.default_backend() == "cpu" else at_once


class Trainer(NamedTuple):
    """A compiled scan over the steps of S models; as `train.Trainer`, but for two things.

    `run` is (models, given, seen, batches, running) -> (models, metrics [S, steps]). Batches are host arrays
    [K, steps, B], one for each order of the data. A model whose `running` [S] is false stays as it is, and its metrics
    are 0. `count` is the number of devices, over which the *models* are spread; a batch need not divide.
    """

    put: Callable[[Models], Models]
    run: Callable[..., tuple[Models, Metrics]]
    get: Callable[[Models], Models]
    count: int


def parallel(
    make: Callable[[Hyper], train.Step],
    *,
    num_models: int,
    num_devices: int = 1,
    each: Each | None = None,
    draw: sampling.Draw = sampling.negatives,
) -> Trainer:
    """Builds the driver of S models' steps: `jax.jit` on one device, `jax.pmap` over several, each with its share.

    Args:
        make: {name: traced scalar} -> step, such as `lambda hyper: train.make_step(objective(hyper), optimizer)`.
        num_models: S. Where the devices do not divide it, the last model's place is filled up and not trained.
        num_devices: Of this process.
        each: `in_turn` or `at_once`; by default what suits the device.
        draw: As in `train.parallel`.

    Raises:
        InputError: If there are fewer devices.
        ValueError: If `num_models < 1`.
    """
    checks.counts(num_models=num_models)
    if not 1 <= num_devices <= jax.local_device_count():
        raise InputError(f"Expected devices between 1 and {jax.local_device_count()}, got {num_devices}.")
    each = each or default()

    def run(models, given, seen, batches, running):
        def train_one(of_one, batches, running):
            step = make(of_one.hyper)
            own = {name: column[of_one.order] for name, column in batches.items()}
            go_on = lambda state: train.scan(step, draw, train.ALONE, state, given, seen, own)
            shapes = jax.eval_shape(lambda state: go_on(state)[1], of_one.states)
            stay = lambda state: (state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
            return jax.lax.cond(running, go_on, stay, of_one.states)

        states, metrics = each(train_one, models, batches, running)
        return dataclasses.replace(models, states=states), metrics

    if num_devices == 1:
        copy = jax.jit(lambda models: jax.tree.map(jnp.copy, models))
        return Trainer(copy, jax.jit(run, donate_argnums=0), jax.device_get, 1)

    spread = jax.pmap(
        run, in_axes=(0, None, None, None, 0), donate_argnums=0, devices=jax.local_devices()[:num_devices]
    )
    size = -(-num_models // num_devices)
    filled = np.minimum(np.arange(num_devices * size), num_models - 1)

    def split(tree):  # [S, ...] -> [devices, S / devices, ...]
        return train.map_data(lambda x: np.asarray(x)[filled].reshape(num_devices, size, *x.shape[1:]), tree)

    def join(tree):
        return train.map_data(lambda x: np.asarray(x).reshape(-1, *x.shape[2:])[:num_models], tree)

    def run_spread(models, given, seen, batches, running):
        going = np.asarray(running)[filled] & (np.arange(len(filled)) < num_models)
        models, metrics = spread(models, given, seen, batches, going.reshape(num_devices, size))
        return models, join(metrics)

    return Trainer(split, run_spread, join, num_devices)


def bytes_of(models: Models) -> dict[str, int]:
    """What S models take on a device: `{"a model": ..., "all": ...}`, all that their states hold but steps and keys.

    In turn steps write where they read: beside this there is what the steps of one model need. At once each model needs
    that, more than its state (`benchmarks.sweep_throughput` prints both). Batches take 9 bytes an example and order.
    """
    leaves = jax.tree.leaves((models.states.trained, models.states.opt_state, models.states.carried))
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return {"a model": total // len(models.order), "all": total}
