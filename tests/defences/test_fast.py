"""What is special to fast adversarial training: one step from a random start, cheap starts, and no clean term."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_defence as laws
import toys

from jaxrec import norms, surfaces
from jaxrec.attacks import pgd
from jaxrec.defences import apr, fast

SURFACE = surfaces.tables("user", "item")
NORMS = {"L2": norms.L2, "LINF": norms.LINF, "L1": norms.L1}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_it_is_the_perturbed_term_of_apr_on_one_step_from_a_corner(norm):
    attack = pgd.attack(epsilon=0.3, norm=norms.cornered(norm), num_steps=1, step_size=0.375, random_start=True)
    parts = {"clean": laws.CLEAN, "surface": SURFACE}

    @jax.jit
    def both():
        value = lambda objective: jax.value_and_grad(
            lambda params: objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree), has_aux=True
        )(toys.params())
        whole = value(apr.objective(attack=attack, adv_weight=1.0, **parts))
        return value(fast.objective(epsilon=0.3, norm=norm, **parts)), whole, value(laws.CLEAN)

    (found, grads), (whole, whole_grads), (clean, clean_grads) = both()
    less = lambda a, b: jax.tree.map(jnp.subtract, a, b)
    laws.assert_close((found[0], grads), (less(whole[0], clean[0]), less(whole_grads, clean_grads)))
    laws.assert_close(found[1], whole[1])


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_cornered_starts_lie_in_the_ball_and_have_entries_of_one_size_and_random_signs(norm):
    start = np.asarray(norms.cornered(norm).sample(jax.random.key(0), jnp.zeros((4000, 2, 20))))
    sizes = np.asarray(norm.size(jnp.asarray(start)))
    assert sizes.max() <= 1 + 1e-6
    np.testing.assert_allclose(np.quantile(sizes, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    np.testing.assert_allclose(np.abs(start), np.broadcast_to(np.abs(start[:, :1, :1]), start.shape), rtol=1e-5)
    signs = np.sign(start).reshape(4000, 40)
    # A correlation of 4,000 signs is within 5 / sqrt(4000) of the truth.
    np.testing.assert_allclose(signs.T @ signs / 4000, np.eye(40), atol=0.08)
    np.testing.assert_allclose(signs.mean(axis=0), 0, atol=0.08)


def test_starts_differ_from_step_to_step():
    objective = fast.objective(clean=laws.CLEAN, surface=SURFACE, epsilon=0.5)
    run = jax.jit(lambda key: objective(toys.params(), toys.BATCH, key, lambda tree: tree)[1]["adv_loss"])
    assert len({float(run(jax.random.key(seed))) for seed in range(5)}) == 5


@pytest.mark.parametrize("wrong", [{"epsilon": -1.0}, {"epsilon": 1.0, "step_size": float("nan")}])
def test_bad_radii_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Expected (epsilon|step_size) >= 0"):
        fast.objective(clean=laws.CLEAN, surface=SURFACE, **wrong)
