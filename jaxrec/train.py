"""Training: a pure step, a scan over many of them, and the devices they run on (the loop around them: `loop.fit`).

`parallel` is the only place that knows devices. Losses and gradients are sums over the global batch, so the `reduce`
seam is the identity on one device and a `psum` on several, and the tables come out the same.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec import checks, rows, sampling
from jaxrec.types import Array, InputError, Key, Metrics, Model, Objective, Params, PyTree, Reduce


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes.

    Attributes:
        trained: {"tables", "weights"}, the differentiated part of params.
        opt_state: Optax's.
        step: int32 [], steps taken.
        key: The run's key; a step's own is `fold_in(key, step)`.
        carried: {name: array}, what an objective keeps from step to step, such as the perturbation of `defences.free`.
            An entry named as a table has that table's rows.
    """

    trained: PyTree
    opt_state: PyTree
    step: Array | np.ndarray
    key: Key
    carried: dict[str, Array | np.ndarray] = dataclasses.field(default_factory=dict)


class Devices(NamedTuple):
    """What a step may know of the devices it runs on: `reduce` sums over them, `gather` concatenates, and this one is
    number `index()` of `count`.
    """

    reduce: Reduce
    gather: Callable[[Array], Array]
    index: Callable[[], Array | int]
    count: int


ALONE = Devices(reduce=lambda tree: tree, gather=lambda x: x, index=lambda: 0, count=1)
Step = Callable[[TrainState, PyTree, dict[str, Array], Key], tuple[TrainState, Metrics]]


def init_state(
    params: Params, optimizer: optax.GradientTransformation, key: Key, *, carried: Mapping[str, Array] = {}
) -> TrainState:
    """The state before the first step. It holds copies of the tables: the steps donate their buffers."""

    @jax.jit
    def init(trained, key, carried):
        return _copy(TrainState(trained, optimizer.init(trained), jnp.int32(0), key, carried))

    return init({"tables": params["tables"], "weights": params["weights"]}, key, dict(carried))


def _copy(tree: PyTree) -> PyTree:
    """New buffers: without `copy`, jit hands an unchanged argument's own buffer back, and donating deletes it."""
    return jax.tree.map(jnp.copy, tree)


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    reads: rows.Reads | None = None,
    devices: Devices = ALONE,
) -> Step:
    """Builds one training step.

    Args:
        objective: What to minimise; its loss is this device's part of a sum over the global batch. It finds what the
            state carries at `params["carried"]`, and its metric `carried`, the same on all devices, takes that's place.
        optimizer: Optax's. Where a row with gradient zero would stay still (SGD, Adagrad: `rows.separable`), the step
            works on the touched rows alone, with the same result; otherwise on whole tables.
        reads: `Model.reads`; None makes every step dense.
        devices: `ALONE`, or what `parallel` hands in.

    Returns:
        `(state, given, batch, key) -> (state, metrics)`, metrics summed over the global batch.
    """
    reads = reads if reads is not None and rows.separable(optimizer) else {}

    def step(state, given, batch, key):
        plan, batch = rows.compact(state.trained["tables"], batch, reads, devices.gather)
        tables = [*rows.tables_of(optimizer, state.trained, state.opt_state), *sorted(state.carried)]
        full = (state.trained, state.opt_state, state.carried)
        trained, opt_state, carried = rows.take(full, tables, plan)

        def loss(trained):
            return objective({**trained, "given": given, "carried": carried}, batch, key, devices.reduce)

        grads, metrics = jax.grad(loss, has_aux=True)(trained)
        carried = metrics.pop("carried", carried)
        updates, opt_state = optimizer.update(devices.reduce(grads), opt_state, trained)
        trained = optax.apply_updates(trained, updates)
        trained, opt_state, carried = rows.write_back(full, (trained, opt_state, carried), tables, plan)
        return TrainState(trained, opt_state, state.step + 1, state.key, carried), devices.reduce(metrics)

    return step


def make_direct_step(
    make: Callable[[Model], Objective],
    model: Model,
    optimizer: optax.GradientTransformation,
    *,
    devices: Devices = ALONE,
) -> Step:
    """Builds the step of `make_step` for the case in which nothing need be added up first: plain SGD on a sum.

    Each example's own update is added to the tables where its rows lie, so a row is read and written once an example,
    and no gradient table is made. The result is that of `make_step`, up to the order of summation.

    Args:
        make, model: As in `rows.by_example`: a clean objective, and a model whose scores depend on two rows.
        optimizer: `optax.sgd` without momentum.

    Raises:
        ValueError: If the optimiser is another (`rows.additive`), or the model lacks `reads` or `score_rows`.
    """
    if not rows.additive(optimizer):
        raise ValueError("Expected an optimizer whose updates add up, such as optax.sgd without momentum.")
    differentiate, reads = rows.by_example(make, model), model.reads or {}

    def step(state, given, batch, key):
        params = {**state.trained, "given": given}
        (_, metrics), by_row, by_weight = differentiate(params, batch, key, devices.reduce)
        grads = {"rows": by_row, "weights": devices.reduce(by_weight)}
        updates: PyTree
        updates, opt_state = optimizer.update(grads, state.opt_state)
        tables = state.trained["tables"] | {
            name: rows.add_rows(state.trained["tables"][name], columns, batch, updates["rows"], devices.gather)
            for name, columns in reads.items()
        }
        trained = {"tables": tables, "weights": optax.apply_updates(state.trained["weights"], updates["weights"])}
        state = dataclasses.replace(state, trained=trained, opt_state=opt_state, step=state.step + 1)
        return state, devices.reduce(metrics)

    return step


def replayed(step: Step, num: int) -> Step:
    """Builds the step that takes `num` steps on each batch and counts as one: the replays of `defences.free`.

    Each of them has a key of its own. The metrics, `examples` too, are sums over the replays. The optimiser counts each
    replay: a schedule of its learning rate is `num` times as fast.

    Raises:
        ValueError: If `num` is no whole number of at least 1.
    """
    checks.counts(num=num)

    def replay(state, given, batch, key):
        def one(state, key):
            after, metrics = step(state, given, batch, key)
            return dataclasses.replace(after, step=state.step), metrics

        after, metrics = jax.lax.scan(one, state, jax.random.split(key, num))
        total = jax.tree.map(lambda x: jnp.sum(x, axis=0), metrics)
        return dataclasses.replace(after, step=state.step + 1), total

    return replay


class Trainer(NamedTuple):
    """A compiled scan over steps, on one device or several.

    Attributes:
        put: state -> the state on the devices; what it is given stays valid.
        run: (state, given, seen, batches) -> (state, metrics [S]); batches are host arrays [S, B]. The state it is
            given is donated.
        get: state -> the state as one host copy, whatever the number of devices.
        count: Number of devices; the batch's length must be a multiple of it.
    """

    put: Callable[[TrainState], TrainState]
    run: Callable[[TrainState, PyTree, sampling.Seen, dict[str, np.ndarray]], tuple[TrainState, Metrics]]
    get: Callable[[TrainState], TrainState]
    count: int


def parallel(
    make: Callable[[Devices], Step], *, num_devices: int = 1, draw: sampling.Draw = sampling.negatives
) -> Trainer:
    """Builds the driver of a step: `jax.jit` on one device, `jax.pmap` over several, the same result up to rounding.

    Args:
        make: devices -> step, such as `lambda devices: make_step(objective, optimizer, devices=devices)`.
        num_devices: Of all processes together, when `jax.distributed` is initialised: then each process must call with
            the same batches, and takes its own part of them.
        draw: Draws the column `neg` of a batch: one negative for each example by default, N of them (neg [B, N]) by
            `functools.partial(sampling.negatives, num=N)`. The column `step` is added too, the steps taken
            before.

    Raises:
        InputError: If there are fewer devices.
    """
    if not 1 <= num_devices <= jax.device_count():
        raise InputError(f"Expected devices between 1 and {jax.device_count()}, got {num_devices}.")
    if num_devices == 1:
        steps = jax.jit(functools.partial(scan, make(ALONE), draw, ALONE), donate_argnums=0)
        return Trainer(put=jax.jit(_copy), run=steps, get=jax.device_get, count=1)

    devices = Devices(
        reduce=lambda tree: jax.lax.psum(tree, "data"),
        gather=lambda x: jax.lax.all_gather(x, "data", tiled=True),
        index=lambda: jax.lax.axis_index("data"),
        count=num_devices,
    )

    here = [i for i, device in enumerate(jax.devices()[:num_devices]) if device.process_index == jax.process_index()]
    if not here:
        raise InputError(f"Expected devices of every process among {num_devices}, got none of this one's.")
    spread = jax.pmap(
        functools.partial(scan, make(devices), draw, devices),
        axis_name="data",
        in_axes=(0, None, None, 0),
        donate_argnums=0,
        devices=jax.devices()[:num_devices],
    )

    def run(state, given, seen, batches):
        def shard(x):  # [S, B] -> this process's [devices, S, B / count]
            if x.shape[1] % num_devices:
                raise ValueError(f"Expected a batch that {num_devices} devices divide, got {x.shape[1]} examples.")
            parts = x.reshape(x.shape[0], num_devices, -1, *x.shape[2:]).swapaxes(0, 1)
            return np.ascontiguousarray(parts[here])

        state, metrics = spread(state, given, seen, {name: shard(x) for name, x in batches.items()})
        return state, _first(metrics)

    def put(state):  # by way of the host: donating a replica must not delete the caller's buffer
        return map_data(lambda x: np.broadcast_to(np.asarray(x), (len(here), *x.shape)), state)

    return Trainer(put=put, run=run, get=lambda state: jax.device_get(_first(state)), count=num_devices)


def _first(tree: PyTree) -> PyTree:
    """The first replica that lies here of each array (indexing the whole would be a slow gather over devices)."""
    return map_data(lambda x: x.addressable_shards[0].data[0], tree)


def map_data(fn: Callable[..., Array | np.ndarray], *trees: PyTree) -> PyTree:
    """As `jax.tree.map`; a typed key goes in as its data, and comes out as a key."""

    def apply(*leaves):
        if not jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            return fn(*leaves)
        data = fn(*map(jax.random.key_data, leaves))
        return jax.random.wrap_key_data(jnp.asarray(data), impl=jax.random.key_impl(leaves[0]))

    return jax.tree.map(apply, *trees)


def scan(
    step: Step,
    draw: sampling.Draw,
    devices: Devices,
    state: TrainState,
    given: PyTree,
    seen: sampling.Seen,
    batches: dict[str, Array],
) -> tuple[TrainState, Metrics]:
    """Steps over batches [S, B]. A step's keys come from its number; all negatives are drawn before the scan.

    Each example has the number of its step, for objectives that change in time.
    """
    steps = state.step + jnp.arange(batches["users"].shape[0])
    keys = jax.vmap(lambda step: jax.random.split(jax.random.fold_in(state.key, step)))(steps)
    draw_of_step = lambda key, users: draw(key, users, seen, index=devices.index(), count=devices.count)
    neg = jax.vmap(draw_of_step)(keys[:, 0], batches["users"])

    def one(state, inputs):
        batch, key = inputs
        return step(state, given, batch, key)

    numbers = jnp.broadcast_to(steps[:, None], batches["users"].shape)
    return jax.lax.scan(one, state, ({**batches, "neg": neg, "step": numbers}, keys[:, 1]))
