"""What is special to defensive distillation: the student's lists become the teacher's, and its robustness is a mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxrec import consistency, losses, oracles, surfaces
from jaxrec.attacks import fgsm
from jaxrec.defences import distillation

TEMPERATURE, EPSILON = 100.0, 0.5  # the radius in units of a table's mean row norm
EVERYONE = {name: jnp.arange(4) for name in ("users", "pos", "neg")} | {"where": jnp.ones(4, bool)}
TABLES = surfaces.tables("user", "item")


def teacher_params(temperature):
    """Lists at `temperature` that are those of the toy at 1, made more decided."""
    return jax.tree.map(lambda table: 2.5 * jnp.sqrt(temperature) * table, toys.params())


def build(temperature):
    return distillation.objective(
        model=toys.MODEL,
        teacher=toys.MODEL,
        teacher_params=teacher_params(temperature),
        num_users=4,
        num_items=6,
        list_scores=consistency.all_items(num_items=6),
        temperature=temperature,
    )


@functools.cache
def students():
    """(params, divergence) of a student at temperature 1 and one at `TEMPERATURE`, each from a random start."""

    @jax.jit
    def train(temperature):
        objective, optimizer = build(temperature), optax.adam(0.1 * jnp.sqrt(temperature))
        start = {"user": toys.normal(11, 4, 3), "item": toys.normal(12, 6, 3)}

        def step(state, _):
            tables, opt_state = state
            value = lambda tables: objective(
                {"tables": tables, "weights": {}, "given": {}}, EVERYONE, jax.random.key(0), lambda tree: tree
            )
            grads, metrics = jax.grad(value, has_aux=True)(tables)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(tables, updates), opt_state), metrics["divergence"]

        (tables, _), divergences = jax.lax.scan(step, (start, optimizer.init(start)), length=500)
        return {"tables": tables, "weights": {}, "given": {}}, divergences[-1]

    return [train(temperature) for temperature in (1.0, TEMPERATURE)]


def cross_entropy(scores, first):
    return losses.softmax(scores, first)


def scale_free(scores, first):
    return losses.softmax(scores / jnp.std(scores, axis=1, keepdims=True), first)


@functools.cache
def attacked(loss):
    """params -> how many of the four users have another first item after FGSM on `loss`, and the length of delta."""

    @jax.jit
    def run(params):
        lists = lambda params: toys.MODEL.score_all(params, EVERYONE["users"])
        surface = surfaces.scaled(TABLES, surfaces.row_scales(TABLES.get(params)))
        first = jax.nn.one_hot(jnp.argmax(lists(params), axis=1), 6)
        ascended = lambda key, x: jnp.sum(loss(lists(surface.put(params, x)), first))[None]
        x = surface.get(params)
        delta, info = fgsm.attack(epsilon=EPSILON)(jax.random.key(0), oracles.white_box(ascended), x)
        moved = lists(surface.put(params, jax.tree.map(jnp.add, x, delta)))
        return jnp.sum(jnp.argmax(moved, axis=1) != jnp.argmax(first, axis=1)), info["norms"]["user"]

    return run


def test_the_students_lists_become_the_teachers():
    for _, divergence in students():
        assert float(divergence) < 0.02


def test_the_distilled_student_resists_fgsm_because_its_gradient_is_zero_and_falls_to_scale_free_scores():
    (ordinary, _), (distilled, _) = students()
    assert int(attacked(cross_entropy)(ordinary)[0]) >= 2
    changed, length = attacked(cross_entropy)(distilled)
    assert int(changed) == 0
    np.testing.assert_array_equal(length, 0)  # not that the attack is resisted: there is none
    changed, length = attacked(scale_free)(distilled)
    assert int(changed) >= 2
    np.testing.assert_allclose(length, EPSILON, rtol=1e-4)


def test_the_loss_is_the_cross_entropy_of_both_softened_lists():
    user, item = (np.asarray(toys.params()["tables"][name], float) for name in ("user", "item"))
    softmax = lambda scores: np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    teacher, student = softmax(2.5**2 * user @ item.T), softmax(user @ item.T / 9)
    run = jax.jit(lambda params: build(9.0)(params, EVERYONE, jax.random.key(0), lambda tree: tree))
    loss, metrics = run(toys.params())
    assert float(loss) == pytest.approx(-np.sum(teacher * np.log(student)), rel=1e-5)
    expected = np.sum(teacher * np.log(teacher / student))
    assert float(metrics["divergence"]) == pytest.approx(expected, rel=1e-5)


def test_tables_that_are_not_the_teachers_and_a_temperature_of_zero_are_refused():
    few = {"tables": {"user": toys.normal(2, 3, 3), "item": toys.normal(3, 6, 3)}, "weights": {}, "given": {}}
    with pytest.raises(ValueError, match="dense steps"):
        build(1.0)(few, EVERYONE, jax.random.key(0), lambda tree: tree)
    with pytest.raises(ValueError, match="temperature"):
        build(0.0)
