"""Certified margin training: a loss of what is left of a margin when the dot-product certificate has taken its part.

The worst case of a linear constraint in place of an attack (Ben-Tal and Nemirovski, "Robust solutions of uncertain
linear programs", Operations Research Letters 1999), as Wong and Kolter, "Provable Defenses against Adversarial Examples
via the Convex Outer Adversarial Polytope", ICML 2018, arXiv:1711.00851, train networks on a bound instead of an attack.
"""

from collections.abc import Callable

import jax.numpy as jnp

from jaxrec import checks, losses, min_max, norms
from jaxrec.certificates import dot_product
from jaxrec.types import Array, Objective, Params, Scalar


def two_tables(params: Params) -> dot_product.Factors:
    """The factors of matrix factorisation, its tables "user" and "item"."""
    return dot_product.Factors(params["tables"]["user"], params["tables"]["item"])


def objective(
    *,
    clean: Objective,
    num_users: int,
    num_items: int,
    epsilon: Scalar,
    adv_weight: Scalar = 1.0,
    loss: Callable[[Array, Array], Array] = losses.bpr,
    fall: dot_product.Fall = dot_product.sufficient,
    factors: Callable[[Params], dot_product.Factors] = two_tables,
) -> Objective:
    """Builds the objective of the clean loss and the loss of the certified margin:

        L(params) + adv_weight * sum over examples of loss(pos - fall, neg),   fall at radii epsilon * mean row norms

    pos - fall - neg is the margin that no perturbation of the two tables within the radii gets below: with one negative
    it is the worst case of that pair, where an attack would find some case. It needs no attack, and one gradient.

    *From small starts a large epsilon does not train.* A margin and its fall both grow with the product of the tables'
    scales, so where the fall is the larger one, as it is in tables that know nothing yet, shrinking all rows lowers the
    loss, and if no direction learns faster than that it ends with tables of zeros: log 2 an example, nothing certified.
    Start from a trained model, or raise epsilon from 0 (`scheduled.schedule`).

    Args:
        clean: The clean objective.
        num_users, num_items: Of the data, U and I.
        epsilon: Share of each table's mean row norm (`dot_product.relative`), as at evaluation, but in the gauge in
            which the tables are trained. May be traced. The gradient goes through the radii too: they grow with the
            tables, so that long rows gain nothing against them. With constant ones each row would gain by growing.
        adv_weight: Of the certified loss. 0 leaves the clean gradient.
        loss: (pos [B, N], neg [B, N]) -> [B, N]: `losses.bpr`, or `losses.hinge`, which stops where the certified
            margin is 1.
        fall: `dot_product.sufficient`, or `dot_product.pairwise` (tighter, about ten times the work).
        factors: params -> factors; their item biases get a radius too.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches with `neg` [B] or [B, N]: sums over the examples
        whose `where` is true, means over their negatives. `adv_loss` is the certified loss, `adv_margin` the certified
        margin; they and the clean ones are the same at epsilon 0 where `clean` is `objectives.pairwise` with `loss`.
        The mean norms are those of whole tables, so steps must be dense (`reads=None`).

    Raises:
        ValueError: If `epsilon` or `adv_weight` is negative or not finite; when it is used, if the factors have other
            numbers of rows, as in a step on the touched rows.
    """
    checks.non_negative(epsilon=epsilon, adv_weight=adv_weight)

    def certified(params, batch, key, reduce):
        found = factors(params)
        if (len(found.user), len(found.item)) != (num_users, num_items):
            raise ValueError(
                f"Expected {num_users} users and {num_items} items, got {len(found.user)} and {len(found.item)}: "
                "certified margins need dense steps."
            )
        clean_loss, metrics = clean(params, batch, key, reduce)
        radii = dot_product.relative(found).at(epsilon)
        pos, neg, pairs = _pairs(found, batch)
        lower = pos - fall(pairs, radii) - 2 * radii.bias
        counted = lambda values: jnp.sum(jnp.where(batch["where"], jnp.mean(values, axis=1), 0))
        worst = {"loss": counted(loss(lower, neg)), "margin": counted(lower - neg)}
        return clean_loss + adv_weight * worst["loss"], {**metrics, **min_max.adversarial(worst["loss"], worst)}

    return certified


def _pairs(factors: dot_product.Factors, batch) -> tuple[Array, Array, dot_product.Pairs]:
    """Scores of positives and negatives, [B, N], and what the certificate knows of the pairs; rounding left out."""
    neg_ids = batch["neg"].reshape(len(batch["pos"]), -1)
    user, pos, neg = factors.user[batch["users"]], factors.item[batch["pos"]], factors.item[neg_ids]
    bias = jnp.zeros(len(factors.item)) if factors.item_bias is None else factors.item_bias
    bias_pos, bias_neg = bias[batch["pos"]][:, None], bias[neg_ids]
    size = lambda x: norms.L2.size(x.reshape(-1, x.shape[-1])).reshape(x.shape[:-1])
    apart = pos[:, None] - neg
    dot = jnp.sum(user[:, None] * apart, axis=-1)
    of_neg = jnp.sum(user[:, None] * neg, axis=-1) + bias_neg
    margin = dot + bias_pos - bias_neg
    pairs = dot_product.Pairs(
        margin=margin,
        dot=dot,
        user_norm=size(user)[:, None],
        distance=size(apart),
        item_norms=size(pos)[:, None] + size(neg),
        bias_sizes=jnp.abs(bias_pos) + jnp.abs(bias_neg),
        rounding=0.0,
    )
    return margin + of_neg, of_neg, pairs
