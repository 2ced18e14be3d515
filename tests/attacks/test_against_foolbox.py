"""The gradient attacks against those of foolbox (Rauber et al., arXiv:1707.04131), on one MLP with the same weights."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import losses, norms, oracles
from jaxrec.attacks import bim, fgsm, pgd

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # foolbox 3.3.4 imports from where SciPy no longer wants it
    foolbox = pytest.importorskip("foolbox")
    torch = pytest.importorskip("torch")

DRAW = np.random.default_rng(0)
X = DRAW.uniform(-0.9, 0.9, size=(6, 5)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])
WEIGHTS = [DRAW.normal(size=shape).astype(np.float32) for shape in ((5, 8), (8, 3))]
THEIRS, OURS = foolbox.attacks, {"L2": norms.L2, "LINF": norms.LINF}
STEPS = {"steps": 7, "abs_stepsize": 0.1}
CASES = {
    "FGSM": ("LINF", lambda: THEIRS.LinfFastGradientAttack(), fgsm.attack, {}),
    "FGM": ("L2", lambda: THEIRS.L2FastGradientAttack(), fgsm.attack, {}),
    "BIM-LINF": (
        "LINF",
        lambda: THEIRS.LinfBasicIterativeAttack(steps=7, rel_stepsize=1 / 7, random_start=False),
        bim.attack,
        {"num_steps": 7},
    ),
    "BIM-L2": (
        "L2",
        lambda: THEIRS.L2BasicIterativeAttack(**STEPS, random_start=False),
        bim.attack,
        {"num_steps": 7, "step_size": 0.1},
    ),
    "PGD-LINF": (
        "LINF",
        lambda: THEIRS.LinfProjectedGradientDescentAttack(**STEPS, random_start=False),
        pgd.attack,
        {"num_steps": 7, "step_size": 0.1},
    ),
    "PGD-L2": (
        "L2",
        lambda: THEIRS.L2ProjectedGradientDescentAttack(**STEPS, random_start=False),
        pgd.attack,
        {"num_steps": 7, "step_size": 0.1},
    ),
}


def theirs(attack, epsilon):
    """The perturbed inputs by foolbox, of a PyTorch model with values in [-1, 1]."""
    hidden, out = map(torch.tensor, WEIGHTS)

    class MLP(torch.nn.Module):
        def forward(self, x):
            return torch.tanh(x @ hidden) @ out

    model = foolbox.PyTorchModel(MLP().eval(), bounds=(-1, 1), device="cpu")
    attacked, _, _ = attack(model, torch.tensor(X), torch.tensor(LABELS), epsilons=epsilon)
    return attacked.numpy()


@pytest.mark.parametrize("case", CASES)
def test_perturbed_inputs_are_those_of_foolbox(case):
    norm, their_attack, attack, hyperparameters = CASES[case]
    epsilon = 0.4
    cross_entropy = lambda key, x: losses.softmax(jnp.tanh(x @ WEIGHTS[0]) @ WEIGHTS[1], jax.nn.one_hot(LABELS, 3))
    oracle = oracles.white_box(cross_entropy, box=(-1.0, 1.0))
    ours = attack(epsilon=epsilon, norm=OURS[norm], **hyperparameters)
    delta, _ = jax.jit(lambda x: ours(jax.random.key(0), oracle, x))(jnp.asarray(X))
    expected = theirs(their_attack(), epsilon)
    assert (np.abs(expected) == 1).any()  # the box cuts somewhere
    assert (np.abs(expected) < 1).any()
    np.testing.assert_allclose(X + delta, expected, atol=1e-5)
