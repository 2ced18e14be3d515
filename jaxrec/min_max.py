"""What training against a perturbation is made of: the clean gradient, taken once, and the loss at the worst point.

start = min_max.start(clean, surface, params, batch, key, reduce)
delta, _ = attack(key, start.oracle, start.x)
clean(min_max.moved(params, surface, delta), batch, key, reduce)
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrec import oracles
from jaxrec.types import Array, Key, Metrics, Objective, Oracle, Params, PyTree, Reduce, Surface


class Start(NamedTuple):
    """The clean objective at a step's parameters, where an attack starts.

    Attributes:
        loss: []; its gradient in tables and weights is known, and not computed again.
        metrics: The clean objective's.
        x: What the surface gets, under stop-gradient.
        oracle: Of an adversary who raises the clean loss over x. What it is asked at x itself it knows: an attack that
            asks there, as FGSM does, costs no gradient of its own.
    """

    loss: Array
    metrics: Metrics
    x: PyTree
    oracle: Oracle


def start(
    clean: Objective, surface: Surface, params: Params, batch: Mapping[str, Array], key: Key, reduce: Reduce
) -> Start:
    """Takes the clean gradient once for two uses: the adversary climbs what the model descends.

    Args:
        clean: What the adversary raises and the model lowers.
        surface: What the adversary perturbs; it may measure in units that do not depend on what is trained.
        params, batch, key, reduce: The clean objective's.
    """
    of_model, x = jax.lax.stop_gradient((trained(params), surface.get(params)))

    def clean_at(of_model, x):
        return clean(surface.put({**params, **of_model}, x), batch, key, reduce)

    def losses(key, x):
        return clean(surface.put(params, x), batch, key, reduce)[0][None]

    (loss, metrics), (grad, grad_x) = jax.value_and_grad(clean_at, argnums=(0, 1), has_aux=True)(of_model, x)
    _, through_surface = jax.vjp(lambda of_model: surface.get({**params, **of_model}), of_model)
    grad = jax.tree.map(jnp.add, grad, through_surface(grad_x)[0])
    oracle = oracles.white_box(losses, reduce=reduce, known=(x, grad_x))
    return Start(with_gradient(loss, grad, trained(params)), metrics, x, oracle)


def trained(params: Params) -> PyTree:
    """The part of the parameters that is differentiated, {"tables", "weights"}."""
    return {"tables": params["tables"], "weights": params["weights"]}


def moved(params: Params, surface: Surface, delta: PyTree) -> Params:
    """The parameters with delta added to what the surface gets; no gradient flows through delta."""
    return surface.put(params, jax.tree.map(jnp.add, surface.get(params), jax.lax.stop_gradient(delta)))


def adversarial(loss: Array, metrics: Metrics) -> Metrics:
    """What a clean objective says at a perturbed point, under names of its own: `adv_loss`, and `adv_margin` if it has
    a margin.
    """
    return {"adv_loss": loss} | ({"adv_margin": metrics["margin"]} if "margin" in metrics else {})


@jax.custom_vjp
def with_gradient(value: Array, grad: PyTree, x: PyTree) -> Array:
    """`value`, whose gradient in x is known to be `grad`."""
    del grad, x
    return value


def _forward(value, grad, x):
    del x
    return value, grad


def _backward(grad, cotangent):
    return None, None, jax.tree.map(lambda g: cotangent * g, grad)


with_gradient.defvjp(_forward, _backward)
