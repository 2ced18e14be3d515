"""The laws of every defence, each found by its file.

Its builder is given those parts of `build` that it has arguments for. The metrics of one that trains against an attack
hold `loss` and `adv_loss`, or, if it compares lists of scores, `divergence`. Of one that carries a perturbation from
step to step the laws hold in the second step.
"""

import functools
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxrec import consistency, defences, norms, objectives, rows, sequences, surfaces
from jaxrec.attacks import fgsm, pgd
from jaxrec.models import lightgcn, sasrec
from jaxrec.types import Interactions

METHODS = {
    name: module.objective
    for name in (info.name for info in pkgutil.iter_modules(defences.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.defences.{name}"), "objective")
}
PARAMETERS = {name: {*inspect.signature(method).parameters} for name, method in METHODS.items()}
COMPARING = [name for name, parts in PARAMETERS.items() if {"attack", "list_scores"} <= parts]
CONTROLS = {"noise"}  # have an epsilon, and need not raise the loss
ADVERSARIAL = [
    name
    for name, parts in PARAMETERS.items()
    if {"attack", "attacks", "epsilon"} & parts and name not in {*COMPARING, *CONTROLS}
]
DRAWN = {"dropout", "fast", "mixed", "smoothing"}  # draw by a row's number, and so otherwise on the touched rows
DENSE = {"certified_margin", "distillation", "tail_aware"}  # know rows by their number in the whole table
LOCAL = {"contrastive"}  # compare the examples of one device with each other, as `objectives.in_batch` does
CLEAN = objectives.pairwise(model=toys.MODEL)
BATCH = {**toys.BATCH, "step": jnp.zeros(6, jnp.int32)}

PAIRS = np.array([[0, 3], [1, 0], [1, 3], [0, 5], [2, 1], [1, 4], [2, 3], [0, 2]], np.int32)  # in order of time
KNOWN = Interactions(PAIRS[:, 0].copy(), PAIRS[:, 1].copy(), num_users=4, num_items=6)
GRAPH = lightgcn.model(num_users=4, num_items=6, dimension=3, init_scale=1.0)
SEQUENCE = sasrec.model(num_items=6, dimension=3, max_length=4, num_blocks=1, dropout=0.0)
OTHERS = {  # defences of what is not matrix factorisation: (model, clean objective)
    "edge_dropout": (GRAPH, objectives.pairwise(model=GRAPH)),
    "contrastive": (SEQUENCE, sequences.next_item(model=SEQUENCE, num_items=6)),
}

every_defence = pytest.mark.parametrize("method", METHODS)
every_adversarial = pytest.mark.parametrize("method", ADVERSARIAL)
every_comparing = pytest.mark.parametrize("method", COMPARING)


def build(method, epsilon, adv_weight, **others):
    # Lists do not differ where there is no perturbation, so the adversary who compares them must start elsewhere.
    attack = pgd.attack(epsilon=epsilon, random_start=True, num_steps=2)
    model, clean = OTHERS.get(method, (toys.MODEL, CLEAN))
    parts = {
        "clean": clean,
        "model": model,
        "attack": attack if method in COMPARING else fgsm.attack(epsilon=epsilon),
        "attacks": [fgsm.attack(epsilon=epsilon), fgsm.attack(epsilon=epsilon, norm=norms.LINF)],
        "surface": surfaces.tables("user", "item"),
        "adv_weight": adv_weight,
        "epsilon": epsilon,
        "weight_epsilon": epsilon / 10,
        "sigma": epsilon,
        "scales": {"item": jnp.linspace(0.5, 1.5, 6)},
        "teacher": toys.MODEL,
        "teacher_params": {**toys.params(), "tables": {"user": toys.normal(5, 4, 3), "item": toys.normal(6, 6, 3)}},
        "num_users": 4,
        "num_items": 6,
        "list_scores": consistency.all_items(num_items=6),
        "l1": 0.2,
        "l2": 0.3,
        "drop_rate": 0.5,
    }
    return METHODS[method](**{name: part for name, part in (parts | others).items() if name in PARAMETERS[method]})


@functools.cache
def params_of(method):
    if method not in OTHERS:
        return toys.params()
    model, _ = OTHERS[method]
    return model.knowing(jax.jit(model.init)(jax.random.key(1)), KNOWN)


def outcome(objective, params, batch, reduce):
    """(loss, metrics) on a batch, with parameters that carry a perturbation of the tables."""
    params = {**params, "carried": jax.tree.map(jnp.zeros_like, params["tables"])}
    loss, metrics = objective(params, batch, jax.random.key(0), reduce)
    if "carried" in metrics:
        params = {**params, "carried": jax.lax.stop_gradient(metrics["carried"])}
        loss, metrics = objective(params, batch, jax.random.key(0), reduce)
    return loss, {name: metric for name, metric in metrics.items() if name != "carried"}


def differentiated(objective, params, batch=BATCH, reduce=lambda tree: tree):
    """((loss, metrics), gradient in what is trained), in a tree like the params."""
    value = lambda trained: outcome(objective, {**params, **trained}, batch, reduce)
    result, grads = jax.value_and_grad(value, has_aux=True)({name: params[name] for name in ("tables", "weights")})
    return result, {**grads, "given": {}}


@functools.cache
def compiled(method):
    """(epsilon, adv_weight) -> ((loss, metrics), gradient) on `BATCH`."""
    params = params_of(method)
    run = jax.jit(lambda epsilon, adv_weight: differentiated(build(method, epsilon, adv_weight), params))
    return lambda epsilon, adv_weight=1.0: run(jnp.float32(epsilon), jnp.float32(adv_weight))


@jax.jit
def clean():
    return differentiated(CLEAN, toys.params())


def assert_close(actual, expected):
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6), actual, expected)


def test_the_folder_is_read():
    assert "apr" in METHODS


@every_adversarial
@pytest.mark.parametrize("epsilon", [1e-3, 0.01, 0.1])
def test_the_adversarial_loss_is_above_the_clean_one(method, epsilon):
    (_, metrics), _ = compiled(method)(epsilon)
    assert float(metrics["adv_loss"]) > float(metrics["loss"])
    assert float(metrics["adv_margin"]) < float(metrics["margin"])


@every_adversarial
def test_at_epsilon_0_the_adversarial_loss_is_the_clean_one(method):
    (_, metrics), _ = compiled(method)(0.0)
    assert float(metrics["adv_loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-6)


@every_comparing
def test_lists_differ_more_the_larger_epsilon_and_not_at_0(method):
    divergences = [float(compiled(method)(epsilon)[0][1]["divergence"]) for epsilon in (0.0, 0.03, 0.3, 1.0)]
    assert divergences[0] == pytest.approx(0, abs=1e-6)
    assert divergences[1] > 1e-5
    assert divergences == sorted(divergences)


@every_comparing
def test_at_epsilon_0_the_gradient_is_the_clean_one(method):
    assert_close(compiled(method)(0.0)[1], clean()[1])


@every_defence
def test_adv_weight_0_leaves_the_clean_loss_and_gradient(method):
    if "adv_weight" not in PARAMETERS[method]:
        pytest.skip("the defence has no adv_weight")
    (loss, metrics), grads = compiled(method)(0.3, 0.0)
    (clean_loss, clean_metrics), clean_grads = clean()
    assert_close((loss, grads), (clean_loss, clean_grads))
    assert_close({name: metrics[name] for name in clean_metrics}, clean_metrics)


@every_defence
def test_gradients_are_finite(method):
    for epsilon in (0.0, 0.3, 30.0):
        _, grads = compiled(method)(epsilon)
        assert all(jnp.isfinite(grad).all() for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize("method", sorted({*METHODS} - LOCAL))
def test_parts_on_two_devices_sum_to_the_whole_batch_on_one(method):
    """The devices share users and items, so their gradients meet before the attack normalises them."""
    reduce = lambda tree: jax.lax.psum(tree, "devices")
    objective, params = build(method, 0.3, 1.0), params_of(method)
    part = lambda batch: differentiated(objective, params, batch, reduce)
    halves = jax.tree.map(lambda column: column.reshape(2, 3), BATCH)
    parts = jax.pmap(part, axis_name="devices", devices=jax.devices()[:2])(halves)
    assert_close(jax.tree.map(lambda x: np.asarray(x).sum(axis=0), parts), compiled(method)(0.3))


@pytest.mark.parametrize("method", sorted({*METHODS} - DENSE - CONTROLS - DRAWN - {*OTHERS}))
def test_on_the_touched_rows_alone_loss_and_gradient_are_the_same(method):
    """Two examples of one user, of ids that are renumbered; the other rows have no gradient."""
    batch = {name: column[jnp.array([0, 2])] for name, column in BATCH.items()}
    # Random starts differ with the number of rows, and the list of all items is not there.
    longer = lambda key, oracle, x: (jax.tree.map(lambda x: 0.3 * x, x), {})
    others = {"attack": longer, "list_scores": consistency.batch_items} if method in COMPARING else {}
    objective = build(method, 0.3, 1.0, **others)

    def at(tables, batch):
        result, grads = differentiated(objective, {**toys.params(), "tables": tables}, batch)
        return result, grads["tables"]

    @jax.jit
    def both(tables):
        plan, small = rows.compact(tables, batch, toys.MODEL.reads, lambda ids: ids)
        names = ["item", "user"]
        touched = at(rows.take(tables, names, plan), small)
        return at(tables, batch), (
            touched[0],
            rows.write_back(jax.tree.map(jnp.zeros_like, tables), touched[1], names, plan),
        )

    whole, by_rows = both(toys.params()["tables"])
    assert any((whole[1][name] != 0).any() for name in whole[1])
    assert_close(by_rows, whole)
