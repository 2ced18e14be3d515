"""What is special to TRADES: the gradient through both lists at fixed delta, and which items they have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_defence as laws
import toys

from jaxrec import consistency, surfaces
from jaxrec.defences import trades, virtual_adversarial

DELTA = {"user": 0.3 * toys.normal(7, 4, 3), "item": 0.3 * toys.normal(8, 6, 3)}
SURFACE = surfaces.tables("user", "item")
ONE_LIST = {**toys.BATCH, "where": jnp.array([True, True, False, False, False, False])}
FORMS = {"all": consistency.all_items(num_items=6), "batch": consistency.batch_items, "own": consistency.own_items}


def fixed(key, oracle, x):
    """The "attack" whose delta is always the same."""
    del key, oracle, x
    return DELTA, {}


@functools.cache
def gradients():
    """{(method, list): (divergence, gradient of the divergence alone)} at the fixed delta."""

    def at(method, list_scores):
        parts = {"clean": laws.CLEAN, "model": toys.MODEL, "surface": SURFACE, "list_scores": list_scores}
        objective = method.objective(attack=fixed, adv_weight=1.0, **parts)
        without = lambda params: laws.CLEAN(params, ONE_LIST, jax.random.key(0), lambda tree: tree)[0]

        def value(params):
            loss, metrics = objective(params, ONE_LIST, jax.random.key(0), lambda tree: tree)
            return loss - without(params), metrics

        grads, metrics = jax.grad(value, has_aux=True)(toys.params())
        return metrics["divergence"], grads["tables"]

    @jax.jit
    def run():
        held = {("held", name): at(virtual_adversarial, list_scores) for name, list_scores in FORMS.items()}
        return held | {("both", name): at(trades, list_scores) for name, list_scores in FORMS.items()}

    return run()


def expected(lists, target):
    """The divergence and its gradient, one user after another, by finite differences in float64."""
    tables = {name: np.asarray(table, float) for name, table in toys.params()["tables"].items()}
    delta = {name: np.asarray(table, float) for name, table in DELTA.items()}
    log_softmax = lambda scores: scores - np.log(np.exp(scores).sum())

    def divergence(clean, moved):
        total = 0
        for user, items in lists:
            p = log_softmax(clean["item"][items] @ clean["user"][user])
            q = log_softmax((moved["item"] + delta["item"])[items] @ (moved["user"] + delta["user"])[user])
            total += np.sum(np.exp(p) * (p - q))
        return total

    def slope(name, place):
        ends = []
        for step in (1e-5, -1e-5):
            there = {**tables, name: tables[name].copy()}
            there[name][place] += step
            ends.append(divergence(there if target == "both" else tables, there))
        return (ends[0] - ends[1]) / 2e-5

    grads = {
        name: np.array([slope(name, place) for place in np.ndindex(table.shape)]).reshape(table.shape)
        for name, table in tables.items()
    }
    return divergence(tables, tables), grads


LISTS = {
    "all": [(1, range(6)), (0, range(6))],
    "batch": [(1, [0, 1, 3]), (0, [0, 1, 3])],
    "own": [(1, [0, 3]), (0, [3, 1])],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ["both", "held"])
def test_the_gradient_at_fixed_delta_goes_through_both_lists_and_in_virtual_adversarial_training_through_one(
    target, form
):
    """Examples that do not count have no list and add no item to the others', and an item is listed once."""
    lists = [(user, list(items)) for user, items in LISTS[form]]
    divergence, grads = gradients()[target, form]
    value, slopes = expected(lists, target)
    assert float(divergence) == pytest.approx(value, rel=1e-4)
    for name, table in slopes.items():
        np.testing.assert_allclose(grads[name], table, rtol=1e-3, atol=1e-5)


def test_a_list_of_all_items_refuses_tables_that_do_not_hold_them():
    few = {**toys.params(), "tables": {"user": toys.normal(2, 4, 3), "item": toys.normal(3, 4, 3)}}
    with pytest.raises(ValueError, match="dense steps"):
        consistency.all_items(num_items=6)(toys.MODEL, few, toys.BATCH)
