"""L2 and L1 penalties on the embeddings: the plainest regularisers, as controls of adversarial training.

    L(params) + sum over examples, and over the rows x that each reads, of  l2 / 2 * |x|^2 + l1 * |x|_1

The L2 of BPR (Rendle, Freudenthaler, Gantner and Schmidt-Thieme, UAI 2009, arXiv:1205.2618) and the L1 of the lasso
(Tibshirani, "Regression Shrinkage and Selection via the Lasso", JRSS B 1996), beside any clean objective.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from jaxrec import checks, rows
from jaxrec.types import Array, Objective, Scalar

OF_PAIRS = {"user": ("users",), "item": ("pos", "neg")}


def objective(*, clean: Objective, l2: Scalar = 0.0, l1: Scalar = 0.0, reads: rows.Reads = OF_PAIRS) -> Objective:
    """Builds the clean objective plus the penalties of what the batch touches.

    A row pays once for each time it is read, so that one the batch does not read has gradient zero, and steps on the
    touched rows are the dense ones. (A penalty on whole tables is `optax.add_decayed_weights`, in dense steps.)

    Args:
        clean: Any clean objective. Of `objectives.pairwise` with its own `l2` it is the same.
        l2: Times half the squared norm of each row. May be traced.
        l1: Times the sum of its absolute values, whose gradient at 0 is taken to be 0: entries come near to 0 and
            do not stay there, as in any subgradient step. May be traced.
        reads: {table: columns of the batch, [B] or [B, N], with its row ids}, as in `Model.reads`.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: the metrics of `clean`, whose `loss` is without the
        penalties, and the sum `penalty`, over the examples whose `where` is true.

    Raises:
        ValueError: If `l2` or `l1` is negative or not finite; when it is used, if there is no such table.
    """
    checks.non_negative(l2=l2, l1=l1)

    def penalised(params, batch, key, reduce):
        loss, metrics = clean(params, batch, key, reduce)
        tables: Mapping[str, Array] = params["tables"]
        if not {*reads} <= {*tables}:
            raise ValueError(f"Expected tables {sorted(reads)}, got {sorted(tables)}.")

        def of_column(name: str, column: str) -> Array:
            read = rows.read(tables[name], batch[column])
            sizes = rows.sums(l2 / 2 * jnp.square(read) + l1 * read * jnp.sign(read))  # the slope of abs at 0 is 1
            return jnp.sum(sizes.reshape(len(sizes), -1), axis=1)

        each = sum(of_column(name, column) for name, columns in reads.items() for column in columns)
        penalty = jnp.sum(jnp.where(batch["where"], each, 0))
        return loss + penalty, {**metrics, "penalty": penalty}

    return penalised
