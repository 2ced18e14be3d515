"""The attacks of foolbox (PyTorch) on the rows of BPR pairs: what jaxrec's are timed against.

Rauber, Zimmermann, Bethge and Brendel, "Foolbox Native: Fast adversarial attacks to benchmark the robustness of machine
learning models in PyTorch, TensorFlow, and JAX", JOSS 2020. Foolbox attacks classifiers, so a pair is an input of two
classes: the scores of its negative and of its positive item are the logits, the positive item is the label, and the
cross entropy of the two is BPR.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # foolbox 3.3.4 imports from where SciPy no longer wants it
    import foolbox

_STEPPING = {
    "bim": "BasicIterativeAttack",
    "mim": "MomentumIterativeFastGradientMethod",
    "pgd": "ProjectedGradientDescentAttack",
}


class PairScores(nn.Module):
    """Rows of a user, a positive and a negative item side by side, [B, 3 D] -> the scores of neg and pos, [B, 2]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        user, pos, neg = x.chunk(3, dim=1)
        return torch.stack([(user * neg).sum(-1), (user * pos).sum(-1)], dim=1)


def attack(
    name: str, norm: str | None, *, epsilon: float, box: tuple[float, float], hyperparameters: Mapping[str, Any]
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Foolbox's counterpart of an attack of jaxrec.

    It is the attack alone (`run`), without the check of its success that calling a foolbox attack adds.

    Args:
        name: Of the module in `jaxrec.attacks`.
        norm: "L2" or "LINF"; None for an attack without a choice.
        epsilon: Radius of the ball round an input, where the attack has one.
        box: Bounds of the inputs.
        hyperparameters: jaxrec's. `step_size` must be given where there is one.

    Returns:
        x [B, 3 D] -> x + delta; None where foolbox has no such attack. MIM's differs in what it adds to its velocity
        (each gradient over its L2 norm, or its signs), and so in its delta, but not in the work.
    """
    found = _find(name, "Linf" if norm == "LINF" else "L2", hyperparameters)
    if found is None:
        return None
    victim = foolbox.PyTorchModel(PairScores().eval(), bounds=box, device="cpu")
    limits = {"epsilon": epsilon} if isinstance(found, foolbox.attacks.base.FixedEpsilonAttack) else {}
    return lambda x: found.run(victim, x, torch.ones(len(x), dtype=torch.long), **limits)


def _find(name: str, norm: str, given: Mapping[str, Any]) -> Any:
    """The attack with jaxrec's hyperparameters, or None."""
    if name in _STEPPING:
        build = functools.partial(getattr(foolbox.attacks, norm + _STEPPING[name]), random_start=False)
        return build(steps=given["num_steps"], abs_stepsize=given["step_size"])
    if name == "fgsm":
        return getattr(foolbox.attacks, f"{norm}FastGradientAttack")()
    if norm != "L2":
        return None
    if name == "random_noise":
        return foolbox.attacks.L2AdditiveGaussianNoiseAttack()
    if name == "deepfool":
        return foolbox.attacks.L2DeepFoolAttack(steps=given["num_steps"])
    if name == "cw":
        return foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=given["num_searches"],
            steps=given["num_steps"],
            initial_const=given["initial_weight"],
            abort_early=False,
        )
    return None
