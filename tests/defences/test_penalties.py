"""What is special to penalties: the formula, and that they are those that clean objectives have of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_defence as laws
import toys

from jaxrec import objectives
from jaxrec.defences import penalties

LISTED = toys.BATCH | {"neg": jnp.array([[3, 4], [1, 1], [2, 5], [0, 2], [2, 4], [4, 0]])}


def nothing(params, batch, key, reduce):
    return jnp.zeros(()), {"loss": jnp.zeros(()), "examples": jnp.sum(batch["where"])}


@pytest.mark.parametrize("batch", [toys.BATCH, LISTED], ids=["one negative", "two negatives"])
def test_each_example_pays_for_every_row_that_it_reads(batch):
    tables = {name: np.asarray(table, float) for name, table in toys.params()["tables"].items()}
    expected = 0.0
    for user, pos, neg in zip(*(np.asarray(batch[name])[:5] for name in ("users", "pos", "neg")), strict=True):
        for row in [tables["user"][user], *(tables["item"][item] for item in [pos, *np.ravel(neg)])]:
            expected += 0.3 / 2 * np.sum(row**2) + 0.2 * np.sum(np.abs(row))
    objective = penalties.objective(clean=nothing, l2=0.3, l1=0.2)
    (loss, metrics), _ = jax.jit(lambda: laws.differentiated(objective, toys.params(), batch))()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["penalty"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["loss"]) == 0


def test_the_l2_is_that_of_the_pairwise_objective():
    beside = penalties.objective(clean=laws.CLEAN, l2=0.3)
    within = objectives.pairwise(model=toys.MODEL, l2=0.3)
    (loss, _), grads = jax.jit(lambda: laws.differentiated(beside, toys.params()))()
    (expected, _), expected_grads = jax.jit(lambda: laws.differentiated(within, toys.params()))()
    laws.assert_close((loss, grads), (expected, expected_grads))


def test_the_l1_has_no_slope_at_zero():
    zeros = jax.tree.map(jnp.zeros_like, toys.params())
    objective = penalties.objective(clean=nothing, l1=0.2)
    _, grads = jax.jit(lambda: laws.differentiated(objective, zeros))()
    assert all((np.asarray(grad) == 0).all() for grad in jax.tree.leaves(grads))


def test_wrong_weights_and_tables_are_refused():
    with pytest.raises(ValueError, match="l1=-1"):
        penalties.objective(clean=nothing, l1=-1.0)
    with pytest.raises(ValueError, match="l2=inf"):
        penalties.objective(clean=nothing, l2=float("inf"))
    objective = penalties.objective(clean=nothing, l2=0.1, reads={"film": ("pos",)})
    with pytest.raises(ValueError, match=r"Expected tables \['film'\]"):
        objective(toys.params(), toys.BATCH, jax.random.key(0), lambda tree: tree)
