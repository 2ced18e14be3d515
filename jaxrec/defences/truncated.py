"""T-CE: the positives with the largest loss are left out, as clicks that were no interest.

Wang, Feng, He, Nie and Chua, "Denoising Implicit Feedback for Recommendation", WSDM 2021, arXiv:2006.04153.
"""

import jax
import jax.core
import jax.numpy as jnp

from jaxrec import consistency, losses
from jaxrec.types import Array, Model, Objective, Reduce, Scalar


def objective(*, model: Model, drop_rate: Scalar = 0.2) -> Objective:
    """Builds the binary cross-entropy of positives and negatives without the positives it fits worst:

        0 for a positive among the floor(drop_rate * positives) with the largest loss, else its cross-entropy

    The paper lets the rate rise with the step, to min(alpha * step, largest rate), so that a model has learned what is
    easy before it is believed:

        scheduled.schedule(
            make=lambda drop_rate: truncated.objective(model=model, drop_rate=drop_rate),
            drop_rate=optax.linear_schedule(0.0, 0.2, transition_steps=30_000),
        )

    Args:
        model: Whose scores are logits.
        drop_rate: Share of the positives of the global batch, in [0, 1]. May be traced. The paper's code takes it of
            all pairs: with one negative beside a positive, half of what it is here.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `neg` [B] or [B, N], as
        `objectives.listwise(model=model)`, which it is with `drop_rate` 0: the sum over the examples whose `where` is
        true. The negatives of a positive that is left out stay. Of equal losses at the border all are kept. The metrics
        are sums: `loss`, `margin` (positive less mean negative, of all), `dropped` and `examples`.

    Raises:
        ValueError: If `drop_rate` is not in [0, 1].
    """
    if not isinstance(drop_rate, jax.core.Tracer) and not 0 <= drop_rate <= 1:
        raise ValueError(f"Expected drop_rate in [0, 1], got drop_rate={drop_rate}.")

    def truncated(params, batch, key, reduce):
        del key  # deterministic
        scores, _ = consistency.own_items(model, params, batch)
        pos, neg, where = scores[:, :1], scores[:, 1:], batch["where"]
        of_pos, of_neg = losses.bce(pos, jnp.ones_like(pos)), losses.bce(neg, jnp.zeros_like(neg))
        dropped = _largest(jax.lax.stop_gradient(of_pos), where, drop_rate, reduce)
        counted = lambda values: jnp.sum(jnp.where(where, values, 0))
        total = counted(jnp.where(dropped, 0, of_pos) + of_neg)
        margin = counted(pos[:, 0] - jnp.mean(neg, axis=1))
        return total, {"loss": total, "margin": margin, "dropped": jnp.sum(dropped), "examples": jnp.sum(where)}

    return truncated


def _largest(values: Array, where: Array, share: Scalar, reduce: Reduce) -> Array:
    """Which of float32 values >= 0, [B], are among the floor(share * number) largest that count, on all devices.

    The border is found by bisection on the bits, which order such numbers as the numbers themselves: 31 counts are all
    that devices exchange, and the outcome does not depend on how many there are.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    most = share * reduce(jnp.sum(where)) + 1e-3  # .7 * 10 is below 7 in float32

    def bisect(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        few = reduce(jnp.sum(where & (bits > middle))) <= most
        return jnp.where(few, low, jnp.minimum(middle + 1, high)), jnp.where(few, middle, high)

    _, border = jax.lax.fori_loop(0, 31, bisect, (jnp.int32(0), jnp.int32(2**31 - 1)))
    return where & (bits > border)
