"""The pairwise objective against a sum written out, and what does not count in it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxrec import losses, objectives

KEY = jax.random.key(0)


def alone(tree):
    return tree


def evaluate(params, batch, loss=losses.bpr):
    objective = objectives.pairwise(model=toys.MODEL, loss=loss)
    return jax.jit(jax.value_and_grad(lambda params: objective(params, batch, KEY, alone), has_aux=True))(params)


def margins():
    tables = jax.tree.map(lambda table: np.asarray(table, float), toys.params()["tables"])
    rows = zip(*(np.asarray(toys.BATCH[name]) for name in ("users", "pos", "neg", "where")), strict=True)
    return [float(tables["user"][u] @ (tables["item"][i] - tables["item"][j])) for u, i, j, counts in rows if counts]


@pytest.mark.parametrize(
    ("loss", "of_margin"), [(losses.bpr, lambda m: math.log1p(math.exp(-m))), (losses.hinge, lambda m: max(0, 1 - m))]
)
def test_it_is_the_sum_over_the_examples_that_count(loss, of_margin):
    (total, metrics), _ = evaluate(toys.params(), toys.BATCH, loss)
    assert float(total) == pytest.approx(sum(map(of_margin, margins())), rel=1e-5)
    assert float(metrics["loss"]) == float(total)
    assert float(metrics["margin"]) == pytest.approx(sum(margins()), rel=1e-5)
    assert int(metrics["examples"]) == 5


def test_what_a_padded_example_holds_changes_nothing():
    batch = {**toys.BATCH, "users": toys.BATCH["users"].at[5].set(3), "pos": toys.BATCH["pos"].at[5].set(0)}
    (total, _), grads = evaluate(toys.params(), toys.BATCH)
    (other, _), other_grads = evaluate(toys.params(), batch)
    assert float(total) == float(other)
    jax.tree.map(np.testing.assert_array_equal, grads, other_grads)


def test_rows_that_the_batch_does_not_touch_have_gradient_zero():
    _, grads = evaluate(toys.params(), toys.BATCH)
    for name, absent in toys.ABSENT.items():
        np.testing.assert_array_equal(grads["tables"][name][absent], 0)
        assert (jnp.abs(grads["tables"][name][~absent]).max(axis=1) > 0).all()
