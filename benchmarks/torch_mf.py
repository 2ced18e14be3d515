"""BPR and APR matrix factorisation in plain PyTorch: what jaxrec is timed against.

Written as a user of PyTorch would: `nn.Embedding`, autograd and the fastest of PyTorch's own optimisers, no row is ever
gathered or differentiated by hand. Same algorithms and settings as jaxrec's (He, He, Du and Chua, "Adversarial
Personalized Ranking for Recommendation", SIGIR 2018, arXiv:1808.03908).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import interactions

# Says that it is off on purpose, which it is by default with a warning.
torch.sparse.check_sparse_tensor_invariants.disable()

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # users, pos, neg: [B]


class MatrixFactorisation(nn.Module):
    """A user and an item table, whose gradients are dense or (`sparse`) hold the batch's rows only."""

    def __init__(self, num_users: int, num_items: int, dimension: int, *, sparse: bool, seed: int) -> None:
        super().__init__()
        self.sparse = sparse
        self.user = nn.Embedding(num_users, dimension, sparse=sparse)
        self.item = nn.Embedding(num_items, dimension, sparse=sparse)
        generator = torch.Generator().manual_seed(seed)
        for table in self.tables():
            nn.init.trunc_normal_(table, std=0.01, a=-0.02, b=0.02, generator=generator)

    def tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The user table and the item table."""
        return self.user.weight, self.item.weight

    def forward(self, users: torch.Tensor, pos: torch.Tensor, neg: torch.Tensor) -> Batch:
        """The embeddings [B, D] of each."""
        return self.user(users), self.item(pos), self.item(neg)


def bpr_loss(users: torch.Tensor, pos: torch.Tensor, neg: torch.Tensor) -> torch.Tensor:
    """Sum over the batch of softplus(-(pos score - neg score)), from embeddings [B, D]."""
    return functional.softplus(-(users * (pos - neg)).sum(-1)).sum()


def sgd(model: MatrixFactorisation) -> torch.optim.Optimizer:
    """SGD at 0.05 (its `foreach` form is the fastest with dense gradients)."""
    return torch.optim.SGD(model.parameters(), 0.05, foreach=not model.sparse)


def adagrad(model: MatrixFactorisation) -> torch.optim.Optimizer:
    """Adagrad at 0.05 from 0.1 (its `fused` form is the fastest with dense gradients, and refuses sparse ones)."""
    return torch.optim.Adagrad(model.parameters(), 0.05, initial_accumulator_value=0.1, fused=not model.sparse)


def bpr_step(model: MatrixFactorisation, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """One step on the clean loss."""
    optimizer.zero_grad()
    bpr_loss(*model(*batch)).backward()
    optimizer.step()


class Adversary(NamedTuple):
    """APR's perturbation: the radius of each row, the weight of its loss, and where the delta of each table is kept.

    The delta of a row outside the batch is never read, so that it need not be set back to zero.
    """

    epsilon: float
    adv_weight: float
    deltas: list[torch.Tensor]


def adversary(model: MatrixFactorisation, *, epsilon: float, adv_weight: float) -> Adversary:
    """An adversary against a model's two tables."""
    return Adversary(epsilon, adv_weight, [torch.zeros_like(table) for table in model.tables()])


def apr_step(model: MatrixFactorisation, optimizer: torch.optim.Optimizer, batch: Batch, against: Adversary) -> None:
    """One step on clean loss + adv_weight * loss at delta = epsilon * g / |g|, row by row, g of the clean loss.

    The clean loss goes forward and backward once: its gradient gives delta, and stays in `.grad` for the step.
    """
    users, pos, neg = batch
    optimizer.zero_grad()
    rows = model(users, pos, neg)
    bpr_loss(*rows).backward(retain_graph=True)
    user_delta, item_delta = _deltas(model, against)
    perturbed = rows[0] + user_delta[users], rows[1] + item_delta[pos], rows[2] + item_delta[neg]
    (against.adv_weight * bpr_loss(*perturbed)).backward()
    optimizer.step()


def _deltas(model: MatrixFactorisation, against: Adversary) -> list[torch.Tensor]:
    """The perturbation of each table from the gradients that stand in `.grad`."""
    if not model.sparse:
        return [against.epsilon * functional.normalize(_grad(table), dim=1) for table in model.tables()]
    for table, delta in zip(model.tables(), against.deltas, strict=True):
        table.grad = grad = _grad(table).coalesce()
        delta[grad.indices()[0]] = against.epsilon * functional.normalize(grad.values(), dim=1)
    return against.deltas


def _grad(table: torch.Tensor) -> torch.Tensor:
    """The gradient that stands in `.grad`."""
    if table.grad is None:
        raise ValueError("Expected a gradient, got None: the loss goes backward first.")
    return table.grad


def batches(
    rng: np.random.Generator, users: np.ndarray, items: np.ndarray, seen: np.ndarray, batch_size: int
) -> Iterator[Batch]:
    """One epoch: the pairs (int64) shuffled, each with a negative, cut into batches (the last may be smaller)."""
    order = rng.permutation(len(users))
    users, pos = users[order], items[order]
    columns = (torch.from_numpy(column) for column in (users, pos, interactions.negatives(rng, users, seen)))
    yield from zip(*(column.split(batch_size) for column in columns), strict=True)


def pgd(
    tables: list[torch.Tensor], batch: Batch, *, epsilon: float, step_size: float, num_steps: int, sparse: bool
) -> list[torch.Tensor]:
    """The two tables after projected steepest ascent on the batch's loss: L2 steps and L2 balls, row by row."""
    perturbed = [table.clone().requires_grad_() for table in tables]
    look_up: Callable = lambda ids, table: functional.embedding(ids, table, sparse=sparse)
    users, pos, neg = batch
    for _ in range(num_steps):
        loss = bpr_loss(look_up(users, perturbed[0]), look_up(pos, perturbed[1]), look_up(neg, perturbed[1]))
        grads = torch.autograd.grad(loss, perturbed)
        with torch.no_grad():
            for x, table, grad in zip(perturbed, tables, grads, strict=True):
                _ascend(x, table, grad, epsilon, step_size)
    return [x.detach() for x in perturbed]


def _ascend(x: torch.Tensor, table: torch.Tensor, grad: torch.Tensor, epsilon: float, step_size: float) -> None:
    """Moves x, in place, one step up and back into the ball around the table's rows."""
    if not grad.is_sparse:
        x.add_(functional.normalize(grad, dim=1), alpha=step_size)
        x.copy_(table + torch.renorm(x - table, 2, 0, epsilon))
        return
    grad = grad.coalesce()
    rows = grad.indices()[0]
    moved = x[rows] - table[rows] + step_size * functional.normalize(grad.values(), dim=1)
    x[rows] = table[rows] + torch.renorm(moved, 2, 0, epsilon)


def hits(
    tables: tuple[torch.Tensor, torch.Tensor],
    seen: tuple[torch.Tensor, torch.Tensor],
    starts: np.ndarray,
    targets: torch.Tensor,
    *,
    k: int,
    chunk_size: int,
) -> torch.Tensor:
    """Where each user's target stands in their list of the top k unseen items: bool [U, k].

    Args:
        tables: The user table and the item table.
        seen: Users and items of the training pairs, sorted by user.
        starts: [U + 1], where each user's pairs begin.
        targets: [U], the item held out.
        k: Length of the lists.
        chunk_size: Users scored at once.
    """
    user_table, item_table = tables
    found = []
    for start in range(0, len(user_table), chunk_size):
        stop = min(start + chunk_size, len(user_table))
        scores = user_table[start:stop] @ item_table.T
        pairs = slice(starts[start], starts[stop])
        scores[seen[0][pairs] - start, seen[1][pairs]] = -torch.inf
        found.append(scores.topk(k).indices == targets[start:stop, None])
    return torch.cat(found)
