"""How robust is this recommender? One model between two sides: what no attack can do, and what attacks did.

    certified  <=  held-out oracle (item rows)  <=  ...  and the truth  <=  strongest attack  <=  noise  <=  clean

`look` measures a victim; `report` says what was found.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import adversaries, evaluate, gradient_masking, held_out, robustness, worst_of
from jaxrec.attacks import random_noise
from jaxrec.certificates import dot_product
from jaxrec.types import Attack, Interactions, Key, Model, Params, Split, Surface

NOISE = "noise"


class Victim(NamedTuple):
    """A trained model and what it is measured on.

    Attributes:
        factors: params -> the two tables whose dot products rank items; None for a model that has no such form, which
            then gets no certificate.
        users, items: Their names for people, by id.
    """

    model: Model
    params: Params
    split: Split
    surface: Surface
    factors: Callable[[Params], dot_product.Factors] | None
    users: Sequence[str]
    items: Sequence[str]


class Bounds(NamedTuple):
    """What is certain in one unit, each list with one entry for each epsilon.

    Attributes:
        epsilons: Those of the attacks and smaller ones: certificates give out long before attacks succeed.
        both: Certified ranks when user and item rows are perturbed.
        item: The same for item rows alone.
        held_out: Ranks under each user's own strongest perturbation of the item rows, which equals `item`.
        radius: float [n], each user's largest epsilon (both tables) at which the held-out item stays in the list.
    """

    epsilons: list[float]
    both: list[evaluate.Ranks]
    item: list[evaluate.Ranks]
    held_out: list[evaluate.Ranks]
    radius: np.ndarray


class Findings(NamedTuple):
    """All that was measured.

    Attributes:
        clean: Without a perturbation.
        attacked: {unit: {attack: a measurement for each epsilon}}.
        bounds: {unit: what is certain}; empty without certificates.
        epsilons: {unit: radii}, ascending.
        k: Length of the lists.
    """

    clean: robustness.Measurement
    attacked: Mapping[str, Mapping[str, list[robustness.Measurement]]]
    bounds: Mapping[str, Bounds]
    epsilons: Mapping[str, Sequence[float]]
    k: int


def look(
    victim: Victim,
    protocol: robustness.Protocol,
    attacks: Mapping[str, robustness.MakeAttack],
    epsilons: Mapping[str, Sequence[float]],
    *,
    key: Key,
    adversary: adversaries.Adversary = robustness.TRAINING_LOSS,
    report: Callable[[Any], None] = lambda measurement: None,
) -> Findings:
    """Measures a victim clean, under noise, under attacks, and certifies it.

    Args:
        protocol: From `robustness.protocol`.
        attacks: As in `robustness.measure`, without noise, which is put beside them: one draw for each attack, so that
            the control of `private` has as many candidates.
        epsilons: {unit: radii}.
        adversary: Whose loss the attacks raise.
        report: Called `num_measured` times.
    """
    noise = {noise_name(i): functools.partial(_noise, i) for i in range(len(attacks))}
    measured = robustness.measure(
        victim.model,
        victim.params,
        protocol,
        {**noise, **attacks},
        epsilons,
        surface=victim.surface,
        key=key,
        adversary=adversary,
        report=report,
    )
    attacked: dict[str, dict[str, list[robustness.Measurement]]] = {unit: {} for unit in epsilons}
    for measurement in measured[1:]:
        attacked[measurement.unit].setdefault(measurement.attack, []).append(measurement)
    bounds = {}
    if victim.factors is not None:
        for unit, radii in epsilons.items():
            smaller = [float(min(radii)) / 2**halvings for halvings in range(4, 0, -1)]
            bounds[unit] = _bounds(victim, protocol, unit, [*smaller, *radii])
            report(bounds[unit])
    return Findings(measured[0], attacked, bounds, epsilons, protocol.list_length)


def num_measured(num_attacks: int, epsilons: Mapping[str, Sequence[float]]) -> int:
    """How often `look` reports."""
    return 1 + 2 * num_attacks * sum(map(len, epsilons.values())) + len(epsilons)


def middle(epsilons: Mapping[str, Sequence[float]]) -> tuple[str, float]:
    """The unit and the epsilon at which details are told: relative if there are such, and the larger of two."""
    unit = "relative" if "relative" in epsilons else next(iter(epsilons))
    return unit, sorted(epsilons[unit])[len(epsilons[unit]) // 2]


def noise_name(draw: int) -> str:
    return NOISE if draw == 0 else f"{NOISE}, draw {draw + 1}"


def _noise(draw: int, epsilon: Any) -> Attack:
    noise = random_noise.attack(epsilon=epsilon)
    return lambda key, oracle, x: noise(jax.random.fold_in(key, draw), oracle, x)


def _bounds(victim: Victim, protocol: robustness.Protocol, unit: str, epsilons: list[float]) -> Bounds:
    assert victim.factors is not None
    params = victim.params
    if unit == "relative" and victim.model.canonical is not None:
        params = jax.jit(victim.model.canonical)(params)
    factors = victim.factors(params)
    budget = dot_product.Radii(1.0, 1.0) if unit == "absolute" else dot_product.relative(factors)
    budget = budget._replace(bias=0.0)  # the surface leaves them alone
    plan, certify = protocol.ranking, functools.partial(dot_product.certify, fall=dot_product.pairwise)
    own = held_out.ranks(factors, plan, budget.item * jnp.asarray(epsilons, jnp.float32))
    clean = evaluate.Ranks(np.asarray(plan.users), np.empty(0), np.asarray(plan.num_candidates), plan.num_left_out)
    return Bounds(
        epsilons=epsilons,
        both=certify(factors, plan, budget, epsilons),
        item=dot_product.certify(factors, plan, budget._replace(user=0.0), epsilons),
        held_out=[clean._replace(ranks=np.asarray(ranks, np.float64)) for ranks in own],
        radius=np.asarray(dot_product.radius(factors, plan, budget, protocol.list_length)),
    )


def rescaled(victim: Victim, key: Key) -> dict[str, Params]:
    """Parameters with the same scores, in other gauges of what the adversary perturbs: for `gradient_masking.inspect`.

    Empty for a model without a canonical gauge.
    """
    if victim.model.canonical is None:
        return {}
    embeddings = {**victim.params, "tables": victim.surface.get(victim.params)}
    return {
        name: victim.surface.put(victim.params, other["tables"])
        for name, other in gradient_masking.rescalings(embeddings, key).items()
    }


def strongest(findings: Findings, unit: str) -> list[robustness.Measurement]:
    """For each epsilon the attack that reached the highest loss, one perturbation shared by all users; never noise."""
    of_attacks = [found for name, found in findings.attacked[unit].items() if not name.startswith(NOISE)]
    return [max(at_epsilon, key=lambda measurement: measurement.loss) for at_epsilon in zip(*of_attacks, strict=True)]


def private(findings: Findings, unit: str, *, noise: bool = False) -> list[evaluate.Ranks]:
    """For each epsilon every user's worst rank over the attacks (or the draws of noise) and no attack."""
    chosen = [found for name, found in findings.attacked[unit].items() if name.startswith(NOISE) == noise]
    return [
        worst_of.per_user([findings.clean.ranks, *(measurement.ranks for measurement in at_epsilon)])
        for at_epsilon in zip(*chosen, strict=True)
    ]


def names_of(ids: np.ndarray | None, num: int, titles: Mapping[Any, str] | None = None) -> list[str]:
    """A name for each id of an `Interactions`: the title where there is one, else the id that the file has."""
    own = np.arange(num) if ids is None else ids
    return [str((titles or {}).get(id, id)) for id in own.tolist()]


def names(interactions: Interactions, titles: Mapping[Any, str] | None = None) -> dict[str, list[str]]:
    """`users` and `items` of a `Victim`."""
    return {
        "users": names_of(interactions.user_ids, interactions.num_users),
        "items": names_of(interactions.item_ids, interactions.num_items, titles),
    }
