"""SASRec in plain PyTorch: what jaxrec's is timed against.

The network and settings of the common port (pmixer, SASRec.pytorch) of Kang and McAuley, "Self-Attentive Sequential
Recommendation", ICDM 2018, arXiv:1808.09781, written as a user of PyTorch would: `nn.MultiheadAttention`, autograd and
Adam. Item 0 is the empty place.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # items before, next items, negatives: [B, L]


class SASRec(nn.Module):
    """A table of items, positions, and blocks of causal self-attention."""

    def __init__(self, num_items: int, dimension: int, max_length: int, *, num_blocks: int, dropout: float) -> None:
        super().__init__()
        self.item = nn.Embedding(num_items + 1, dimension, padding_idx=0)
        self.position = nn.Embedding(max_length + 1, dimension, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(dimension, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(dimension, eps=1e-8)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, before: torch.Tensor) -> torch.Tensor:
        """Items before each place [B, L] -> states [B, L, D]."""
        length = before.shape[1]
        places = torch.arange(1, length + 1)[None] * (before != 0)
        x = self.dropout(self.item(before) * self.item.embedding_dim**0.5 + self.position(places))
        later = ~torch.tril(torch.ones(length, length, dtype=torch.bool))
        for block in self.blocks:
            x = block(x, later)
        return self.norm(x)


class _Block(nn.Module):
    def __init__(self, dimension: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dimension, eps=1e-8)
        self.attention = nn.MultiheadAttention(dimension, 1, dropout, batch_first=True)
        self.forward_norm = nn.LayerNorm(dimension, eps=1e-8)
        self.layers = nn.Sequential(
            nn.Linear(dimension, dimension),
            nn.Dropout(dropout),
            nn.ReLU(),
            nn.Linear(dimension, dimension),
            nn.Dropout(dropout),
        )

    def forward(self, x: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        queries = self.attention_norm(x)
        x = queries + self.attention(queries, x, x, attn_mask=later, need_weights=False)[0]
        x = self.forward_norm(x)
        return x + self.layers(x)


def step(model: SASRec, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """One step on the binary cross-entropy of next items and negatives, over the places that are filled."""
    before, pos, neg = batch
    states, filled = model(before), before != 0
    scores = [(states * model.item(items)).sum(-1)[filled] for items in (pos, neg)]
    cross_entropy = functional.binary_cross_entropy_with_logits
    loss = cross_entropy(scores[0], torch.ones_like(scores[0])) + cross_entropy(scores[1], torch.zeros_like(scores[1]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def batches(rng: np.random.Generator, histories: np.ndarray, num_items: int, batch_size: int) -> Iterator[Batch]:
    """One epoch: the histories (int64 [U, L], 0 in empty places) shuffled, a negative for each place."""
    for users in np.array_split(rng.permutation(len(histories)), -(-len(histories) // batch_size)):
        pos = histories[users]
        before = np.pad(pos[:, :-1], ((0, 0), (1, 0)))
        neg = rng.integers(1, num_items + 1, pos.shape)
        yield torch.from_numpy(before), torch.from_numpy(pos), torch.from_numpy(neg)
