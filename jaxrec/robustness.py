"""How a model ranks when its parameters are perturbed: clean, under noise of equal norm, and under attacks.

The adversary of this module knows the model and the training data, perturbs embedding tables (more than any real user
can), and raises a training loss (`adversaries`); it is judged by the full ranking of held-out items it has not seen.
One perturbation is shared by all users.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import adversaries, evaluate, metrics, norms, surfaces
from jaxrec.types import Array, Attack, Key, Model, Params, PyTree, Scalar, Split, Surface

Unit = Literal["absolute", "relative"]
MakeAttack = Callable[[Scalar], Attack]  # epsilon -> attack
TRAINING_LOSS = adversaries.sampled_bpr()
PROTOCOL = "full ranking of unseen items, ties against the model"  # of `protocol`, in words
WHITE_BOX = "white box: model, training pairs; spread-normalised BPR"  # the adversary of TRAINING_LOSS, in words


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one attack at one budget did to the ranking.

    Attributes:
        attack: Its name; "none" for the clean model.
        epsilon: Radius of the ball around each row.
        unit: "absolute", or "relative" to the mean row norm of each table in the canonical gauge.
        ranks: Of the held-out items, with their users.
        lists: Each user's K best unseen items, int [U, K].
        target_scores: Scores of the held-out items, with the users of `ranks`.
        achieved_norm: Largest norm of a row of the perturbation, in the same unit.
        loss: What the adversary ascends, after the attack.
        gradient_evaluations, queries: What the attack cost.
        oracle: What the adversary may ask, and which loss it raises, in words.
        mean_norms: {array of the surface: mean L2 norm of the rows of its perturbation}, in the same unit.
    """

    attack: str
    epsilon: float
    unit: Unit
    ranks: evaluate.Ranks
    lists: np.ndarray
    target_scores: np.ndarray
    achieved_norm: float
    loss: float
    gradient_evaluations: int
    queries: int
    oracle: str
    mean_norms: Mapping[str, float]


class Protocol(NamedTuple):
    """How a model is measured: what it ranks, how long its lists are, and what the adversary of it knows.

    Attributes:
        ranking: From `evaluate.prepare`.
        listing: From `evaluate.prepare_lists`.
        list_length: K of the lists.
        known: From `adversaries.prepare`.
    """

    ranking: evaluate.RankPlan
    listing: evaluate.ListPlan
    list_length: int
    known: adversaries.Known


def protocol(split: Split, key: Key, *, list_length: int = 10, valid: bool = False) -> Protocol:
    """Full ranking of the test items (or the validation items) of a split, ties against the model."""
    held_out, known = (split.valid, [split.train]) if valid else (split.test, [split.train, split.valid])
    return Protocol(
        ranking=evaluate.prepare(known, held_out),
        listing=evaluate.prepare_lists(known),
        list_length=min(list_length, held_out.num_items),
        known=adversaries.prepare(split.train, key),
    )


def measure(
    model: Model,
    params: Params,
    protocol: Protocol,
    attacks: Mapping[str, MakeAttack],
    epsilons: Mapping[str, Sequence[float]],
    *,
    surface: Surface,
    key: Key,
    adversary: adversaries.Adversary = TRAINING_LOSS,
    oracle: str = WHITE_BOX,
    report: Callable[[Measurement], None] = lambda measurement: None,
) -> list[Measurement]:
    """Ranks the held-out items clean, then under each attack at each epsilon.

    Args:
        attacks: {name: epsilon -> attack}; each is compiled once, for all epsilons.
        epsilons: {unit: radii}. Relative radii are applied in the model's canonical gauge, where it has one.
        surface: What is perturbed.
        adversary: Whose loss the attacks raise; that of `adversaries.sampled_bpr` by default.
        oracle: The same in words, for the records.
        report: Called with each measurement as it is made.

    Returns:
        The clean measurement, then one for each unit, attack and epsilon. Every attack at every epsilon starts from
        the same key, so curves differ by the radius alone.

    Raises:
        ValueError: If a unit is neither "absolute" nor "relative".
    """
    unknown = [unit for unit in epsilons if unit not in get_args(Unit)]
    if unknown:
        raise ValueError(f'Expected epsilons in the units "absolute" and "relative", got {unknown[0]!r}.')
    found = []

    def add(params, **fields):
        ranks = evaluate.evaluate(model, params, protocol.ranking)
        lists = np.asarray(evaluate.lists(model, params, protocol.listing, protocol.list_length))
        scores = np.asarray(_target_scores(model, params, protocol.ranking))
        found.append(Measurement(ranks=ranks, lists=lists, target_scores=scores, oracle=oracle, **fields))
        report(found[-1])

    nothing = {"achieved_norm": 0.0, "loss": float("nan"), "gradient_evaluations": 0, "queries": 0, "mean_norms": {}}
    add(params, attack="none", epsilon=0.0, unit="absolute", **nothing)
    compiled = {name: _compiled(model, surface, make, adversary) for name, make in attacks.items()}
    for unit, radii in epsilons.items():
        victim, scales = in_unit(model, surface, unit, params)
        for name, attack in compiled.items():
            for epsilon in radii:
                perturbed, info = attack(key, victim, scales, protocol.known, jnp.float32(epsilon))
                info = jax.device_get(info)
                add(
                    perturbed,
                    attack=name,
                    epsilon=epsilon,
                    unit=unit,
                    achieved_norm=float(np.max(np.concatenate(jax.tree.leaves(info["norms"])))),
                    loss=float(info["losses"][0]),
                    gradient_evaluations=int(info["gradient_evaluations"]),
                    queries=int(info["queries"]),
                    mean_norms=_by_name(info["mean_norms"]),
                )
    return found


def validation(
    model: Model,
    split: Split,
    attack: MakeAttack,
    *,
    epsilon: float,
    surface: Surface,
    key: Key,
    k: int = 10,
    adversary: adversaries.Adversary = TRAINING_LOSS,
) -> Callable[[Params], dict[str, float]]:
    """Builds what `loop.fit` may ask: NDCG@k of the validation items, clean and under one attack.

    Args:
        attack: epsilon -> attack, such as `lambda epsilon: fgsm.attack(epsilon=epsilon)`.
        epsilon: In relative units, so that models whose norms differ are asked the same.
        key: Of the attack and of the adversary's negatives; the same at every call, so that the scores of two epochs
            differ by the model alone.
        k: Cutoff, at most the number of items.

    Returns:
        params -> {"valid_ndcg", "valid_robust_ndcg"}.
    """
    known_key, attack_key = jax.random.split(key)
    plan, known = evaluate.prepare([split.train], split.valid), adversaries.prepare(split.train, known_key)
    perturb, k = _compiled(model, surface, attack, adversary), min(k, split.train.num_items)

    def validate(params):
        attacked, _ = perturb(attack_key, *in_unit(model, surface, "relative", params), known, jnp.float32(epsilon))
        ndcg = lambda at: float(metrics.ndcg(evaluate.evaluate(model, at, plan).ranks, k, split.train.num_items).mean())
        return {"valid_ndcg": ndcg(params), "valid_robust_ndcg": ndcg(attacked)}

    return validate


@functools.partial(jax.jit, static_argnums=0)
def _target_scores(model: Model, params: Params, plan: evaluate.RankPlan) -> Array:
    return model.score(params, plan.users, plan.targets.reshape(-1)[plan.chunks.places])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def in_unit(model: Model, surface: Surface, unit: Unit, params: Params) -> tuple[Params, PyTree]:
    """The parameters in the gauge that a unit is applied in, and the length of one unit for each array of `surface`."""
    if unit == "relative" and model.canonical is not None:
        params = model.canonical(params)
    scales = surfaces.row_scales(surface.get(params))
    return params, scales if unit == "relative" else jax.tree.map(jnp.ones_like, scales)


def _by_name(tree: PyTree) -> dict[str, float]:
    """{path of a leaf, as "user": its value}."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(x) for path, x in jax.tree.leaves_with_path(tree)
    }


@functools.lru_cache(maxsize=32)
def _compiled(
    model: Model, surface: Surface, make: MakeAttack, adversary: adversaries.Adversary
) -> Callable[..., tuple[Params, PyTree]]:
    """(key, params, scales, known, epsilon) -> (perturbed params, info), compiled once for all epsilons and units."""

    @jax.jit
    def perturb(key, params, scales, known, epsilon):
        units = surfaces.scaled(surface, scales)
        x = units.get(params)
        delta, info = make(epsilon)(key, adversary(model, params, units, known), x)
        mean_norms = jax.tree.map(lambda delta: jnp.mean(norms.L2.size(delta)), delta)
        return units.put(params, jax.tree.map(jnp.add, x, delta)), {**info, "mean_norms": mean_norms}

    return perturb
