"""Can a robustness number be trusted? Seven symptoms of attacks that fail rather than models that hold.

Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018, arXiv:1802.00420 (section
3.1); Carlini et al., "On Evaluating Adversarial Robustness", arXiv:1902.06705; Pintor et al., "Indicators of Attack
Failure", NeurIPS 2022, arXiv:2106.09947. The seventh is the recommender's own: factors may be rescaled without any
change of a score, and a fixed absolute epsilon then buys another amount of damage.

Each symptom is a pure function of what was measured; `inspect` measures for all of them. A tripped flag says that the
number is no evidence of robustness, not that the model is weak; a silent one proves nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec import adversaries, checks, evaluate, metrics, norms, perturbations, robustness
from jaxrec.attacks import pgd, random_noise
from jaxrec.norms import Norm
from jaxrec.types import Array, Attack, Key, Model, Params, PyTree, Surface

HUGE = 10.0  # epsilon, in mean row norms, that leaves nothing of a table
NUM_SCORED = 256  # users whose scores are compared between calls, and between gauges


class Flag(NamedTuple):
    """A reason to doubt a robustness number, looked for.

    Attributes:
        name: The symptom.
        tripped: Whether it was found; None where it could not be looked for.
        evidence: One sentence with the numbers.
    """

    name: str
    tripped: bool | None
    evidence: str


class Reached(NamedTuple):
    """Where an attack ended: the loss that it ascends, and a metric of the ranking (high: the model holds)."""

    loss: float
    metric: float


def random_outputs(first: PyTree, second: PyTree) -> Flag:
    """Trips when two calls with the same inputs, key included, differ in any bit: attack the expectation then.

    Args:
        first, second: Outputs of the two calls, trees of arrays of the same structure.
    """
    pairs = list(zip(map(np.asarray, jax.tree.leaves(first)), map(np.asarray, jax.tree.leaves(second)), strict=True))
    num_differing = sum(int((~np.isclose(a, b, rtol=0, atol=0, equal_nan=True)).sum()) for a, b in pairs)
    num = sum(a.size for a, _ in pairs)
    evidence = f"{num_differing} of {num} outputs differ between two calls with the same inputs."
    return Flag("random outputs", num_differing > 0, evidence)


def lost_gradients(
    grad: Mapping[str, Array | np.ndarray], taking_part: Mapping[str, np.ndarray], *, max_share: float = 0.01
) -> Flag:
    """Trips when an attack has nothing to follow: rows whose gradient of the ascended loss is zero or not finite.

    Args:
        grad: {table: [rows, ...]}.
        taking_part: {table: bool [rows]}, the rows that the loss depends on; the others are zero by right.
        max_share: Of a table's rows that take part, how many may be exactly zero; none may be other than finite.
    """
    tripped, parts = False, []
    for name, table in grad.items():
        rows = np.asarray(table)[taking_part[name]].reshape(int(np.sum(taking_part[name])), -1)
        num_zero = int((rows == 0).all(axis=1).sum())
        num_broken = int((~np.isfinite(rows)).any(axis=1).sum())
        tripped |= num_broken > 0 or num_zero > max_share * len(rows)
        shares = [f"{num} ({num / max(len(rows), 1):.1%})" for num in (num_zero, num_broken)]
        parts.append(f"of {len(rows)} rows of table {name} {shares[0]} are exactly zero, {shares[1]} not finite")
    return Flag("zero or non-finite gradients", tripped, f"Of the ascended loss's gradient, {'; '.join(parts)}.")


def black_box_wins(white_box: float, black_box: Mapping[str, float], *, tolerance: float = 1e-3) -> Flag:
    """Trips when an attack without the model's gradient raises the loss more than the best one with it.

    Args:
        white_box: The highest ascended loss that gradient attacks reached at one budget.
        black_box: {attack: ascended loss at that budget}: estimated gradients, search, transfer. None: not tested.
        tolerance: Share of the loss that counts as rounding.
    """
    name = "black box or transfer beats white box"
    if not black_box:
        return Flag(name, None, "Not tested: no black-box or transfer attack was given.")
    tripped = any(_lower(white_box, loss, tolerance) for loss in black_box.values())
    reached = ", ".join(f"{attack} {loss:.6g}" for attack, loss in black_box.items())
    return Flag(name, tripped, f"At the same budget the white box raises the loss to {white_box:.6g}; {reached}.")


def effort_backfires(losses: Mapping[str, Sequence[tuple[float, float]]], *, tolerance: float = 1e-3) -> Flag:
    """Trips when more steps, more restarts or a larger epsilon leave the ascended loss lower than less did.

    Args:
        losses: {kind of effort: (amount, ascended loss), the least effort first}.
        tolerance: Share of the loss that counts as rounding.
    """
    drops = []
    for kind, curve in losses.items():
        for place, (amount, loss) in enumerate(curve[1:], 1):
            less, best = max(curve[:place], key=lambda point: point[1])
            if _lower(loss, best, tolerance):
                drops.append(f"{best:.6g} with {kind} {less:g}, {loss:.6g} with {amount:g}")
    curves = (f"{kind} " + ", ".join(f"{n:g}: {loss:.6g}" for n, loss in curve) for kind, curve in losses.items())
    evidence = f"The loss is lower for more effort: {'; '.join(drops)}." if drops else f"Loss by {'; '.join(curves)}."
    return Flag("more effort, less loss", bool(drops), evidence)


def unbreakable(clean: float, attacked: float, chance: float, *, epsilon: str, metric: str = "the metric") -> Flag:
    """Trips when a huge epsilon leaves a metric above half its clean value and above that of a random ranking.

    Args:
        clean, attacked: The metric without an attack, and under one whose budget allows any tables at all.
        chance: Its expected value for a random ranking.
        epsilon: The budget in words.
    """
    evidence = f"{metric} is {attacked:.4f} at {epsilon}, {clean:.4f} clean, {chance:.4f} in a random ranking."
    return Flag("a huge epsilon does not break it", not attacked <= max(clean / 2, chance), evidence)


def noise_suffices(
    clean: Reached, noise: Reached, attacked: Reached, *, share: float = 0.5, metric: str = "the metric"
) -> Flag:
    """Trips when noise of the attack's norm does at least `share` of what the attack does, to the loss or the metric.

    It trips, too, when the attack does not raise the loss or does not lower the metric: nothing was attacked then.
    """
    rises = noise.loss - clean.loss, attacked.loss - clean.loss
    drops = clean.metric - noise.metric, clean.metric - attacked.metric
    tripped = any(not (by_attack > 0 and by_noise < share * by_attack) for by_noise, by_attack in (rises, drops))
    evidence = (
        f"Noise raises the loss by {rises[0]:.6g}, the attack by {rises[1]:.6g}; noise lowers {metric} by "
        f"{drops[0]:.4f}, the attack by {drops[1]:.4f} (doubtful from {share:.0%} on)."
    )
    return Flag("noise does as much as the attack", tripped, evidence)


def rescaling_moves(
    clean: Reached,
    attacked: Reached,
    rescaled: Mapping[str, Reached],
    *,
    budget: str,
    tolerance: float = 0.01,
    metric: str = "the metric",
) -> Flag:
    """Trips when the attacked number depends on how the same scores are written as a product of tables.

    A relative epsilon in the canonical gauge prevents it; a fixed absolute epsilon cannot.

    Args:
        clean, attacked: The model as it is.
        rescaled: {change: the attack at the same budget on tables that give the same scores}. None: not tested.
        budget: Epsilon, its unit and its gauge in words.
        tolerance: What may move: this share of the loss, and of the clean metric.
    """
    name = "a rescaling that keeps every score moves the number"
    if not rescaled:
        return Flag(name, None, "Not tested: no rescaling that preserves this model's scores is known.")
    limits = tolerance * abs(attacked.loss), tolerance * abs(clean.metric)
    tripped = any(
        not (abs(it.loss - attacked.loss) <= limits[0] and abs(it.metric - attacked.metric) <= limits[1])
        for it in rescaled.values()
    )
    say = lambda it: f"loss {it.loss:.6g} and {metric} {it.metric:.4f}"
    others = "; ".join(f"{say(it)} after {change}" for change, it in rescaled.items())
    return Flag(name, tripped, f"At {budget}, {say(attacked)} as trained; {others}.")


def rescalings(params: Params, key: Key) -> dict[str, Params]:
    """Other tables "user" and "item" with the same products P Q^T: 3P and Q/3, and P A and Q A^-T.

    A is random with singular values between 1/3 and 3, so that float32 scores stay what they were.
    """
    left_key, right_key, value_key = jax.random.split(key, 3)
    dimension = params["tables"]["user"].shape[1]
    left, right = (jax.random.orthogonal(key, dimension) for key in (left_key, right_key))
    values = 3.0 ** jax.random.uniform(value_key, (1, dimension), minval=-1, maxval=1)

    def mixed(user_mix, item_mix):
        tables = params["tables"]
        return {**params, "tables": {**tables, "user": user_mix(tables["user"]), "item": item_mix(tables["item"])}}

    return {
        "3P, Q/3": mixed(lambda user: 3 * user, lambda item: item / 3),
        "a random invertible matrix": mixed(lambda x: x @ left * values @ right, lambda x: x @ left / values @ right),
    }


def inspect(
    model: Model,
    params: Params,
    protocol: robustness.Protocol,
    *,
    surface: Surface,
    key: Key,
    epsilon: float,
    unit: robustness.Unit = "relative",
    adversary: adversaries.Adversary = robustness.TRAINING_LOSS,
    attack: Callable[..., Attack] = pgd.attack,
    norm: Norm = norms.L2,
    num_steps: int = 5,
    num_restarts: int = 3,
    black_box: Mapping[str, tuple[robustness.MakeAttack, adversaries.Adversary]] | None = None,
    rescaled: Mapping[str, Params] | None = None,
    k: int = 10,
) -> list[Flag]:
    """Looks for all seven symptoms in a model, at one budget, by NDCG@k.

    It costs `3 + num_steps * (9 + num_restarts + the number of rescalings)` gradients of the ascended loss, 73 by
    default, some 20 evaluations of that loss and 30 full rankings; and what the black-box attacks ask.

    Args:
        protocol: What is ranked, and what the adversary knows.
        surface: Tables, as `surfaces.tables` gives them. Of a table that `Model.reads` names, the rows in the training
            pairs of `protocol` ought to have a gradient; of others all rows. (An adversary that reads fewer, such as
            `targeted.rating` of some pairs, trips the second flag for nothing.)
        epsilon, unit: The budget in question; as in `robustness.measure`. "A huge epsilon" is 10 mean row norms,
            whatever the unit.
        adversary: Whose loss is ascended.
        attack: Built with `epsilon`, `norm`, `num_steps`, `random_start` and `num_restarts`, as `pgd.attack` is.
        black_box: {name: (epsilon -> attack, an adversary with the same losses and less access)}, as in
            `{"SPSA": (lambda epsilon: pgd.attack(epsilon=epsilon), lambda *at: oracles.spsa(adversary(*at)))}`.
        rescaled: {name: params with the same scores}; None for `rescalings` of a model with a canonical gauge, and for
            nothing of a model without.

    Returns:
        A flag for each of the seven, in the order of this module.

    Raises:
        ValueError: If `epsilon` is not positive and finite, `num_steps < 2`, `num_restarts < 3`, or a rescaling changes
            scores.
        InputError: If `k < 1` or `k > num_items`.
    """
    _check(epsilon, num_steps, num_restarts)
    plan, metric = protocol.ranking, f"NDCG@{k}"
    metrics.check_cutoff(k, plan.num_items)
    if rescaled is None:
        rescaled = {} if model.canonical is None else rescalings(params, key)
    outputs, grad = _ask(model, params, protocol, surface, adversary, key)
    randomness = random_outputs(*outputs)
    if not randomness.tripped:
        _check_same_scores(model, outputs[0][0], rescaled, plan.users[:NUM_SCORED])

    def measure(make, *epsilons, params=params, adversary=adversary, huge=()):
        """What an attack reaches at each epsilon of the unit, then at each relative one of `huge`."""
        radii = {unit: epsilons}
        radii["relative"] = (*radii.get("relative", ()), *huge)
        found = robustness.measure(
            model, params, protocol, {"": make}, radii, surface=surface, key=key, adversary=adversary
        )
        ndcg = lambda ranks: float(metrics.ndcg(ranks, k, plan.num_items).mean())
        return [Reached(it.loss, ndcg(it.ranks.ranks)) for it in found if it.attack != "none"]

    def ascent(num_steps, num_restarts=1, random_start=False):
        options = {"num_steps": num_steps, "num_restarts": num_restarts, "random_start": random_start}
        return lambda epsilon: attack(epsilon=epsilon, norm=norm, **options)

    clean, noise = measure(lambda epsilon: random_noise.attack(epsilon=epsilon, norm=norm), 0.0, epsilon)
    usual = ascent(num_steps)  # one object, so that it is compiled once
    half, attacked, twice = measure(usual, epsilon / 2, epsilon, 2 * epsilon)
    (one_step,) = measure(ascent(1), epsilon)
    more_steps, huge = measure(ascent(2 * num_steps), epsilon, huge=[HUGE])
    restarted = [(n, measure(ascent(num_steps, n, random_start=True), epsilon)[0].loss) for n in (2, num_restarts)]
    effort = {
        "steps": [(1, one_step.loss), (num_steps, attacked.loss), (2 * num_steps, more_steps.loss)],
        "restarts": restarted,
        "epsilon": [(0, clean.loss), (epsilon / 2, half.loss), (epsilon, attacked.loss), (2 * epsilon, twice.loss)],
    }
    white_box = max(loss for kind in ("steps", "restarts") for _, loss in effort[kind])
    searched = {
        name: measure(make, epsilon, adversary=blind)[0].loss for name, (make, blind) in (black_box or {}).items()
    }
    again = {name: measure(usual, epsilon, params=other)[0] for name, other in rescaled.items()}
    gauge = "canonical gauge" if unit == "relative" and model.canonical is not None else "gauge of training"
    return [
        randomness,
        lost_gradients(grad, _taking_part(model, protocol, grad)),
        black_box_wins(white_box, searched),
        effort_backfires(effort),
        unbreakable(clean.metric, huge.metric, _chance(plan, k), epsilon=f"relative epsilon {HUGE:g}", metric=metric),
        noise_suffices(clean, noise, attacked, metric=metric),
        rescaling_moves(clean, attacked, again, budget=f"{unit} epsilon {epsilon:g} in the {gauge}", metric=metric),
    ]


def _check(epsilon: float, num_steps: int, num_restarts: int) -> None:
    """Refuses a budget of nothing, and more effort that would be no more."""
    checks.positive(epsilon=epsilon)
    for name, count, least in (("num_steps", num_steps, 1), ("num_restarts", num_restarts, 2)):
        checks.counts(**{name: count})
        if count <= least:
            raise ValueError(f"Expected {name} > {least}, with which it is compared, got {name}={count}.")


def _ask(
    model: Model,
    params: Params,
    protocol: robustness.Protocol,
    surface: Surface,
    adversary: adversaries.Adversary,
    key: Key,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], dict[str, np.ndarray]]:
    """([(scores, losses), the same again], gradient of the losses), without an attack."""

    @jax.jit
    def ask(key, params, known, users):
        oracle = adversary(model, params, surface, known)
        perturbations.check_gradient(oracle)
        grad: Any = oracle.grad
        x = surface.get(params)
        return (model.score_all(params, users), oracle.losses(key, x)), grad(key, x)

    users = protocol.ranking.users[:NUM_SCORED]
    (first, grad), (second, _) = (jax.device_get(ask(key, params, protocol.known, users)) for _ in range(2))
    return [first, second], grad


def _check_same_scores(model: Model, scores: np.ndarray, rescaled: Mapping[str, Params], users: Array) -> None:
    """Refuses a rescaling after which the model is another one."""
    score = jax.jit(model.score_all)
    rounding = 1e-3 * np.max(np.abs(scores), where=np.isfinite(scores), initial=0)
    for name, other in rescaled.items():
        if not np.allclose(score(other, users), scores, rtol=0, atol=rounding, equal_nan=True):
            raise ValueError(f"Expected rescaled params with the same scores, got others after {name!r}.")


def _taking_part(
    model: Model, protocol: robustness.Protocol, tables: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """{table: bool [rows], those that the training pairs read}; all rows where the model does not say what it reads."""
    batch, reads = jax.device_get(protocol.known.batch), model.reads or {}
    taking_part = {name: np.full(len(table), name not in reads) for name, table in tables.items()}
    for name, rows in taking_part.items():
        for column in reads.get(name, ()):
            rows[batch[column][batch["where"]]] = True
    return taking_part


def _chance(plan: evaluate.RankPlan, k: int) -> float:
    """The expected NDCG@k of a random ranking, where every rank is as likely as any other."""
    gains = np.cumsum(metrics.ndcg(np.arange(1, k + 1), k, plan.num_items))
    num_candidates = np.asarray(plan.num_candidates)
    return float(np.mean(gains[np.minimum(num_candidates, k) - 1] / num_candidates))


def _lower(loss: float, than: float, tolerance: float) -> bool:
    """Whether a loss lies below another by more than rounding; so does one that is not a number."""
    return not loss >= than - tolerance * max(abs(loss), abs(than))
