"""What is special to the tail-aware adversary: a radius for each row, and radii that shrink with an item's count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_apr
import test_every_defence as laws
import toys

from jaxrec import surfaces
from jaxrec.attacks import fgsm
from jaxrec.defences import tail_aware

PARTS = {"clean": laws.CLEAN, "attack": fgsm.attack(epsilon=0.5), "surface": surfaces.tables("user", "item")}


def test_the_gradient_is_that_of_apr_with_its_scale_times_epsilon_for_each_row():
    tables, delta = test_apr.fixed_delta(0.5)
    scales = {"user": np.ones(4), "item": np.linspace(0.5, 1.5, 6)}  # as the laws build it
    moved = {name: tables[name] + scales[name][:, None] * delta[name] for name in tables}
    clean, attacked = test_apr.bpr_gradient(**tables), test_apr.bpr_gradient(**moved)
    _, grads = laws.compiled("tail_aware")(0.5, 0.7)
    for name in tables:
        np.testing.assert_allclose(grads["tables"][name], clean[name] + 0.7 * attacked[name], rtol=1e-4, atol=1e-5)


def test_scales_fall_with_the_count_below_that_of_a_typical_interaction():
    counts = np.array([9, 1, 0])  # the mean over the ten interactions of their items' counts is (9 * 9 + 1) / 10
    expected = [1, (2 / 9.2) ** 0.5, (1 / 9.2) ** 0.5]
    np.testing.assert_allclose(tail_aware.scales(counts), expected, rtol=1e-6)
    np.testing.assert_array_equal(tail_aware.scales(counts, power=0), [1, 1, 1])
    np.testing.assert_array_equal(tail_aware.scales(np.zeros(3)), [1, 1, 1])
    with pytest.raises(ValueError, match="counts"):
        tail_aware.scales(np.array([1, -1]))


def test_scales_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="scales > 0"):
        tail_aware.objective(scales={"item": np.array([1.0, 0.0])}, **PARTS)
    for scales, said in (({"items": jnp.ones(6)}, "perturbed"), ({"item": jnp.ones(9)}, "dense steps")):
        objective = tail_aware.objective(scales=scales, **PARTS)
        with pytest.raises(ValueError, match=said):
            jax.eval_shape(lambda params, o=objective: o(params, toys.BATCH, jax.random.key(0), id), toys.params())
