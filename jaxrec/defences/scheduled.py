"""Adversarial training whose hyperparameters, or whose objective, change with the step.

`optax` has the schedules: `constant_schedule`, `linear_schedule` (a ramp of epsilon from 0),
`piecewise_constant_schedule` (a curriculum), `join_schedules` (one after another). The curriculum of Cai, Liu and Song,
"Curriculum Adversarial Training", IJCAI 2018, arXiv:1805.04807, is the attack's number of steps: `switch`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import min_max
from jaxrec.types import Array, Metrics, Objective, Params

Schedule = Callable[[Any], Any]  # steps taken before -> the value, as in optax


def schedule(*, make: Callable[..., Objective], **schedules: Schedule) -> Objective:
    """Builds an objective whose hyperparameters are functions of the step.

        schedule(
            make=lambda epsilon: apr.objective(clean=clean, attack=fgsm.attack(epsilon=epsilon), surface=surface),
            epsilon=optax.linear_schedule(0.0, 0.5, transition_steps=1000),
        )

    Args:
        make: Hyperparameters, traced -> the objective; called when a step is traced. Sizes and numbers of steps cannot
            be traced: see `switch`.
        schedules: {hyperparameter: steps taken before -> its value}. Steps are those of `TrainState`, from 0 in each
            stage of a chain.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `step` (`train.parallel` adds it): those of
        `make` at the step's values. A value is not checked, as none that is traced is: a schedule must not go negative.

    Raises:
        ValueError: If there is no schedule.
    """
    if not schedules:
        raise ValueError("Expected at least one schedule, got none.")

    def scheduled(params, batch, key, reduce):
        step = batch["step"][0]
        values = {name: value(step) for name, value in schedules.items()}
        return make(**values)(params, batch, key, reduce)

    return scheduled


def switch(*, objectives: Sequence[Objective], boundaries: Sequence[int]) -> Objective:
    """Builds the objective that is one of several, by the step: objectives[i] from step boundaries[i - 1] on.

    With `[clean, robust]` it is a warm start, whose steps take no attack; with attacks of 1, 2, 4 steps a curriculum.

    Args:
        objectives: One after another; each has the metrics `loss` and `examples`.
        boundaries: The first step of each but the first, ascending.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `step`: those of the one objective whose
        turn it is, to be differentiated by tables and weights alone. The others are not computed (but are where the
        step is vmapped, as in `sweep.at_once`). Metrics that only the others have are those of a perturbation of
        nothing: `adv_loss` is `loss`, `adv_margin` is `margin`, and what has no such counterpart, such as a
        divergence, is 0.

    Raises:
        ValueError: If there is not one boundary between each two objectives, or they do not ascend from at least 1.
    """
    if len(boundaries) != len(objectives) - 1:
        raise ValueError(f"Expected a boundary between each two of {len(objectives)} objectives, got {boundaries}.")
    if any(later <= earlier for earlier, later in zip([0, *boundaries], boundaries, strict=False)):
        raise ValueError(f"Expected boundaries that ascend from at least 1, got {boundaries}.")

    def switched(params, batch, key, reduce):
        parts = [lambda params, each=each: _keeping(each(params, batch, key, reduce), params) for each in objectives]
        shapes = {}
        for part in parts:
            shapes |= jax.eval_shape(part, params)[1]
        trained = min_max.trained(params)

        def branch(part):
            at = lambda trained: _completed(part({**params, **trained}), shapes)
            return jax.value_and_grad(at, has_aux=True)

        # Differentiated from outside, each branch would fill what the others keep for their gradients with zeros.
        place = jnp.sum(batch["step"][0] >= jnp.asarray(np.array(boundaries, np.int32)))
        (loss, metrics), grad = jax.lax.switch(place, [branch(part) for part in parts], jax.lax.stop_gradient(trained))
        return min_max.with_gradient(loss, grad, trained), metrics

    return switched


def _keeping(result: tuple[Array, Metrics], params: Params) -> tuple[Array, Metrics]:
    """Loss and metrics; what the state carries stays as it is where the objective says nothing of it."""
    loss, metrics = result
    return loss, {"carried": params["carried"], **metrics} if params.get("carried") else metrics


def _completed(result: tuple[Array, Metrics], shapes: Mapping[str, Any]) -> tuple[Array, Metrics]:
    """Loss and metrics, with all the names of `shapes`; see `switch`."""
    loss, metrics = result

    def fill(name, like):
        if name == "carried":
            return metrics[name]
        value = metrics.get(name, metrics.get(name.removeprefix("adv_"), jnp.zeros(like.shape)))
        return jnp.asarray(value, like.dtype)

    return loss, {name: fill(name, like) for name, like in shapes.items()}
