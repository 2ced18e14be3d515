"""What is special to APR: the perturbation in NumPy, a gradient at fixed delta, and a golden run.

`PYTHONPATH=tests python tests/defences/test_apr.py` renews the golden run.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_defence as laws
import toys

from jaxrec import fields, norms, objectives, surfaces
from jaxrec.attacks import fgsm, pgd
from jaxrec.defences import apr
from jaxrec.models import fm, mf, two_tower

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "apr.json"


def bpr_gradient(user, item):
    """The gradient of the summed BPR loss over whole tables, example by example."""
    grads = {"user": np.zeros_like(user), "item": np.zeros_like(item)}
    columns = (np.asarray(toys.BATCH[name]) for name in ("users", "pos", "neg", "where"))
    for u, i, j, counts in zip(*columns, strict=True):
        slope = -float(counts) / (1 + np.exp(user[u] @ (item[i] - item[j])))
        grads["user"][u] += slope * (item[i] - item[j])
        grads["item"][i] += slope * user[u]
        grads["item"][j] -= slope * user[u]
    return grads


def fixed_delta(epsilon):
    """The tables of the toy in float64, and epsilon * g / |g| row by row."""
    tables = {name: np.asarray(table, float) for name, table in toys.params()["tables"].items()}
    delta = {}
    for name, grad in bpr_gradient(**tables).items():
        size = np.linalg.norm(grad, axis=1, keepdims=True)
        delta[name] = epsilon * grad / np.where(size > 0, size, 1)
    return tables, delta


def attacked_params(epsilon):
    """The parameters that the clean objective sees on its second call, recorded on their way."""
    seen = []

    def spy(params, batch, key, reduce):
        jax.debug.callback(lambda tables: seen.append(jax.device_get(tables)), params["tables"])
        return objectives.pairwise(model=toys.MODEL)(params, batch, key, reduce)

    surface, attack = surfaces.tables("user", "item"), fgsm.attack(epsilon=epsilon)
    objective = apr.objective(clean=spy, attack=attack, surface=surface)
    jax.jit(lambda params: objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree)[0])(toys.params())
    jax.effects_barrier()
    clean = toys.params()["tables"]
    return [tables for tables in seen if any((tables[name] != clean[name]).any() for name in clean)]


def test_delta_is_epsilon_times_the_normalised_gradient_of_each_row_and_zero_elsewhere():
    tables, delta = fixed_delta(0.3)
    seen = attacked_params(0.3)
    assert seen
    for perturbed in seen:
        for name, table in tables.items():
            np.testing.assert_allclose(perturbed[name] - table, delta[name], atol=1e-5)
            np.testing.assert_array_equal(
                perturbed[name][toys.ABSENT[name]], toys.params()["tables"][name][toys.ABSENT[name]]
            )
            np.testing.assert_allclose(np.linalg.norm(delta[name], axis=1), 0.3 * ~np.asarray(toys.ABSENT[name]))


def test_the_gradient_is_the_clean_one_plus_the_weighted_one_at_fixed_delta():
    """Nothing flows through delta: a term from its derivative would show at this epsilon."""
    tables, delta = fixed_delta(0.5)
    clean = bpr_gradient(**tables)
    attacked = bpr_gradient(**{name: tables[name] + delta[name] for name in tables})
    _, grads = laws.compiled("apr")(0.5, 0.7)
    for name in tables:
        np.testing.assert_allclose(grads["tables"][name], clean[name] + 0.7 * attacked[name], rtol=1e-4, atol=1e-5)


def test_the_gradient_keeps_what_the_surface_leaves_out_and_the_units_it_measures_in():
    tables, delta = fixed_delta(0.5)
    clean = bpr_gradient(**tables)
    both = surfaces.tables("user", "item")
    scales = {"user": 2.0, "item": 0.5}
    for surface, units in (
        (surfaces.tables("item"), {"user": 0.0, "item": 1.0}),
        (surfaces.scaled(both, jax.tree.map(jnp.float32, scales)), scales),
    ):
        objective = apr.objective(clean=laws.CLEAN, attack=fgsm.attack(epsilon=0.5), surface=surface, adv_weight=0.7)
        value = lambda params, objective=objective: objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree)
        grads, _ = jax.jit(jax.grad(value, has_aux=True))(toys.params())
        attacked = bpr_gradient(**{name: tables[name] + units[name] * delta[name] for name in tables})
        for name in tables:
            np.testing.assert_allclose(grads["tables"][name], clean[name] + 0.7 * attacked[name], rtol=1e-4, atol=1e-5)


def test_the_adversary_climbs_the_gradient_that_the_model_descends_taken_once():
    """A step of APR is two gradients, not three: the clean one and the one at the perturbed point."""
    gradients = []

    @jax.custom_vjp
    def noted(x):
        return x

    def note(_, cotangent):
        jax.debug.callback(lambda _: gradients.append(1), cotangent[0, 0])
        return (cotangent,)

    noted.defvjp(lambda x: (x, None), note)

    def counted(params, batch, key, reduce):
        tables = {**params["tables"], "user": noted(params["tables"]["user"])}
        return laws.CLEAN({**params, "tables": tables}, batch, key, reduce)

    surface = surfaces.tables("user", "item")
    objective = apr.objective(clean=counted, attack=fgsm.attack(epsilon=0.5), surface=surface)
    value = lambda params: objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree)
    jax.block_until_ready(jax.jit(jax.grad(value, has_aux=True))(toys.params()))
    jax.effects_barrier()
    assert len(gradients) == 2


def test_one_table_alone_is_perturbed_when_the_surface_says_so():
    tables, _ = fixed_delta(0.5)
    objective = apr.objective(clean=laws.CLEAN, attack=fgsm.attack(epsilon=0.5), surface=surfaces.tables("item"))
    run = jax.jit(lambda params: objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree)[1]["adv_loss"])
    grad = bpr_gradient(**tables)["item"]
    size = np.linalg.norm(grad, axis=1, keepdims=True)
    item = tables["item"] + 0.5 * grad / np.where(size > 0, size, 1)
    columns = [np.asarray(toys.BATCH[name])[:5] for name in ("users", "pos", "neg")]
    margins = [tables["user"][u] @ (item[i] - item[j]) for u, i, j in zip(*columns, strict=True)]
    np.testing.assert_allclose(run(toys.params()), np.log1p(np.exp(-np.array(margins))).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param({"num_steps": 3}, id="pgd"),
        pytest.param({"num_steps": 1, "random_start": True}, id="fast"),
        pytest.param({"num_steps": 2, "norm": norms.LINF}, id="linf"),
    ],
)
def test_training_on_pgd_steps_and_fast_training_are_apr_with_another_attack(attack):
    """The laws that need no particular delta: nothing at epsilon 0, more than the clean loss elsewhere."""

    @jax.jit
    def run(epsilon):
        objective = apr.objective(
            clean=laws.CLEAN, attack=pgd.attack(epsilon=epsilon, **attack), surface=surfaces.tables("user", "item")
        )
        value = lambda params: objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree)
        return jax.value_and_grad(value, has_aux=True)(toys.params())

    (clean_loss, _), clean_grads = laws.clean()
    (loss, _), grads = run(jnp.float32(0))
    laws.assert_close((loss, grads), jax.tree.map(lambda x: 2 * x, (clean_loss, clean_grads)))
    (_, metrics), grads = run(jnp.float32(0.1))
    assert float(metrics["adv_loss"]) > float(metrics["loss"])
    assert all(jnp.isfinite(grad).all() for grad in jax.tree.leaves(grads))


def test_a_clean_objective_without_a_margin_is_trained_too():
    clean = objectives.in_batch(model=toys.MODEL)
    objective = apr.objective(clean=clean, attack=fgsm.attack(epsilon=0.1), surface=surfaces.tables("user", "item"))
    _, metrics = jax.jit(lambda params: objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree))(
        toys.params()
    )
    assert float(metrics["adv_loss"]) > float(metrics["loss"])


def golden_run():
    """Twenty steps of gradient descent on APR from a seeded start: losses and row norms at the end."""
    model = mf.model(num_users=4, num_items=6, dimension=3, init_scale=0.5)
    objective = apr.objective(
        clean=objectives.pairwise(model=model),
        attack=fgsm.attack(epsilon=0.5),
        surface=surfaces.tables("user", "item"),
    )

    def step(params, key):
        value = lambda params: objective(params, toys.BATCH, key, lambda tree: tree)
        grads, metrics = jax.grad(value, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), (metrics["loss"], metrics["adv_loss"])

    keys = jax.random.split(jax.random.key(1), 20)
    params, (losses, adv_losses) = jax.jit(lambda params: jax.lax.scan(step, params, keys))(
        model.init(jax.random.key(0))
    )
    norms = {name: jnp.linalg.norm(table, axis=1).tolist() for name, table in params["tables"].items()}
    return {"loss": losses.tolist(), "adv_loss": adv_losses.tolist(), "row_norms": norms}


def test_a_seeded_run_ends_where_it_did():
    """To 1e-4: the order of float32 sums differs between machines, and twenty steps let it grow."""
    expected, actual = json.loads(GOLDEN.read_text()), golden_run()
    jax.tree.map(lambda e, a: np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5), expected, actual)
    assert actual["loss"][-1] < actual["loss"][0]


@pytest.mark.parametrize("method", [fm, two_tower])
def test_in_the_space_of_features_it_raises_the_loss_and_trains_against_that(method):
    """The features of items move, epsilon far, and nothing of what is trained."""
    values = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    model = method.model(num_users=4, num_items=6, dimension=3, side=fields.Side(item_values=values))
    clean, surface = objectives.pairwise(model=model), surfaces.given("item_values")
    start = model.init(jax.random.key(0))
    params = {**start, "tables": jax.tree.map(lambda x: toys.normal(4, *x.shape), start["tables"])}
    against = apr.objective(clean=clean, attack=fgsm.attack(epsilon=0.3), surface=surface)

    @jax.jit
    def descend(params, _):
        value = lambda trained: against({**params, **trained}, toys.BATCH, jax.random.key(0), lambda tree: tree)
        trained = {name: params[name] for name in ("tables", "weights")}
        grads, metrics = jax.grad(value, has_aux=True)(trained)
        return {**params, **jax.tree.map(lambda x, g: x - 0.05 * g, trained, grads)}, (metrics, params["given"])

    after, (metrics, given) = jax.lax.scan(descend, params, None, length=40)
    assert (metrics["adv_loss"] > metrics["loss"] + 0.01).all()
    assert metrics["adv_loss"][-1] < 0.7 * metrics["adv_loss"][0]
    np.testing.assert_array_equal(given["item_values"][-1], values)
    assert set(after["given"]) == set(params["given"])


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(golden_run(), indent=1) + "\n")
