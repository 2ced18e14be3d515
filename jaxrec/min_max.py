"""What training against a perturbation is made of: the clean gradient, taken once, and the loss at the worst point.

start = min_max.start(clean, surface, params, batch, key, reduce)
delta, _ = attack(key, start.oracle, start.x)
clean(min_max.moved(params, surface, delta), batch, key, reduce)
"""

from collections.abc import Callable, Mapping
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
        grad: This device's part of the loss's gradient by x.
        oracle: Of an adversary who raises the clean loss over x. What it is asked at x itself it knows: an attack that
            asks there, as FGSM does, costs no gradient of its own.
    """

    loss: Array
    metrics: Metrics
    x: PyTree
    grad: PyTree
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
    fixed = jax.lax.stop_gradient(params)
    of_model, x = trained(fixed), surface.get(fixed)

    def clean_at(of_model, x):
        return clean(surface.put({**fixed, **of_model}, x), batch, key, reduce)

    def losses(key, x):
        return clean(surface.put(fixed, x), batch, key, reduce)[0][None]

    (loss, metrics), (grad, grad_x) = jax.value_and_grad(clean_at, argnums=(0, 1), has_aux=True)(of_model, x)
    _, through_surface = jax.vjp(lambda of_model: surface.get({**params, **of_model}), of_model)
    grad = jax.tree.map(jnp.add, grad, through_surface(grad_x)[0])
    oracle = oracles.white_box(losses, reduce=reduce, known=(x, grad_x))
    return Start(with_gradient(loss, grad, trained(params)), metrics, x, grad_x, oracle)


def trained(params: Params) -> PyTree:
    """The part of the parameters that is differentiated, {"tables", "weights"}."""
    return {"tables": params["tables"], "weights": params["weights"]}


def moved(params: Params, surface: Surface, delta: PyTree) -> Params:
    """The parameters with delta added to what the surface gets; no gradient flows through delta."""
    return surface.put(params, jax.tree.map(jnp.add, surface.get(params), jax.lax.stop_gradient(delta)))


def nothing(surface: Surface) -> Callable[[Params], PyTree]:
    """Builds params -> the perturbation of nothing, as a state carries it before the first step:

    train.init_state(params, optimizer, key, carried=min_max.nothing(surface)(params))
    """
    return lambda params: jax.tree.map(jnp.zeros_like, surface.get(params))


def carried(params: Params, surface: Surface) -> PyTree:
    """The perturbation of `surface` that the state carries; a ValueError if it carries none of its shapes."""
    found, like = params.get("carried", {}), jax.eval_shape(surface.get, params)
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    if shapes(found) != shapes(like):
        raise ValueError(
            "Expected a state that carries a perturbation of the surface, such as "
            f"train.init_state(..., carried=min_max.nothing(surface)(params)), got shapes {shapes(found)}."
        )
    return found


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
