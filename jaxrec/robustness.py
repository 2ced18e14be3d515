"""How a model ranks when its parameters are perturbed: clean, under noise of equal norm, and under attacks.

The adversary of this module knows the model and the training data, perturbs embedding tables (more than any real user
can), and raises a training loss; it is judged by the full ranking of held-out items it has not seen. One perturbation
is shared by all users.

The loss it raises is BPR on every training pair with one unseen item each, margins divided by their spread. On a
trained model raw BPR saturates: at ten times the scale most of its float32 gradients are exactly zero, and a model
would look robust for having grown. Divided by the spread, the loss stays when all scores are multiplied by a number.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import evaluate, losses, objectives, oracles, rows, sampling, surfaces
from jaxrec.types import Array, Attack, Interactions, Key, Model, Oracle, Params, PyTree, Scalar, Split, Surface

Unit = Literal["absolute", "relative"]
MakeAttack = Callable[[Scalar], Attack]  # epsilon -> attack


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one attack at one budget did to the ranking.

    Attributes:
        attack: Its name; "none" for the clean model.
        epsilon: Radius of the ball around each row.
        unit: "absolute", or "relative" to the mean row norm of each table in the canonical gauge.
        ranks: Of the held-out items, with their users.
        lists: Each user's K best unseen items, int [U, K].
        achieved_norm: Largest norm of a row of the perturbation, in the same unit.
        loss: What the adversary ascends, a mean over its training pairs, after the attack.
        gradient_evaluations, queries: What the attack cost.
    """

    attack: str
    epsilon: float
    unit: Unit
    ranks: evaluate.Ranks
    lists: np.ndarray
    achieved_norm: float
    loss: float
    gradient_evaluations: int
    queries: int


def adversary_batch(train: Interactions, key: Key) -> dict[str, Array]:
    """Every training pair with one unseen item, for the loss that an adversary raises."""
    data = sampling.with_unseen_items(train)
    neg = jax.jit(sampling.negatives)(key, data.users, sampling.seen(train))
    return {
        "users": jnp.asarray(data.users),
        "pos": jnp.asarray(data.items),
        "neg": neg,
        "where": jnp.asarray(np.ones(len(data), bool)),
    }


def training_oracle(
    model: Model, params: Params, surface: Surface, batch: Mapping[str, Array], *, piece_size: int = 256
) -> Oracle:
    """The white-box adversary of this module's head, as an oracle over `surface.get(params)`.

    Args:
        batch: From `adversary_batch`.
        piece_size: Examples whose gradient is taken at a time, so that what lies between stays in the cache.

    Returns:
        An oracle with one loss, the sum over the batch of softplus(-(pos - neg) / spread), where the spread is the
        standard deviation of the margins at `params`.
    """
    items = jnp.stack([batch["pos"], batch["neg"]])
    pos, neg = jax.lax.map(lambda items: _scores(model, params, batch["users"], items, piece_size), items)
    spread = jnp.std(pos - neg)
    scale = 1 / jnp.where(spread > 0, spread, 1)
    make = lambda model: objectives.pairwise(model=model, loss=lambda pos, neg: losses.bpr(scale * pos, scale * neg))
    clean = make(model) if model.score_rows is None else rows.in_pieces(make, model, size=piece_size)

    def adversary_losses(key, x):
        return clean(surface.put(params, x), batch, key, lambda tree: tree)[0][None]

    return oracles.white_box(adversary_losses)


def _scores(model: Model, params: Params, users: Array, items: Array, size: int) -> Array:
    return jax.lax.map(lambda pair: model.score(params, *pair), (users, items), batch_size=size)


class Protocol(NamedTuple):
    """How a model is measured: what it ranks, how long its lists are, and what the adversary of it knows.

    Attributes:
        ranking: From `evaluate.prepare`.
        listing: From `evaluate.prepare_lists`.
        list_length: K of the lists.
        batch: From `adversary_batch`.
    """

    ranking: evaluate.RankPlan
    listing: evaluate.ListPlan
    list_length: int
    batch: Mapping[str, Array]


def protocol(split: Split, key: Key, *, list_length: int = 10, valid: bool = False) -> Protocol:
    """Full ranking of the test items (or the validation items) of a split, ties against the model."""
    held_out, known = (split.valid, [split.train]) if valid else (split.test, [split.train, split.valid])
    return Protocol(
        ranking=evaluate.prepare(known, held_out),
        listing=evaluate.prepare_lists(known),
        list_length=min(list_length, held_out.num_items),
        batch=adversary_batch(split.train, key),
    )


def measure(
    model: Model,
    params: Params,
    protocol: Protocol,
    attacks: Mapping[str, MakeAttack],
    epsilons: Mapping[Unit, Sequence[float]],
    *,
    surface: Surface,
    key: Key,
    report: Callable[[Measurement], None] = lambda measurement: None,
) -> list[Measurement]:
    """Ranks the held-out items clean, then under each attack at each epsilon.

    Args:
        attacks: {name: epsilon -> attack}; each is compiled once, for all epsilons.
        epsilons: {unit: radii}. Relative radii are applied in the model's canonical gauge, where it has one.
        surface: What is perturbed.
        report: Called with each measurement as it is made.

    Returns:
        The clean measurement, then one for each unit, attack and epsilon. Every attack at every epsilon starts from
        the same key, so curves differ by the radius alone.
    """
    found = []

    def add(params, **fields):
        ranks = evaluate.evaluate(model, params, protocol.ranking)
        lists = np.asarray(evaluate.lists(model, params, protocol.listing, protocol.list_length))
        found.append(Measurement(ranks=ranks, lists=lists, **fields))
        report(found[-1])

    nothing = {"achieved_norm": 0.0, "loss": float("nan"), "gradient_evaluations": 0, "queries": 0}
    add(params, attack="none", epsilon=0.0, unit="absolute", **nothing)
    compiled = {name: _compiled(model, surface, make) for name, make in attacks.items()}
    for unit, radii in epsilons.items():
        victim, scales = _victim(model, surface, unit, params)
        for name, attack in compiled.items():
            for epsilon in radii:
                perturbed, info = attack(key, victim, scales, protocol.batch, jnp.float32(epsilon))
                info = jax.device_get(info)
                add(
                    perturbed,
                    attack=name,
                    epsilon=epsilon,
                    unit=unit,
                    achieved_norm=float(np.max(np.concatenate(jax.tree.leaves(info["norms"])))),
                    loss=float(info["losses"][0]) / len(protocol.batch["where"]),
                    gradient_evaluations=int(info["gradient_evaluations"]),
                    queries=int(info["queries"]),
                )
    return found


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _victim(model: Model, surface: Surface, unit: Unit, params: Params) -> tuple[Params, PyTree]:
    """The parameters in the gauge that a unit is applied in, and the length of one unit for each array."""
    if unit == "relative" and model.canonical is not None:
        params = model.canonical(params)
    scales = surfaces.row_scales(surface.get(params))
    return params, scales if unit == "relative" else jax.tree.map(jnp.ones_like, scales)


def _compiled(model: Model, surface: Surface, make: MakeAttack) -> Callable[..., tuple[Params, PyTree]]:
    """(key, params, scales, batch, epsilon) -> (perturbed params, info), compiled once for all epsilons and units."""

    @jax.jit
    def perturb(key, params, scales, batch, epsilon):
        units = surfaces.scaled(surface, scales)
        x = units.get(params)
        delta, info = make(epsilon)(key, training_oracle(model, params, units, batch), x)
        return units.put(params, jax.tree.map(jnp.add, x, delta)), info

    return perturb
