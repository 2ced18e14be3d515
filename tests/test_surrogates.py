"""A surrogate's gradient on the victim: rotated onto it, and asked at the same perturbation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import toys

from jaxrec import oracles, surfaces, surrogates
from jaxrec.attacks import pgd

ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].astype(np.float32)
SURFACE = surfaces.tables("user", "item")
ATTACK = pgd.attack(epsilon=0.4, num_steps=5)


def adversary(model, params, surface, known):
    """BPR of a fixed batch."""
    score = lambda x, column: model.score(surface.put(params, x), toys.BATCH["users"], toys.BATCH[column])
    return oracles.white_box(lambda key, x: jnp.sum(jax.nn.softplus(score(x, "neg") - score(x, "pos")))[None])


def perturb(make, params):
    return ATTACK(jax.random.key(0), make(toys.MODEL, params, SURFACE, None), SURFACE.get(params))


def test_the_same_model_in_another_basis_is_as_good_as_the_victims_own_gradient():
    params = toys.params()
    turned = jax.tree.map(lambda table: table @ ROTATION, params["tables"])
    known = {**params, "given": {surrogates.GIVEN: turned}}
    delta, info = perturb(surrogates.transferred(adversary), known)
    expected, _ = perturb(adversary, params)
    jax.tree.map(lambda ours, other: np.testing.assert_allclose(ours, other, atol=2e-4), delta, expected)
    assert info["gradient_evaluations"] == 5


def test_another_model_gives_another_perturbation_and_the_victims_losses():
    params = toys.params()
    other = {"user": toys.normal(8, 4, 3), "item": toys.normal(9, 6, 3)}
    delta, info = perturb(surrogates.transferred(adversary), {**params, "given": {surrogates.GIVEN: other}})
    own, own_info = perturb(adversary, params)
    assert float(jnp.max(jnp.abs(delta["user"] - own["user"]))) > 0.1
    there = adversary(toys.MODEL, params, SURFACE, None).losses(None, jax.tree.map(jnp.add, params["tables"], delta))
    np.testing.assert_allclose(info["losses"], there, rtol=1e-5)
    assert info["losses"][0] < own_info["losses"][0]


def test_the_rotation_is_scipys_procrustes():
    tables, onto = ({"user": toys.normal(s, 4, 3), "item": toys.normal(s + 1, 6, 3)} for s in (0, 2))
    stacked = [np.concatenate([part["item"], part["user"]]) for part in (tables, onto)]
    rotation, _ = scipy.linalg.orthogonal_procrustes(*stacked)
    for name, ours in surrogates.aligned(tables, onto).items():
        np.testing.assert_allclose(ours, tables[name] @ rotation, atol=1e-5)


def test_the_victims_losses_cannot_be_differentiated():
    params = {**toys.params(), "given": {surrogates.GIVEN: toys.params()["tables"]}}
    oracle = surrogates.transferred(adversary)(toys.MODEL, params, SURFACE, None)
    with pytest.raises(ValueError, match="values only"):
        jax.grad(lambda x: oracle.losses(None, x)[0])(SURFACE.get(params))
