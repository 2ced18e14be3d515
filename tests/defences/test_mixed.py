"""What is special to mixed batches: the ends of the share, and each example on one side."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_defence as laws
import toys

from jaxrec import surfaces
from jaxrec.attacks import fgsm
from jaxrec.defences import apr, mixed

PARTS = {"clean": laws.CLEAN, "attack": fgsm.attack(epsilon=0.3), "surface": surfaces.tables("user", "item")}


@functools.cache
def compiled():
    """(share, relative_weight, key) -> ((loss, metrics), gradient)."""

    @jax.jit
    def run(share, relative_weight, key):
        objective = mixed.objective(**PARTS, share=share, relative_weight=relative_weight)
        value = lambda params: objective(params, toys.BATCH, key, lambda tree: tree)
        return jax.value_and_grad(value, has_aux=True)(toys.params())

    return lambda share, weight=1.0, seed=0: run(jnp.float32(share), jnp.float32(weight), jax.random.key(seed))


def test_share_0_is_clean_training_and_share_1_the_adversarial_term_of_apr_alone():
    (loss, metrics), gradient = compiled()(0.0)
    (clean_loss, clean_metrics), clean_gradient = laws.clean()
    laws.assert_close((loss, gradient), (clean_loss, clean_gradient))
    laws.assert_close({name: metrics[name] for name in clean_metrics}, clean_metrics)
    assert float(metrics["adv_loss"]) == pytest.approx(float(clean_loss), rel=1e-6)
    (loss, metrics), gradient = compiled()(1.0, 0.7)
    value = lambda params: apr.objective(**PARTS)(params, toys.BATCH, jax.random.key(0), lambda tree: tree)
    (_, apr_metrics), both = jax.jit(jax.value_and_grad(value, has_aux=True))(toys.params())
    laws.assert_close(metrics, apr_metrics)
    laws.assert_close(gradient, jax.tree.map(lambda b, c: 0.7 * (b - c), both, clean_gradient))
    assert float(loss) == pytest.approx(0.7 * float(apr_metrics["adv_loss"]), rel=1e-5)


def test_the_relative_weight_counts_the_chosen_examples_and_no_others():
    """The loss is linear in the weight: without it the clean rest is left, and with 1 the batch as it is trained."""
    rests = []
    for seed in range(8):
        (rest, metrics), _ = compiled()(0.5, 0.0, seed)
        (whole, same), _ = compiled()(0.5, 1.0, seed)
        assert float(whole) == pytest.approx(float(metrics["adv_loss"]), rel=1e-5)
        laws.assert_close(same, metrics)
        assert int(metrics["examples"]) == 5
        rests.append(float(rest))
    each = np.log1p(np.exp(-margins()))[:5]
    sums = [sum(each[list(some)]) for some in subsets(5)]
    assert all(np.min(np.abs(np.array(sums) - rest)) < 1e-5 for rest in rests)
    assert len(set(rests)) > 2


def margins():
    tables = {name: np.asarray(table, float) for name, table in toys.params()["tables"].items()}
    users, pos, neg = (np.asarray(toys.BATCH[name]) for name in ("users", "pos", "neg"))
    return np.sum(tables["user"][users] * (tables["item"][pos] - tables["item"][neg]), axis=1)


def subsets(num):
    return [[i for i in range(num) if bits >> i & 1] for bits in range(2**num)]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"Expected share in \[0, 1\]"):
        mixed.objective(**PARTS, share=share)
