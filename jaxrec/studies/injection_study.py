"""How good, slow and large the gradients of surrogates are, and what attacks make of them in equal CPU time."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import fake_profiles, fake_rows, injection, poison_evaluation, provenance, records
from jaxrec.injection import Surrogate
from jaxrec.studies import study
from jaxrec.studies.poison_victims import Victim
from jaxrec.types import Array, Interactions, PyTree


class Setting(NamedTuple):
    """What is attacked.

    Attributes:
        known: The real users' interactions.
        held_out: One of each user.
        budget: What may be spent.
        step_size, temperature: As in `fake_rows.attack`.
        seed: Of the start.
        cutoff: Of what victims are judged by.
    """

    known: Interactions
    held_out: Interactions
    budget: fake_profiles.Budget
    step_size: float
    temperature: float
    seed: int
    cutoff: int = 50


class Walker(NamedTuple):
    """A surrogate's step, compiled.

    Attributes:
        step: (outer, hull, rows [M, I], start) -> as `fake_rows.step`.
        start: Of the first training.
        bytes: What a step needs beside its arguments and results, as the compiler reckons; 0 where it does not tell.
    """

    step: Callable[[injection.Outer, fake_rows.Hull, Array, PyTree], tuple[Array, PyTree, tuple[Array, Array]]]
    start: PyTree
    bytes: int


def walker(surrogate: Surrogate, setting: Setting, hull: fake_rows.Hull) -> Walker:
    """Compiles a step for any one target."""
    num_fakes = setting.budget.num_fakes
    data = surrogate.prepare(setting.known, num_fakes)
    start = surrogate.init(data, jax.random.key(setting.seed), num_fakes)
    outer = injection.promoting(injection.audience(setting.known, np.zeros(1, np.int32)), setting.temperature)
    rows = jnp.zeros((num_fakes, setting.known.num_items))
    compiled = fake_rows.step.lower(surrogate, data, outer, hull, setting.step_size, rows, start).compile()
    step = lambda outer, hull, rows, start: compiled(data, outer, hull, setting.step_size, rows, start)
    return Walker(step, start, int(getattr(compiled.memory_analysis(), "temp_size_in_bytes", 0)))


def at_target(setting: Setting, target: int) -> tuple[injection.Outer, fake_rows.Hull, Array]:
    """What promotes the target, the profiles that may be made, and rows to start from."""
    targets = np.array([target])
    known = fake_profiles.know(jax.random.key(setting.seed), setting.known, targets, setting.budget)
    hull = fake_rows.hull_of(known)
    rows = fake_rows.noise(jax.random.key(setting.seed), setting.budget.num_fakes, hull)
    outer = injection.promoting(injection.audience(setting.known, targets), setting.temperature)
    return outer, hull, rows


def walk(walker: Walker, setting: Setting, target: int, times: Sequence[float]) -> list[dict[str, Any]]:
    """Steps until the last of `times`, CPU seconds of this process, each step done only if it ends in time.

    Returns:
        For each time {"seconds", "steps", "loss", "fillers"}: the steps done by then, the outer loss of the surrogate
        before the last of them (none: None), and the fillers [M, n] of the rows rounded.
    """
    outer, hull, rows = at_target(setting, target)
    start, spent, found = walker.start, 0.0, []
    reached = {"steps": 0, "loss": None, "fillers": fake_rows.fillers(rows, hull)}
    while len(found) < len(times):
        began = time.process_time()
        rows, start, (loss, _) = jax.block_until_ready(walker.step(outer, hull, rows, start))
        spent += time.process_time() - began
        while len(found) < len(times) and spent > times[len(found)]:
            found.append({"seconds": times[len(found)], **reached, "fillers": reached["fillers"].tolist()})
        reached = {"steps": reached["steps"] + 1, "loss": float(loss), "fillers": fake_rows.fillers(rows, hull)}
    return found


def gradients(walkers: Mapping[str, Walker], setting: Setting, target: int) -> dict[str, dict[str, float]]:
    """{name: {"cosine": with the first walker's gradient, "seconds": of one step, "bytes"}}, at the rows that all start
    from, each on a surrogate trained from its start; the seconds are of a second step, CPU time of this process."""
    outer, hull, rows = at_target(setting, target)
    found, exact = {}, None
    for name, each in walkers.items():
        _, start, (_, gradient) = each.step(outer, hull, rows, each.start)
        own = np.where(np.asarray(hull.free)[None], np.asarray(gradient, np.float64), 0).ravel()
        exact = own if exact is None else exact
        cosine = float(own @ exact / (np.linalg.norm(own) * np.linalg.norm(exact)))
        began = time.process_time()
        jax.block_until_ready(each.step(outer, hull, rows, start))
        found[name] = {"cosine": cosine, "seconds": time.process_time() - began, "bytes": each.bytes}
    return found


def judged(setting: Setting, target: int, chosen: Sequence[Sequence[int]] | None, victim: Victim) -> dict[str, float]:
    """`poison_evaluation.figures` of a victim that is trained anew with the fillers [M, n]; without fakes if None."""
    targets = np.array([target])
    data = setting.known
    if chosen is not None:
        known = fake_profiles.know(jax.random.key(setting.seed), data, targets, setting.budget)
        fakes = fake_profiles.fakes(known, fake_profiles.all_rated(known, np.array(chosen), "highest"))
        data = fake_profiles.contaminate(data, fakes)
    model, params = victim(data, jax.random.key(setting.seed))
    bench = poison_evaluation.bench(setting.known, setting.held_out, targets)
    return poison_evaluation.figures(poison_evaluation.measure(model, params, bench), (setting.cutoff,))


def records_of(
    experiment: str, data: study.Data, setting: Setting, found: Sequence[Mapping[str, Any]]
) -> list[records.Record]:
    """Means over targets: of each gradient its cosine and cost, of each attack the victim's figures at its end."""
    rows, budget, metric = [], setting.budget, f"target_hit_rate@{setting.cutoff}"

    def add(attack, metric, values, k=None, gradient_evaluations=None):
        rows.append(
            records.Record(
                experiment=experiment,
                model="iALS",
                defence=None,
                dataset=data.title,
                split=data.split_title,
                protocol="all items unknown to the user, those who do not know the target; ties against the model",
                surface=attack and f"{budget.num_fakes} fake users of {budget.num_fillers} fillers and the target",
                attack=attack,
                oracle=attack and "knows the data, trains a surrogate",
                epsilon=None,
                epsilon_unit=None,
                gauge=None,
                achieved_norm=None,
                gradient_evaluations=gradient_evaluations,
                queries=None,
                metric=metric,
                k=k,
                value=float(np.mean(values)),
                interval=None,
                seeds=(setting.seed,),
                users=setting.known.num_users,
                step=None,
                chosen_by=None,
                training=f"{len(found)} targets, one at a time: {', '.join(str(one['target']) for one in found)}",
                device=provenance.device(),
                commit=provenance.commit(),
                fingerprint=data.fingerprint["sha256"],
            )
        )

    for group in sorted({one["group"] for one in found}):
        members = [one for one in found if one["group"] == group]
        add(None, f"target_hit_rate, {group}", [one["before"][metric] for one in members], setting.cutoff)
        for name in members[0]["walks"]:
            for measured in ("cosine", "seconds", "bytes"):
                add(name, f"gradient {measured}, {group}", [one["gradients"][name][measured] for one in members])
            for walks in zip(*(one["walks"][name] for one in members), strict=True):
                about = f"{name}, {walks[0]['seconds']:g} CPU s"
                values = [walk["after"][metric] for walk in walks]
                add(about, f"target_hit_rate, {group}", values, setting.cutoff, max(walk["steps"] for walk in walks))
    return rows
