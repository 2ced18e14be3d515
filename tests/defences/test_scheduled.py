"""Schedules: the unscheduled objective where they stand still, the clean one before they begin, exact boundaries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_every_defence as laws
import toys
import two_processes

from jaxrec import objectives, surfaces
from jaxrec.attacks import fgsm, pgd
from jaxrec.defences import apr, scheduled

SURFACE = surfaces.tables("user", "item")


def robust(epsilon=0.3, adv_weight=1.0, num_steps=1, model_clean=laws.CLEAN):
    attack = pgd.attack(epsilon=epsilon, num_steps=num_steps)
    return apr.objective(clean=model_clean, attack=attack, surface=SURFACE, adv_weight=adv_weight)


def compiled(objective):
    """step -> ((loss, metrics), gradient) on `toys.BATCH`."""

    @jax.jit
    def run(step):
        batch = {**toys.BATCH, "step": jnp.full(6, step)}
        value = lambda params: objective(params, batch, jax.random.key(0), lambda tree: tree)
        return jax.value_and_grad(value, has_aux=True)(toys.params())

    return lambda step: jax.device_get(run(jnp.int32(step)))


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_constant_schedules_are_the_unscheduled_objective():
    constant = scheduled.schedule(
        make=robust, epsilon=optax.constant_schedule(0.3), adv_weight=optax.constant_schedule(0.7)
    )
    assert_equal(compiled(constant)(5), compiled(robust(0.3, 0.7))(5))


def test_a_ramp_gives_each_step_its_epsilon_and_begins_with_the_clean_gradient():
    ramp = compiled(scheduled.schedule(make=robust, epsilon=optax.linear_schedule(0.0, 0.4, transition_steps=4)))
    (clean_loss, _), clean_gradient = laws.clean()
    # At epsilon 0 the adversarial term is the clean one again.
    laws.assert_close((ramp(0)[0][0], ramp(0)[1]), jax.tree.map(lambda x: 2 * x, (clean_loss, clean_gradient)))
    for step, epsilon in ((1, 0.1), (3, 0.3), (4, 0.4), (100, 0.4)):
        laws.assert_close(ramp(step), compiled(robust(epsilon))(0))


def test_a_ramp_of_the_weight_begins_with_the_clean_gradient():
    ramp = compiled(scheduled.schedule(make=robust, adv_weight=optax.linear_schedule(0.0, 1.0, transition_steps=4)))
    (clean_loss, _), clean_gradient = laws.clean()
    laws.assert_close((ramp(0)[0][0], ramp(0)[1]), (clean_loss, clean_gradient))
    laws.assert_close(ramp(2), compiled(robust(adv_weight=0.5))(0))


@functools.cache
def switched():
    parts = [laws.CLEAN, robust(), robust(num_steps=3)]
    return compiled(scheduled.switch(objectives=parts, boundaries=[3, 5])), [compiled(part)(0) for part in parts]


@pytest.mark.parametrize(("step", "place"), [(0, 0), (2, 0), (3, 1), (4, 1), (5, 2), (1000, 2)])
def test_each_step_has_the_objective_whose_turn_it_is(step, place):
    """To rounding: XLA fuses a branch otherwise than a program of its own."""
    run, alone = switched()
    (loss, metrics), gradient = run(step)
    (expected_loss, expected_metrics), expected_gradient = alone[place]
    laws.assert_close((loss, gradient), (expected_loss, expected_gradient))
    laws.assert_close({name: metrics[name] for name in expected_metrics}, expected_metrics)
    assert {*metrics} == {"loss", "margin", "examples", "adv_loss", "adv_margin"}


def test_before_the_attack_its_metrics_are_those_of_a_perturbation_of_nothing():
    (_, metrics), _ = switched()[0](0)
    assert (metrics["adv_loss"], metrics["adv_margin"]) == (metrics["loss"], metrics["margin"])


def test_a_metric_without_a_clean_counterpart_is_0():
    def comparing(params, batch, key, reduce):
        loss, metrics = laws.CLEAN(params, batch, key, reduce)
        return loss, {**metrics, "divergence": loss}

    run = compiled(scheduled.switch(objectives=[laws.CLEAN, comparing], boundaries=[1]))
    assert run(0)[0][1]["divergence"] == 0
    assert run(1)[0][1]["divergence"] == run(1)[0][0] > 0


def test_warm_up_takes_no_attack():
    asked = []

    def attack(key, oracle, x):
        jax.debug.callback(lambda: asked.append(1))
        return fgsm.attack(epsilon=0.3)(key, oracle, x)

    later = apr.objective(clean=laws.CLEAN, attack=attack, surface=SURFACE)
    run = compiled(scheduled.switch(objectives=[laws.CLEAN, later], boundaries=[2]))
    for step, expected in ((0, 0), (1, 0), (2, 1)):
        run(step)
        jax.effects_barrier()
        assert len(asked) == expected


def test_training_by_schedules_on_two_devices_is_training_on_one():
    """Through both boundaries. To 1e-4: the order of sums differs, and ten steps let it grow."""
    clean = objectives.pairwise(model=two_processes.MODEL)
    ramp = scheduled.schedule(
        make=lambda epsilon: robust(epsilon, model_clean=clean),
        epsilon=optax.linear_schedule(0.0, 0.2, transition_steps=8),
    )
    objective = scheduled.switch(
        objectives=[clean, ramp, robust(0.2, num_steps=2, model_clean=clean)], boundaries=[3, 7]
    )
    one, two = (two_processes.trained(two_processes.make_trainer(num, objective=objective), 10) for num in (1, 2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    assert (one[1]["adv_loss"][:3] == one[1]["loss"][:3]).all()
    assert (one[1]["adv_loss"][4:] > one[1]["loss"][4:]).all()


@pytest.mark.parametrize("boundaries", [[], [3], [3, 3], [5, 3], [0, 3], [1, 2, 3]])
def test_boundaries_that_do_not_fit_are_refused(boundaries):
    with pytest.raises(ValueError, match=r"Expected (a boundary between|boundaries that ascend)"):
        scheduled.switch(objectives=[laws.CLEAN] * 3, boundaries=boundaries)


def test_no_schedule_is_refused():
    with pytest.raises(ValueError, match="at least one schedule"):
        scheduled.schedule(make=robust)
