"""Attacks on each pair's own rows: jaxrec's and foolbox's, on the same numbers.

The input of a pair is its three rows side by side, user, positive and negative item: [B, 3 D]. Each input has a loss
and a ball of its own, whoever else reads the same row of a table: the form in which foolbox can attack at all. It is
not the shared perturbation of tables that APR is about (`on_tables`).
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from jaxrec import attacks, losses, norms, oracles, rows
from jaxrec.types import Array, Attack, Oracle

EPSILON = 0.5
BOX = (-1.0, 1.0)  # foolbox wants bounds, and C&W searches in their coordinates
PASSES = 3  # the least over the inputs for a gradient or a question: x and delta are read, delta is written


class Case(NamedTuple):
    """An attack to time: the name of its module, its norm where it has a choice, and its other hyperparameters but
    epsilon."""

    name: str
    norm: norms.Norm | None
    hyperparameters: dict[str, Any]

    def title(self) -> str:
        """Name and norm in words."""
        return self.name if self.norm is None else f"{self.name} {self.norm.name}"

    def build(self) -> Attack:
        """The attack; searches for the smallest perturbation keep their default, no limit."""
        build, parameters = _builder(self.name)
        limits = {"epsilon": EPSILON} if parameters["epsilon"].default is inspect.Parameter.empty else {}
        return build(**limits, **({} if self.norm is None else {"norm": self.norm}), **self.hyperparameters)


def cases(num_steps: int, num_queries: int) -> list[Case]:
    """Every attack in `jaxrec.attacks`, in L2 and, where it has a choice, in LINF; a new one with its defaults."""
    steps = {"num_steps": num_steps}
    known = {
        "apgd": steps,
        "bim": {**steps, "step_size": EPSILON / num_steps},
        "cw": {**steps, "num_searches": 3, "initial_weight": 0.1},
        "deepfool": steps,
        "jsma": {"theta": 0.5, "gamma": 0.1},
        "mim": {**steps, "step_size": EPSILON / num_steps},
        "pgd": {**steps, "step_size": 2.5 * EPSILON / num_steps},
        "square": {"num_queries": num_queries},
    }
    names = sorted(module.name for module in pkgutil.iter_modules(attacks.__path__))
    choices = lambda name: (norms.L2, norms.LINF) if "norm" in _builder(name)[1] else (None,)
    return [Case(name, norm, known.get(name, {})) for name in names for norm in choices(name)]


def inputs(tables: list[np.ndarray], batch: tuple[np.ndarray, ...]) -> np.ndarray:
    """[B, 3 D]: the rows of each pair; its items change places where the negative one scores higher.

    So all pairs are in the order that a trained model gives them, and no attack is done before it starts.
    """
    users, pos, neg = batch
    user, pos, neg = tables[0][users], tables[1][pos], tables[1][neg]
    wrong = np.sum(user * (pos - neg), axis=1, keepdims=True) < 0
    return np.concatenate([user, np.where(wrong, neg, pos), np.where(wrong, pos, neg)], axis=1)


def oracle(num: int) -> Oracle:
    """BPR of each of `num` inputs, with the scores of its two items as classes: neg 0, pos 1."""

    def both(x: Array) -> tuple[Array, Array]:
        user, pos, neg = jnp.split(x, 3, axis=1)  # slices would be put together again by padding, at twice the time
        return rows.sums(user * pos), rows.sums(user * neg)

    return oracles.white_box(
        lambda key, x: losses.bpr(*both(x)),
        scores=lambda key, x: jnp.stack(both(x)[::-1], axis=1),
        labels=jnp.ones(num, jnp.int32),
        box=BOX,
    )


def contestants(
    case: Case, x: np.ndarray, *, foolbox: bool, threads: tuple[int, ...], piece_size: int | None = None
) -> list[timing.Contestant]:
    """jaxrec's attack, on all inputs at once and in pieces of `piece_size`; foolbox's, if it has it and is wanted.

    Gradients and bytes are counted for jaxrec, and foolbox is credited with the same.
    """
    attack, key, on_device = case.build(), jax.random.key(0), jnp.asarray(x)

    def at_once(x: Array) -> tuple[Array, dict[str, Array]]:
        delta, info = attack(key, oracle(len(x)), x)
        return delta, {name: info[name] for name in ("gradient_evaluations", "queries")}

    def in_pieces(x: Array) -> Array:
        return jax.lax.map(lambda piece: at_once(piece)[0], x.reshape(-1, piece_size or 1, x.shape[1]))

    _, asked = jax.jit(at_once)(on_device)
    num_gradients, num_queries = (int(asked[name]) for name in ("gradient_evaluations", "queries"))
    moved = PASSES * x.nbytes * max(num_gradients, num_queries)

    def contestant(library: str, setting: str, run: Callable[[], object]) -> timing.Contestant:
        return timing.Contestant(library, setting, run, len(x), num_gradients * len(x), moved)

    def ours(setting: str, perturb: Callable[[Array], Any]) -> timing.Contestant:
        compiled = jax.jit(perturb)
        return contestant("jaxrec", setting, lambda: jax.block_until_ready(compiled(on_device)))

    found = [ours("batch at once", at_once)]
    if piece_size is not None and len(x) > piece_size and len(x) % piece_size == 0:
        found.append(ours(f"pieces of {piece_size}", in_pieces))
    theirs = rival(case) if foolbox else None
    if theirs is not None:
        found += [contestant("foolbox", timing.threads(num), _on_threads(theirs, x, num)) for num in threads]
    return found


def _builder(name: str) -> tuple[Callable[..., Attack], Any]:
    """What builds the attack of a module, and its parameters."""
    build = importlib.import_module(f"jaxrec.attacks.{name}").attack
    return build, inspect.signature(build).parameters


def rival(case: Case) -> Callable[[Any], Any] | None:
    """Foolbox's counterpart of a case: `foolbox_mf.attack`."""
    from benchmarks import foolbox_mf

    norm = None if case.norm is None else case.norm.name
    return foolbox_mf.attack(case.name, norm, epsilon=EPSILON, box=BOX, hyperparameters=case.hyperparameters)


def _on_threads(attack: Callable[[Any], Any], x: np.ndarray, num_threads: int) -> Callable[[], object]:
    """A run of an attack of PyTorch's on so many threads."""
    import torch

    start = torch.from_numpy(x)

    def run() -> object:
        torch.set_num_threads(num_threads)
        return attack(start)

    return run
