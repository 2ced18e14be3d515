"""What the adversary of a trained recommender raises: its loss, as an oracle over the part of the parameters it moves.

The adversaries of this module know the model and the training data, and one perturbation is shared by all users, so an
oracle has one loss. Each is a mean, and none changes when all scores of the model are multiplied by a number: on a
trained model raw losses saturate (at ten times the scale most float32 gradients of BPR are exactly zero), and a model
would look robust for having grown. So scores are measured in units of their spread.

    sampled_bpr        BPR of every training pair with one unseen item
    hardest_margin     the best unseen item's score less the training item's
    scale_free_margin  the same over the spread of the user's perturbed scores
    softmax            cross-entropy of every training pair over the whole catalogue
    smooth_ndcg        1 - NDCG of the training items, with smooth ranks
    lists_only         the share of the clean lists that left, for an adversary who sees no score

Those with targets stand in `targeted`. For an adversary with less access build another oracle out of these, as in
`lambda *args: oracles.nes(adversaries.softmax()(*args))`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, evaluate, losses, objectives, oracles, rows, sampling
from jaxrec.types import Array, Interactions, Key, Model, Oracle, Params, Scalar, Surface


class Known(NamedTuple):
    """The training data, laid out on the device; made by `prepare`.

    Attributes:
        batch: Every training pair with one unseen item: `users`, `pos`, `neg` and `where`, [N].
        chunks: All users, a chunk at a time, with their training items.
    """

    batch: Mapping[str, Array]
    chunks: evaluate.Chunks


@runtime_checkable
class Adversary(Protocol):
    """`(model, params, surface, known) -> oracle` over `surface.get(params)`, with one loss."""

    def __call__(self, model: Model, params: Params, surface: Surface, known: Known) -> Oracle: ...


def prepare(train: Interactions, key: Key, *, chunk_size: int = 256) -> Known:
    """Lays out what adversaries know.

    Args:
        train: The training interactions.
        key: Draws the unseen items.
        chunk_size: Users whose scores for the whole catalogue are held at a time.

    Raises:
        ValueError: If no user has both a training item and an unseen one, or `chunk_size < 1`.
    """
    data = sampling.with_unseen_items(train)
    if not len(data):
        raise ValueError("Expected a user with a training item and an unseen item, got none.")
    neg = jax.jit(sampling.negatives)(key, data.users, sampling.seen(train))
    batch = {
        "users": jnp.asarray(data.users),
        "pos": jnp.asarray(data.items),
        "neg": neg,
        "where": jnp.asarray(np.ones(len(data), bool)),
    }
    return Known(batch, evaluate.prepare_lists([train], chunk_size=chunk_size).chunks)


def sampled_bpr(*, piece_size: int = 256) -> Adversary:
    """Builds the adversary of the mean of softplus(-(pos - neg) / spread) over every training pair and one unseen item.

    The spread is the standard deviation of the margins at the clean parameters.

    Args:
        piece_size: Examples whose gradient is taken at a time, so that what lies between stays in the cache.
    """

    def adversary(model, params, surface, known):
        batch = known.batch
        items = jnp.stack([batch["pos"], batch["neg"]])
        score = lambda pair: model.score(params, *pair)
        pos, neg = jax.lax.map(lambda items: jax.lax.map(score, (batch["users"], items), batch_size=piece_size), items)
        scale = 1 / _or_one(jnp.std(pos - neg))
        loss = lambda pos, neg: losses.bpr(scale * pos, scale * neg)
        make = lambda model: objectives.pairwise(model=model, loss=loss)
        clean = make(model) if model.score_rows is None else rows.in_pieces(make, model, size=piece_size)

        def adversary_losses(key, x):
            total, metrics = clean(surface.put(params, x), batch, key, lambda tree: tree)
            return (total / metrics["examples"])[None]

        return oracles.white_box(adversary_losses)

    return adversary


def hardest_margin() -> Adversary:
    """Builds the adversary of the mean over training pairs of (best unseen item's score - the pair's) / spread.

    The margin of Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", IEEE S&P 2017,
    arXiv:1608.04644, eq. f6 without its cut, with the unseen items for the other classes. Its gradient never saturates.
    The spread is that of the clean scores.
    """
    return over_users(lambda chunk, spread: _margins(chunk, jnp.full(len(chunk.scores), spread)))


def scale_free_margin() -> Adversary:
    """Builds the adversary of the margins of `hardest_margin`, each over the spread of its user's perturbed scores.

    Scaling or shifting a user's scores changes nothing, so the attack cannot spend its budget on that: the idea of the
    DLR loss of Croce and Hein, ICML 2020, arXiv:2003.01690, with the standard deviation over the catalogue for the
    distance of two logits, which is zero where two items tie.
    """

    def of_chunk(chunk, spread):
        del spread
        return _margins(chunk, _spreads(chunk.scores))

    return over_users(of_chunk)


def softmax(*, temperature: Scalar = 1.0) -> Adversary:
    """Builds the adversary of the mean over training pairs of -log softmax(scores / temperature) over all items.

    Args:
        temperature: In units of the spread of the clean scores.

    Raises:
        ValueError: If `temperature` is not positive and finite.
    """
    checks.positive(temperature=temperature)

    def of_chunk(chunk, spread):
        scores = chunk.scores / (temperature * spread)
        log_total = jax.nn.logsumexp(scores, axis=1)
        return sum_where(chunk.of_user(log_total) - chunk.of_pair(scores), chunk.is_pair)

    return over_users(of_chunk)


def smooth_ndcg(*, temperature: Scalar = 0.1, piece_size: int = 256) -> Adversary:
    """Builds the adversary of 1 - the mean over users of ApproxNDCG of their training items among all items.

        rank(i) = 1 + sum over j other than i of sigmoid((s_j - s_i) / temperature)
        NDCG = sum over i of 1 / log2(1 + rank(i)), over what it is when the items i are ranked first

    Qin, Liu and Li, "A General Approximation Framework for Direct Optimization of Information Retrieval Measures",
    Information Retrieval 13, 2010, with gain 1 and no cutoff. Users without training items are left out.

    Every training pair is compared with the whole catalogue, so a gradient costs N * I sigmoids: seconds on ML-1M.

    Args:
        temperature: In units of the spread of the clean scores: an item much further below counts as beaten.
        piece_size: Pairs whose comparisons are held at a time.

    Raises:
        ValueError: If `temperature` is not positive and finite, or `piece_size < 1`.
    """
    checks.positive(temperature=temperature)
    checks.counts(piece_size=piece_size)

    def of_chunk(chunk, spread):
        scores = chunk.scores / (temperature * spread)

        @jax.checkpoint
        def gain(pair):
            row, item = pair
            own = scores.at[row].get(mode="fill", fill_value=0)
            # The item itself adds sigmoid(0).
            rank = 0.5 + jnp.sum(jax.nn.sigmoid(own - own[item]))
            return 1 / jnp.log2(1 + rank)

        gains = jax.lax.map(gain, (chunk.rows, chunk.items), batch_size=piece_size)
        num_users, num_items = scores.shape
        counts = jax.ops.segment_sum(chunk.is_pair.astype(jnp.int32), chunk.rows, num_users)
        dcg = jax.ops.segment_sum(gains, chunk.rows, num_users)
        ideal = jnp.cumsum(1 / jnp.log2(1 + jnp.arange(1, num_items + 1, dtype=scores.dtype)))
        return sum_where(1 - dcg / ideal[jnp.maximum(counts, 1) - 1], counts > 0)

    return over_users(of_chunk)


def lists_only(plan: evaluate.ListPlan, k: int) -> Adversary:
    """Builds the adversary who sees every user's list of k items and no score: the share of the clean lists that left.

    Args:
        plan: From `evaluate.prepare_lists`: who gets a list, and which items they know.
        k: Length of the lists.

    Returns:
        The adversary of `oracles.lists_only`, which has losses and no gradient.
    """

    def adversary(model, params, surface, known):
        del known
        lists = lambda key, x: evaluate.lists(model, surface.put(params, x), plan, k)
        return oracles.lists_only(lists, evaluate.lists(model, params, plan, k))

    return adversary


class Chunk(NamedTuple):
    """Scores of the whole catalogue for the users of a chunk, and their training pairs.

    Attributes:
        scores: [B, I].
        rows, items: [P], the place of each pair's user in the chunk (B where there is no pair) and its item.
        is_user: bool [B], false for a place that is left over.
    """

    scores: Array
    rows: Array
    items: Array
    is_user: Array

    @property
    def is_pair(self) -> Array:
        """bool [P]"""
        return self.rows < len(self.scores)

    def of_user(self, values: Array) -> Array:
        """values [B] -> [P], those of each pair's user; 0 where there is no pair."""
        return values.at[self.rows].get(mode="fill", fill_value=0)

    def of_pair(self, values: Array) -> Array:
        """values [B, I] -> [P]; 0 where there is no pair."""
        return values.at[self.rows, self.items].get(mode="fill", fill_value=0)

    def unseen(self) -> Array:
        """[B, I], the scores with -inf for training items."""
        return self.scores.at[self.rows, self.items].set(-jnp.inf, mode="drop")

    def some_unseen(self) -> Array:
        """bool [B, 1], whether a user has an unseen item."""
        return jnp.any(jnp.isfinite(self.unseen()), axis=1, keepdims=True)


def over_users(of_chunk: Callable[[Chunk, Array], tuple[Array, Array]]) -> Adversary:
    """Builds the adversary of a mean over all users, or over all their pairs.

    A chunk's scores are made again for its gradient, so that no [U, I] matrix is kept.

    Args:
        of_chunk: (chunk, mean spread [] of a user's clean scores) -> (sum [], count []) over the chunk.
    """

    def adversary(model, params, surface, known):
        chunks = known.chunks
        is_user = jnp.zeros(chunks.users.size, bool).at[chunks.places].set(True).reshape(chunks.users.shape)
        spreads = jax.lax.map(lambda users: _spreads(model.score_all(params, users)), chunks.users)
        spread = _or_one(jnp.sum(jnp.where(is_user, spreads, 0)) / jnp.sum(is_user))

        def adversary_losses(key, x):
            del key
            perturbed = surface.put(params, x)

            @jax.checkpoint
            def in_chunk(args):
                users, rows, items, is_user = args
                return of_chunk(Chunk(model.score_all(perturbed, users), rows, items, is_user), spread)

            totals, counts = jax.lax.map(in_chunk, (chunks.users, chunks.rows, chunks.items, is_user))
            return jnp.sum(totals, keepdims=True) / jnp.maximum(jnp.sum(counts), 1)

        return oracles.white_box(adversary_losses)

    return adversary


def _margins(chunk: Chunk, spreads: Array) -> tuple[Array, Array]:
    """The sum over training pairs of (best unseen - own score) / the spread of their user [B], and their number."""
    hardest = jnp.max(jnp.where(chunk.some_unseen(), chunk.unseen(), 0), axis=1)
    where = chunk.is_pair & chunk.of_user(chunk.some_unseen()[:, 0])
    margins = chunk.of_user(hardest / spreads) - chunk.of_pair(chunk.scores / spreads[:, None])
    return sum_where(margins, where)


def _spreads(scores: Array) -> Array:
    """The standard deviation of each row, [B]; 1 where all are equal, with gradient zero."""
    variance = jnp.var(scores, axis=1)
    return jnp.where(variance > 0, jnp.sqrt(_or_one(variance)), 1)


def _or_one(x: Array) -> Array:
    """x where it is positive, and 1 elsewhere."""
    return jnp.where(x > 0, x, 1)


def sum_where(values: Array, where: Array) -> tuple[Array, Array]:
    """The sum of what counts, and how many that are."""
    return jnp.sum(jnp.where(where, values, 0)), jnp.sum(where)
