"""A controller of adversarial training: robust validation adjusts epsilon, its weight and the learning rate.

    decide = controller.decide(tolerance=0.05, epsilon_bounds=(0.1, 2.0))
    objective = controller.objective(make=lambda epsilon, adv_weight: apr.objective(...))
    controller.fit(trainer, state, data, start=controller.start(...), decide=decide, decisions=files.Log(...), ...)

A decision is a function of the state before it and of what validation said. Both come back from the training's log, so
a run that is killed and started again decides as one that was never stopped. Our own; the learning rate falls as in
Keras's ReduceLROnPlateau.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from jaxrec import checks, files, loop, train
from jaxrec.types import InputError, Interactions, Objective

CLEAN, ROBUST = "valid_ndcg", "valid_robust_ndcg"


class State(NamedTuple):
    """What is in force, and what the controller remembers.

    Attributes:
        epsilon, adv_weight, learning_rate: Of the steps until the next decision.
        best_clean, best_robust: The best scores seen.
        stale: Decisions since the robust score was last best, or since the learning rate was cut.
    """

    epsilon: float
    adv_weight: float
    learning_rate: float
    best_clean: float = 0.0
    best_robust: float = 0.0
    stale: int = 0


class Observation(NamedTuple):
    """Validation scores, larger is better: without an attack, and under one of a fixed epsilon."""

    clean: float
    robust: float


Decide = Callable[[State, Observation], tuple[State, str]]  # -> (what is in force from here on, why)


def decide(
    *,
    epsilon_bounds: tuple[float, float],
    adv_weight_bounds: tuple[float, float],
    min_learning_rate: float,
    tolerance: float = 0.05,
    factor: float = 1.25,
    patience: int = 3,
    cut: float = 0.5,
) -> Decide:
    """Builds the rule.

        clean >= (1 - tolerance) * best clean:   epsilon and adv_weight are multiplied by factor
        otherwise:                               they are divided by it
        no best robust score for `patience` decisions:   the learning rate is multiplied by cut

    all within their bounds.

    Args:
        epsilon_bounds, adv_weight_bounds: (lowest, highest); equal ones hold the value still.
        min_learning_rate: It falls no further.
        tolerance: Share of the best clean score that robustness may cost. A score of the clean model, if it is known,
            is `State.best_clean` at the start.
        factor: > 1.
        patience: Decisions without progress that the learning rate waits for.
        cut: In (0, 1).

    Returns:
        `(state, observation) -> (state, reason)`, a pure function of numbers on the host.

    Raises:
        ValueError: If bounds are not 0 < lowest <= highest, or another number lies outside its range.
    """
    for name, (low, high) in {"epsilon_bounds": epsilon_bounds, "adv_weight_bounds": adv_weight_bounds}.items():
        if not 0 < low <= high < float("inf"):
            raise ValueError(f"Expected {name} with 0 < lowest <= highest, got {name}={(low, high)}.")
    checks.positive(min_learning_rate=min_learning_rate)
    checks.counts(patience=patience)
    if not (0 <= tolerance < 1 and 1 < factor < float("inf") and 0 < cut < 1):
        raise ValueError(
            f"Expected tolerance in [0, 1), factor > 1 and cut in (0, 1), got {tolerance}, {factor} and {cut}."
        )

    def rule(state, seen):
        best_clean, best_robust = max(state.best_clean, seen.clean), max(state.best_robust, seen.robust)
        least = (1 - tolerance) * best_clean
        fits = seen.clean >= least
        times = factor if fits else 1 / factor
        stale = 0 if seen.robust > state.best_robust else state.stale + 1
        waited = stale >= patience
        rate = max(min(min_learning_rate, state.learning_rate), state.learning_rate * (cut if waited else 1))
        after = State(
            epsilon=_within(state.epsilon * times, epsilon_bounds),
            adv_weight=_within(state.adv_weight * times, adv_weight_bounds),
            learning_rate=rate,
            best_clean=best_clean,
            best_robust=best_robust,
            stale=0 if waited else stale,
        )
        at_bound = after[:2] == state[:2]
        why = f"clean score {seen.clean:.4g} {'at least' if fits else 'below'} {least:.4g}: epsilon and weight "
        why += "stay at their bounds" if at_bound else "rise" if fits else "fall"
        if waited:
            lowest = rate == state.learning_rate
            why += f"; no better robust score for {stale} decisions: learning rate " + (
                "is lowest" if lowest else "cut"
            )
        return after, why

    return rule


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def objective(*, make: Callable[..., Objective]) -> Objective:
    """Builds the objective whose hyperparameters stand in `params["given"]["control"]`, where `fit` puts them.

    Args:
        make: `epsilon`, `adv_weight`, traced -> the objective.
    """

    def controlled(params, batch, key, reduce):
        return make(**params["given"]["control"])(params, batch, key, reduce)

    return controlled


def fit(
    trainer: train.Trainer,
    state: train.TrainState,
    data: Interactions,
    *,
    start: State,
    decide: Decide,
    decisions: files.Log,
    decide_every: int,
    num_epochs: int,
    name: Mapping[str, Any],
    log: files.Log,
    log_start: int = 0,
    decisions_start: int = 0,
    clean: str = CLEAN,
    robust: str = ROBUST,
    given: Mapping[str, Any] | None = None,
    **others: Any,
) -> loop.Fitted:
    """Trains by `loop.fit`, a decision after each `decide_every` epochs but the last.

    With `patience` the look that ends the training is not decided upon. A block between decisions begins with a look at
    the newest checkpoint, which costs its reading.

    Args:
        trainer: Of a step on `objective(...)`, and of an optimiser by `optax.inject_hyperparams`, whose `learning_rate`
            is then the controller's.
        state, data, num_epochs, name, log, log_start: As in `loop.fit`.
        start: What the first block is trained with.
        decide: From `decide`.
        decisions: One line a decision: name, epoch, what was seen, what is in force from there on, and why. Written
            anew from the training's log when a run goes on.
        decide_every: Epochs.
        decisions_start: Length of `decisions` when this training began; what follows is dropped.
        clean, robust: Names of the values of `validate` that are observed.
        given: As in `loop.fit`; the entry "control" is added.
        others: The rest of `loop.fit`'s arguments, `validate` among them; not `validate_every`.

    Returns:
        As `loop.fit`.

    Raises:
        ValueError: If `decide_every < 1`, or the optimiser's state has no `learning_rate`.
        InputError: If the log has no line of a decision's epoch with both values.
    """
    checks.counts(decide_every=decide_every)
    if optax.tree_utils.tree_get(state.opt_state, "learning_rate") is None:
        raise ValueError("Expected an optimizer by optax.inject_hyperparams, with learning_rate, got another.")
    decisions.truncate(decisions_start)
    in_force = start
    for end in [*range(decide_every, num_epochs, decide_every), num_epochs]:
        control = {"epsilon": jnp.float32(in_force.epsilon), "adv_weight": jnp.float32(in_force.adv_weight)}
        fitted = loop.fit(
            _at_rate(trainer, in_force.learning_rate),
            state,
            data,
            name=name,
            num_epochs=end,
            log=log,
            log_start=log_start,
            given={**(given or {}), "control": control},
            validate_every=decide_every,
            **others,
        )
        if end == num_epochs:
            break
        line = _line(log.path, log_start, {**name, "epoch": end}, {clean, robust})
        if "stopped" in line:
            break
        seen = Observation(line[clean], line[robust])
        in_force, why = decide(in_force, seen)
        decisions.write({**name, "epoch": end, **seen._asdict(), **in_force._asdict(), "reason": why})
    return fitted


def _at_rate(trainer: train.Trainer, learning_rate: float) -> train.Trainer:
    """The trainer, whose states begin with this learning rate."""

    def put(state):
        rate = jnp.float32(learning_rate)
        opt_state = optax.tree_utils.tree_set(state.opt_state, learning_rate=rate)
        return trainer.put(dataclasses.replace(state, opt_state=opt_state))

    return trainer._replace(put=put)


def _line(log: pathlib.Path, log_start: int, place: Mapping[str, Any], scores: set[str]) -> dict[str, Any]:
    """The line with the scores at a place of the training that began at `log_start`."""
    for line in map(json.loads, log.read_bytes()[log_start:].splitlines()):
        if {**place}.items() <= line.items() and scores <= line.keys():
            return line
    raise InputError(f"Expected {' and '.join(sorted(scores))} after epoch {place['epoch']} in {log}, found none.")
