"""Adversarial training that mounts its attack in some steps only, and in the others keeps what it found.

Perturbations are kept from epoch to epoch in Zheng, Zhang, Gu, Lee and Prakash, "Efficient Adversarial Training with
Transferable Adversarial Examples", CVPR 2020, arXiv:1912.11969; there an attack goes on from them, as `free` does here.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, min_max
from jaxrec.types import Attack, Objective, Scalar, Surface


def objective(
    *, clean: Objective, attack: Attack, surface: Surface, every: int = 10, fresh: int = 1, adv_weight: Scalar = 1.0
) -> Objective:
    """Builds the min-max objective of `apr` with a perturbation that is renewed in `fresh` steps of each `every`:

        L(params) + adv_weight * L(params + delta),   delta = attack(params) in steps with step % every < fresh

    In the others delta is what the state carries: `train.init_state(carried=min_max.nothing(surface)(params))`. They
    cost two gradients, as many as a step of APR with FGSM does: it is attacks of several steps that become cheaper.

    delta is carried for the whole surface, row by row. A row keeps the one it had when a step last attacked it, 0 if
    none has yet: with `every` steps of E epochs and `fresh` steps of one, all rows are renewed in every E-th epoch, and
    with `fresh=1` those of one batch in each `every` steps.

    Args:
        clean: The objective that the adversary raises and the model lowers.
        attack, surface: What finds delta, and what it perturbs. An attack from a random start moves rows that the batch
            does not read too, where steps are dense (Adam), and these then keep that start.
        every, fresh: In steps; `fresh=every` is APR.
        adv_weight: Of the perturbed loss. 0 leaves the clean gradient.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `step` (`train.parallel` adds it), metrics
        as in `apr` and `carried`, the delta of the step. A row for which the attack finds nothing keeps what it has.

    Raises:
        ValueError: Unless 1 <= fresh <= every, or if `adv_weight` is negative or not finite; when it is used, if the
            state carries no perturbation of the surface's shapes.
    """
    checks.counts(every=every, fresh=fresh)
    if fresh > every:
        raise ValueError(f"Expected fresh <= every, got fresh={fresh}, every={every}.")
    checks.non_negative(adv_weight=adv_weight)

    def periodic(params, batch, key, reduce):
        attack_key, clean_key, adv_key = jax.random.split(key, 3)
        kept = min_max.carried(params, surface)
        start = min_max.start(clean, surface, params, batch, clean_key, reduce)

        def renewed():
            delta, _ = attack(attack_key, start.oracle, start.x)
            found = lambda x: jnp.any(x != 0, axis=tuple(range(1, x.ndim)), keepdims=True)
            return jax.tree.map(lambda new, old: jnp.where(found(new), new, old), delta, kept)

        delta = jax.lax.cond(batch["step"][0] % every < fresh, renewed, lambda: kept)
        adv_loss, adv_metrics = clean(min_max.moved(params, surface, delta), batch, adv_key, reduce)
        metrics = {**start.metrics, **min_max.adversarial(adv_loss, adv_metrics), "carried": delta}
        return start.loss + adv_weight * adv_loss, metrics

    return periodic
