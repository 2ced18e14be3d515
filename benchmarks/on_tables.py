"""Attacks on embedding tables that all pairs share, jaxrec's and PyTorch's: each row moves in a ball of its own.

One loss, BPR's summed over the batch, stands for whole tables, so pairs that share a user share that user's
perturbation: the form that APR is about.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import timing
from jaxrec import objectives, oracles, rows, surfaces, train
from jaxrec.attacks import fgsm, pgd
from jaxrec.defences import apr
from jaxrec.models import mf
from jaxrec.types import Array, Attack, Model, Objective, Params, PyTree, Scalar

if TYPE_CHECKING:
    import torch

EPSILON = 0.5
BOTH = surfaces.tables("user", "item")
PASSES = 8  # over the rows of each pair in a gradient step: see `moved`


class Work(NamedTuple):
    """Two tables [rows, D] and the columns users, pos, neg of a batch [B], on the host."""

    tables: list[np.ndarray]
    batch: tuple[np.ndarray, ...]

    def model(self) -> Model:
        """The model that the tables are of."""
        user, item = self.tables
        return mf.model(num_users=len(user), num_items=len(item), dimension=user.shape[1])

    def on_device(self) -> tuple[Params, dict[str, Array]]:
        """Params and batch as jaxrec takes them."""
        params = {"tables": dict(zip(("user", "item"), self.tables, strict=True)), "weights": {}, "given": {}}
        columns = dict(zip(("users", "pos", "neg"), self.batch, strict=True))
        return jax.device_put((params, columns | {"where": np.ones(len(self.batch[0]), bool)}))


def moved(work: Work, num_steps: int) -> int:
    """The least bytes of `num_steps` gradient steps on the rows of a batch, three a pair.

    For each pair and row in it: the row is read from x + delta (1), its part of the gradient is added (2: read and
    write), the gradient is read, delta read and written, x read and x + delta written (5). Rows that repeat in a batch
    are counted each time.
    """
    return PASSES * 3 * len(work.batch[0]) * work.tables[0].shape[1] * 4 * num_steps


def perturbed(attack: Attack, loss: Objective, params: Params, batch: Mapping[str, Array]) -> PyTree:
    """The tables after an attack on the loss of a batch."""
    key, x = jax.random.key(0), BOTH.get(params)
    oracle = oracles.white_box(lambda key, x: loss(BOTH.put(params, x), batch, key, lambda tree: tree)[0][None])
    delta, _ = attack(key, oracle, x)
    return jax.tree.map(jnp.add, x, delta)


def on_touched_rows(model: Model, attack: Attack, params: Params, batch: Mapping[str, Array]) -> PyTree:
    """`perturbed` with `rows.compact`: on the rows that the batch reads, which are then written back."""
    full = BOTH.get(params)
    plan, local = rows.compact(full, batch, model.reads or {}, lambda ids: ids)
    names = sorted(full)  # a tree's leaves are in the order of its keys
    small = BOTH.put(params, rows.take(full, names, plan))
    return rows.write_back(full, perturbed(attack, objectives.pairwise(model=model), small, local), names, plan)


def jaxrec_contestants(work: Work, *, num_steps: int, piece_size: int) -> list[timing.Contestant]:
    """`pgd.attack`: with its gradient summed in pieces, and on the rows that the batch touches."""
    model, attack = work.model(), pgd.attack(epsilon=EPSILON, num_steps=num_steps)
    params, batch = work.on_device()
    pieces = rows.in_pieces(lambda model: objectives.pairwise(model=model), model, size=piece_size)

    def contestant(setting: str, perturb: Callable[[Params, dict[str, Array]], PyTree]) -> timing.Contestant:
        compiled = jax.jit(perturb)
        run = lambda: jax.block_until_ready(compiled(params, batch))
        amount = len(work.batch[0]) * num_steps
        return timing.Contestant("jaxrec", setting, run, amount, amount, moved(work, num_steps))

    return [
        contestant(f"pieces of {piece_size}", functools.partial(perturbed, attack, pieces)),
        contestant("touched rows", functools.partial(on_touched_rows, model, attack)),
    ]


def torch_contestants(
    work: Work, *, epsilons: tuple[float, ...] = (EPSILON,), num_steps: int, threads: tuple[int, ...]
) -> list[timing.Contestant]:
    """`torch_mf.pgd` at each epsilon in turn, with dense and with sparse gradients, on each number of threads."""
    import torch

    from benchmarks import torch_mf

    users, pos, neg = (torch.from_numpy(column).long() for column in work.batch)
    start: list[torch.Tensor] = [torch.from_numpy(table) for table in work.tables]

    def contestant(sparse: bool, num_threads: int) -> timing.Contestant:
        def run() -> None:
            torch.set_num_threads(num_threads)
            for epsilon in epsilons:
                step_size = 2.5 * epsilon / num_steps  # jaxrec's default
                limits = {"epsilon": epsilon, "step_size": step_size, "num_steps": num_steps}
                torch_mf.pgd(start, (users, pos, neg), **limits, sparse=sparse)

        setting = f"{'sparse' if sparse else 'dense'} gradients, {timing.threads(num_threads)}"
        amount = len(users) * num_steps * len(epsilons)
        return timing.Contestant("torch", setting, run, amount, amount, moved(work, num_steps * len(epsilons)))

    return [contestant(sparse, num_threads) for sparse in (False, True) for num_threads in threads]


def epsilon_contestants(work: Work, *, epsilons: tuple[float, ...], num_steps: int) -> list[timing.Contestant]:
    """PGD on the touched rows at several epsilons, which are traced: one batched program, a loop on the device, and a
    loop over calls of one compiled program."""
    model = work.model()
    params, batch = work.on_device()
    radii = jnp.asarray(epsilons)

    def at(epsilon: Scalar, params: Params, batch: dict[str, Array]) -> PyTree:
        return on_touched_rows(model, pgd.attack(epsilon=epsilon, num_steps=num_steps), params, batch)

    batched = jax.jit(jax.vmap(at, (0, None, None)))
    looped = jax.jit(lambda radii, params, batch: jax.lax.map(lambda radius: at(radius, params, batch), radii))
    once = jax.jit(at)

    def contestant(library: str, setting: str, run: Callable[[], Any]) -> timing.Contestant:
        amount = len(work.batch[0]) * num_steps * len(epsilons)
        num_bytes = moved(work, num_steps * len(epsilons))
        return timing.Contestant(library, setting, lambda: jax.block_until_ready(run()), amount, amount, num_bytes)

    return [
        contestant("jaxrec vmap", "one batched program", lambda: batched(radii, params, batch)),
        contestant("jaxrec loop", "on the device", lambda: looped(radii, params, batch)),
        contestant("jaxrec loop", "over calls", lambda: [once(radius, params, batch) for radius in radii]),
    ]


def size_contestant(
    kind: str, num_rows: int, *, dimension: int, batch_size: int, num_batches: int, num_steps: int, seed: int
) -> timing.Contestant:
    """Steps of a kind on two tables of `num_rows`, over batches of random rows, a run a scan of `num_batches`.

    The tables are donated, and what a step changed is written back where it lies, so no table is copied.

    Args:
        kind: "PGD" of `num_steps` or "FGSM" on the touched rows, its compaction included; "APR", a training step by
            Adagrad with FGSM inside.
    """
    rng = np.random.default_rng(seed)
    draw = lambda: rng.integers(num_rows, size=(num_batches, batch_size)).astype(np.int32)
    batches = {**{name: draw() for name in ("users", "pos", "neg")}, "where": np.ones((num_batches, batch_size), bool)}
    table = lambda: rng.standard_normal((num_rows, dimension), np.float32) / 10
    params = {"tables": {"user": table(), "item": table()}, "weights": {}, "given": {}}
    step, state = _steps(kind, mf.model(num_users=num_rows, num_items=num_rows, dimension=dimension), params, num_steps)
    batches = jax.device_put(batches)
    scan = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches)[0], donate_argnums=0)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(scan(state, batches))

    amount = num_batches * batch_size * (num_steps if kind == "PGD" else 1)
    return timing.Contestant(f"{num_rows:,} rows", "tables donated", run, amount)


def _steps(kind: str, model: Model, params: Params, num_steps: int) -> tuple[Callable[[Any, Any], Any], PyTree]:
    """(state, batch) -> (state, nothing), and the state it starts from, of which no table is kept elsewhere."""
    if kind == "APR":
        optimizer = optax.adagrad(0.05, initial_accumulator_value=0.1)
        against = fgsm.attack(epsilon=EPSILON)
        objective = apr.objective(clean=objectives.pairwise(model=model), attack=against, surface=BOTH, adv_weight=1.0)
        take = train.make_step(objective, optimizer, reads=model.reads)
        state = train.init_state(params, optimizer, jax.random.key(0))
        return lambda state, batch: (take(state, {}, batch, jax.random.key(0))[0], None), state
    attack = fgsm.attack(epsilon=EPSILON) if kind == "FGSM" else pgd.attack(epsilon=EPSILON, num_steps=num_steps)
    attacked = lambda params, batch: BOTH.put(params, on_touched_rows(model, attack, params, batch))
    return lambda params, batch: (attacked(params, batch), None), jax.tree.map(jnp.array, params)
