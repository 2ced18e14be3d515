"""What is special to virtual adversarial training: power iteration finds the top of the curvature, without a label."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import test_every_defence as laws
import toys

from jaxrec import consistency, oracles, surfaces
from jaxrec.defences import virtual_adversarial

X = {"a": jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0], [2.0, 2.0, 2.0]])}


@functools.cache
def found():
    """delta on rows that each lie at the bottom of a quadratic of their own, the last of them a flat one; further away
    than .1 the loss rises elsewhere.
    """
    roots = toys.normal(4, 3, 3, 3) * jnp.array([1.0, 1.0, 0.0])[:, None, None]

    def losses(key, x):
        moved = x["a"] - X["a"]
        near = jnp.sum(jnp.square(jnp.einsum("rij,rj->ri", roots, moved)), axis=1)
        return jnp.where(jnp.max(jnp.abs(moved), axis=1) < 0.1, near, moved[:, 0])

    @jax.jit
    def run(epsilon):
        attack = virtual_adversarial.power_iteration(epsilon=epsilon, num_steps=100)
        return attack(jax.random.key(3), oracles.white_box(losses), X)

    return run(0.7)[0]["a"], run(0.0)[0]["a"], np.asarray(roots, float)


def test_the_direction_of_each_row_is_that_in_which_its_loss_is_most_curved_and_a_flat_row_stays():
    delta, nothing, roots = found()
    for row in (0, 1):
        _, vectors = np.linalg.eigh(roots[row].T @ roots[row])
        np.testing.assert_allclose(np.abs(vectors[:, -1] @ delta[row]), 0.7, rtol=1e-3)
    np.testing.assert_array_equal(delta[2], 0)
    np.testing.assert_array_equal(nothing, 0)


def test_one_step_raises_the_divergence_above_that_of_a_random_direction_and_looks_at_no_label():
    """On the lists of all items: changing which item of an example is the positive changes nothing."""
    attack = virtual_adversarial.power_iteration(epsilon=0.5)
    spun = lambda key, oracle, x: (jax.tree.map(lambda x: 0.5 * x, random_rows(key, x)), {})

    def random_rows(key, x):
        draw = jax.tree.map(lambda x: jax.random.normal(key, x.shape), x)
        return jax.tree.map(lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True), draw)

    @jax.jit
    def run(batch):
        def divergence(attack):
            objective = virtual_adversarial.objective(
                clean=laws.CLEAN,
                model=toys.MODEL,
                attack=attack,
                surface=surfaces.tables("user", "item"),
                list_scores=consistency.all_items(num_items=6),
            )
            return objective(toys.params(), batch, jax.random.key(0), lambda tree: tree)[1]["divergence"]

        return divergence(attack), divergence(spun)

    ours, random = run(toys.BATCH)
    assert float(ours) > 1.5 * float(random)
    swapped = {**toys.BATCH, "pos": toys.BATCH["neg"], "neg": toys.BATCH["pos"]}
    np.testing.assert_allclose(run(swapped)[0], ours, rtol=1e-5)
