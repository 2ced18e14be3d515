"""C&W and DeepFool against foolbox, where it is installed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import oracles
from jaxrec.attacks import cw, deepfool

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    foolbox = pytest.importorskip("foolbox")
    torch = pytest.importorskip("torch")

DRAW = np.random.default_rng(0)
HIDDEN, OUT = (DRAW.normal(size=shape).astype(np.float32) for shape in ((6, 8), (8, 4)))
X = DRAW.uniform(0.2, 0.8, size=(8, 6)).astype(np.float32)
LABELS = (np.tanh(X @ HIDDEN) @ OUT).argmax(axis=1)
STEPS = {"num_steps": 200, "num_searches": 5}


def ours(attack, box=(0.0, 1.0)):
    scores = lambda key, x: jnp.tanh(x @ HIDDEN) @ OUT
    losses = lambda key, x: -scores(key, x)[jnp.arange(len(LABELS)), LABELS]
    oracle = oracles.white_box(losses, scores=scores, labels=jnp.asarray(LABELS), box=box)
    return np.asarray(jax.jit(lambda x: attack(jax.random.key(0), oracle, x)[0])(jnp.asarray(X)))


def theirs(attack):
    network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    for layer, weights in ((network[0], HIDDEN), (network[2], OUT)):
        layer.weight.data, layer.bias.data = torch.tensor(weights.T.copy()), torch.zeros(weights.shape[1])
    model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1), device="cpu")
    raw, _, success = attack(model, torch.tensor(X), torch.tensor(LABELS), epsilons=None)
    assert bool(success.all())
    return raw.detach().numpy() - X


def test_deepfool_is_foolboxs():
    """Foolbox adds 1e-4 to every step, so that may differ."""
    delta = ours(deepfool.attack(num_classes=3, overshoot=0.02))
    expected = theirs(foolbox.attacks.L2DeepFoolAttack(candidates=4, overshoot=0.02))
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(delta, expected, atol=1e-4)


def test_cw_finds_perturbations_no_longer_than_foolboxs():
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=STEPS["num_searches"], steps=STEPS["num_steps"], initial_const=0.1, abort_early=False
    )
    sizes = [np.linalg.norm(found, axis=1) for found in (ours(cw.attack(initial_weight=0.1, **STEPS)), theirs(attack))]
    assert (sizes[0] > 0).all()
    assert (sizes[0] <= 1.05 * sizes[1]).all()
    wrong = (np.tanh((X + ours(cw.attack(initial_weight=0.1, **STEPS))) @ HIDDEN) @ OUT).argmax(axis=1) != LABELS
    assert wrong.all()
