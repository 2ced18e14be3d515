"""Dropout on embeddings: entries of the rows that a step reads are set to 0 at random, and the others made larger.

Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: A Simple Way to Prevent Neural Networks from
Overfitting", JMLR 2014.
"""

import jax

from jaxrec import checks, layers, perturbations
from jaxrec.types import Objective, Surface


def objective(*, clean: Objective, surface: Surface, rate: float = 0.2) -> Objective:
    """Builds the clean objective of parameters under dropout:

        L(params with x * mask / (1 - rate) in place of x),   each entry of mask 0 with chance `rate`, else 1

    It changes the loss of a step and nothing else: whoever scores, evaluates or attacks the model sees no dropout.

    Args:
        clean: The clean objective.
        surface: What is dropped, such as `surfaces.tables("user", "item")`; its expectation stays what it was.
        rate: Of entries that are dropped, in [0, 1). With 0 it is `clean`.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`, the metrics those of `clean` under dropout. A row has one
        mask in a step, whoever reads it. All devices draw the same masks; on the touched rows, whose order depends on
        the number of devices, they are others of the same law.

    Raises:
        ValueError: If `rate` is not in [0, 1).
    """
    checks.rates(rate=rate)

    def dropped(params, batch, key, reduce):
        drop_key, clean_key = jax.random.split(key)
        drop = lambda key, x: layers.dropout(key, x, rate)
        under = perturbations.map_with_keys(drop, drop_key, surface.get(params))
        return clean(surface.put(params, under), batch, clean_key, reduce)

    return dropped
