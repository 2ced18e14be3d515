"""R-CE: what a model finds unlikely counts less, be it a click by mistake or an item nobody has looked at.

Wang, Feng, He, Nie and Chua, "Denoising Implicit Feedback for Recommendation", WSDM 2021, arXiv:2006.04153.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, losses, objectives
from jaxrec.types import Array, Model, Objective, Scalar


def objective(*, model: Model, exponent: Scalar = 0.2) -> Objective:
    """Builds the binary cross-entropy weighted by the chance that the model gives to each label:

        chance^exponent * cross-entropy,   chance = sigmoid(score) of a positive, 1 - sigmoid(score) of a negative

    The weight is a constant to the gradient, as in the paper's code.

    Args:
        model: Whose scores are logits.
        exponent: The paper's beta. 0 is `objectives.listwise(model=model)`. May be traced.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `neg` [B] or [B, N], as
        `objectives.listwise`; the metric `loss` is weighted.

    Raises:
        ValueError: If `exponent` is negative or not finite.
    """
    checks.non_negative(exponent=exponent)

    def loss(scores: Array, relevant: Array) -> Array:
        each = losses.bce(scores[..., None], relevant[..., None])
        chances = jnp.exp(-exponent * jax.lax.stop_gradient(each))  # the cross-entropy is -log of the chance
        return jnp.sum(chances * each, axis=-1)

    return objectives.listwise(model=model, loss=loss)
