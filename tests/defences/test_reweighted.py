"""What is special to the reweighted loss: the weight, which is a constant to the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_defence as laws
import toys

from jaxrec import objectives
from jaxrec.defences import reweighted

run = jax.jit(
    lambda exponent: laws.differentiated(reweighted.objective(model=toys.MODEL, exponent=exponent), toys.params())
)


def test_the_loss_and_its_gradient_by_hand():
    tables = {name: np.asarray(table, float) for name, table in toys.params()["tables"].items()}
    total, grad = 0.0, np.zeros_like(tables["user"])
    for user, pos, neg in zip(*(np.asarray(toys.BATCH[name])[:5] for name in ("users", "pos", "neg")), strict=True):
        for item, sign in ((pos, 1), (neg, -1)):
            chance = 1 / (1 + np.exp(-sign * tables["user"][user] @ tables["item"][item]))  # of the label
            total += -(chance**0.7) * np.log(chance)
            grad[user] -= chance**0.7 * (1 - chance) * sign * tables["item"][item]
    (loss, _), grads = run(jnp.float32(0.7))
    assert float(loss) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(grads["tables"]["user"], grad, rtol=1e-4, atol=1e-6)


def test_with_exponent_0_it_is_the_listwise_cross_entropy():
    standard = jax.jit(lambda: laws.differentiated(objectives.listwise(model=toys.MODEL), toys.params()))()
    laws.assert_close(run(jnp.float32(0)), standard)


def test_a_negative_exponent_is_refused():
    with pytest.raises(ValueError, match="exponent=-1"):
        reweighted.objective(model=toys.MODEL, exponent=-1.0)
