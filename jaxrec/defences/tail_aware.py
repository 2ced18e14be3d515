"""Tail-aware adversarial training: APR whose adversary has a smaller budget on rows of the tail. Our own.

APR pushes every row that a batch reads by the same length, that of a hit as that of an item with five interactions, and
published lists of APR models hold fewer items of the tail than those of BPR. Here each row has a radius of its own.
"""

from collections.abc import Mapping

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from jaxrec import checks, surfaces
from jaxrec.defences import apr
from jaxrec.types import Array, Attack, Objective, Scalar, Surface


def objective(
    *,
    clean: Objective,
    attack: Attack,
    surface: Surface,
    scales: Mapping[str, Array | np.ndarray],
    adv_weight: Scalar = 1.0,
) -> Objective:
    """Builds the objective of APR with the radius epsilon * scales[table][row] for each row of a table.

    It is `apr.objective` on `surfaces.scaled`, and nothing else: any attack with a ball for each row has these radii.

    Args:
        clean, adv_weight: As in `apr.objective`.
        attack: With a ball for each row, such as `fgsm.attack(epsilon=...)`.
        surface: What it perturbs, `surfaces.tables(...)`.
        scales: {table: [rows]}, each positive, such as `{"item": tail_aware.scales(counts)}`. Tables that are not named
            keep the attack's epsilon. May be traced.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`, as `apr` does; with scales of 1 it is APR. A scale
        belongs to a row number of the whole table, so steps must be dense (`reads=None`).

    Raises:
        ValueError: If a scale is not positive and finite, or `adv_weight` is negative or not finite; when it is used,
            if a table is not of the surface or has another number of rows, as in a step on the touched rows.
    """
    checks.non_negative(adv_weight=adv_weight)
    for name, of_table in scales.items():
        if not isinstance(of_table, jax.core.Tracer) and not np.all(np.isfinite(of_table) & (np.asarray(of_table) > 0)):
            raise ValueError(f"Expected scales > 0 and finite, got others in the table {name}.")

    def tail_aware(params, batch, key, reduce):
        x = surface.get(params)
        if not {*scales} <= {*x}:
            raise ValueError(f"Expected scales of tables that are perturbed, {sorted(x)}, got {sorted(scales)}.")

        def units(name, x):
            if name not in scales:
                return jnp.ones((1,) * x.ndim, x.dtype)
            if len(scales[name]) != len(x):
                raise ValueError(
                    f"Expected {len(scales[name])} rows of the table {name}, as there are scales, got {len(x)}: "
                    "a radius for each row needs dense steps."
                )
            return jnp.expand_dims(jnp.asarray(scales[name], x.dtype), range(1, x.ndim))

        in_units = surfaces.scaled(surface, {name: units(name, array) for name, array in x.items()})
        robust = apr.objective(clean=clean, attack=attack, surface=in_units, adv_weight=adv_weight)
        return robust(params, batch, key, reduce)

    return tail_aware


def scales(counts: Num[np.ndarray, " I"], *, power: float = 0.5) -> Float[np.ndarray, " I"]:
    """A radius for each item that shrinks with its number of training interactions, relative to a typical one:

        min(1, ((1 + count) / (1 + typical)) ** power),   typical: the mean over interactions of their items' counts

    Args:
        counts: [I], interactions of each item, >= 0.
        power: 0 is APR; at 1 the radius is proportional to the count.

    Returns:
        float32 [I], in (0, 1]; items at least as popular as the typical interaction's keep the whole radius. Ones if
        there is no interaction.

    Raises:
        ValueError: If a count is negative or not finite, or `power` is negative or not finite.
    """
    checks.non_negative(power=power)
    counts = np.asarray(counts, np.float64)
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise ValueError("Expected counts >= 0 and finite, got others.")
    typical = np.sum(np.square(counts)) / max(np.sum(counts), 1)
    return np.clip(((1 + counts) / (1 + typical)) ** power, np.finfo(np.float32).tiny, 1).astype(np.float32)
