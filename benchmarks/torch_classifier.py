"""A perceptron trained against PGD in plain PyTorch, the attack by foolbox or by hand: what jaxrec is timed against.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
arXiv:1706.06083; Rauber, Zimmermann, Bethge and Brendel, "Foolbox Native", JOSS 2020. Same steps and settings as
`jaxrec.classifier`'s: cross entropy of the images plus that of the attacked ones, a mean over the batch, by Adam.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

Attack = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]  # (model, x, labels) -> attacked images


def mlp(num_pixels: int, hidden: int, num_classes: int = 10) -> nn.Sequential:
    """As `jaxrec.classifier.mlp` with one hidden layer."""
    return nn.Sequential(nn.Linear(num_pixels, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


def by_foolbox(*, epsilon: float, step_size: float, num_steps: int) -> Attack:
    """Foolbox's PGD in the Linf ball from its centre: the attack alone, without the check of its success."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # foolbox 3.3.4 imports from where SciPy no longer wants it
        import foolbox

    pgd = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=step_size, steps=num_steps, random_start=False
    )

    def attack(model, x, labels):
        model.eval()  # as foolbox wants it; there is nothing here that trains in another way
        victim = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return pgd.run(victim, x, labels, epsilon=epsilon)

    return attack


def by_hand(*, epsilon: float, step_size: float, num_steps: int) -> Attack:
    """The same attack as one would write it: no gradient of the weights is taken."""

    def attack(model, x, labels):
        moved = x.clone()
        for _ in range(num_steps):
            moved.requires_grad_()
            loss = functional.cross_entropy(model(moved), labels, reduction="sum")
            (grad,) = torch.autograd.grad(loss, moved)
            with torch.no_grad():
                moved = (x + (moved + step_size * grad.sign() - x).clamp_(-epsilon, epsilon)).clamp_(0, 1)
        return moved.detach()

    return attack


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, labels: torch.Tensor, attack: Attack):
    """One step on a batch, pixels float32 [B, P] and classes int64 [B]."""
    attacked = attack(model, x, labels)
    optimizer.zero_grad()
    (functional.cross_entropy(model(x), labels) + functional.cross_entropy(model(attacked), labels)).backward()
    optimizer.step()
