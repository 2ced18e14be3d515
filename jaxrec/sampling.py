"""The order of training examples, and their negative items.

The order is made on the host, as a pure function of (seed, epoch): a resumed run needs two integers. Negatives are
drawn on the device. Which examples share a batch matters here more than elsewhere, because examples that share a user
share the adversary's perturbation of that user: *the sampler is part of an adversarial method*.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks
from jaxrec.types import Array, Interactions, Key

Draw = Callable[..., Array]  # (key, users [B], seen, *, index, count) -> negatives [B] or [B, N]
BUFFER_SIZE = 5120  # triples; ten batches of 512


def shuffled(train: Interactions, *, seed: int, epoch: int) -> np.ndarray:
    """All rows of `train` in a uniformly random order: the batches of He et al., SIGIR 2018. int64 [N]."""
    return np.random.default_rng((seed, epoch)).permutation(len(train))


def user_blocked(train: Interactions, *, seed: int, epoch: int, buffer_size: int = BUFFER_SIZE) -> np.ndarray:
    """The rows of one user after another (users in random order), through a shuffle buffer. int64 [N].

    The buffer holds `buffer_size` rows; each row given out is a random one of them, and the next row takes its place,
    as in common input pipelines. A batch then has far fewer distinct users than a shuffled one.

    Raises:
        ValueError: If `buffer_size < 1`.
    """
    return _blocked(train.users, train.num_users, seed=seed, epoch=epoch, buffer_size=buffer_size)


def item_blocked(train: Interactions, *, seed: int, epoch: int, buffer_size: int = BUFFER_SIZE) -> np.ndarray:
    """As `user_blocked`, one item after another: a batch has far fewer distinct positive items. int64 [N].

    Raises:
        ValueError: If `buffer_size < 1`.
    """
    return _blocked(train.items, train.num_items, seed=seed, epoch=epoch, buffer_size=buffer_size)


def _blocked(ids: np.ndarray, num_ids: int, *, seed: int, epoch: int, buffer_size: int) -> np.ndarray:
    """The rows of one id after another, ids in random order, through a shuffle buffer."""
    checks.counts(buffer_size=buffer_size)
    rng = np.random.default_rng((seed, epoch))
    turn = rng.permutation(num_ids)
    rows = np.argsort(turn[ids], kind="stable")
    return rows[_through_buffer(rng, len(rows), min(buffer_size, max(len(rows), 1)))]


def _through_buffer(rng: np.random.Generator, num: int, size: int) -> np.ndarray:
    """The order in which a shuffle buffer of `size` places gives out 0, 1, ..., num - 1."""
    place = rng.integers(size, size=num - size)  # the place emptied, and refilled by element size + t, at time t
    by_place = np.argsort(place, kind="stable")
    refilled_by = size + by_place
    same = place[by_place[1:]] == place[by_place[:-1]]
    out = np.empty(num, np.int64)
    first = np.r_[True, ~same] if len(place) else np.zeros(0, bool)
    out[by_place[first]] = place[by_place[first]]
    out[by_place[1:][same]] = refilled_by[:-1][same]
    last = np.r_[~same, True] if len(place) else np.zeros(0, bool)
    left = np.arange(size)
    left[place[by_place[last]]] = refilled_by[last]
    out[num - size :] = rng.permutation(left)
    return out


SAMPLERS = {"shuffled": shuffled, "user_blocked": user_blocked, "item_blocked": item_blocked}


def batches(
    train: Interactions, order: np.ndarray, *, batch_size: int, first: int, num: int, padded_size: int | None = None
) -> dict[str, np.ndarray]:
    """Batches `first` to `first + num - 1` of an epoch, stacked for a scan.

    Args:
        order: Rows of `train`, from a sampler.
        batch_size: Examples a batch, B. The epoch's last batch has those that are left.
        padded_size: Length of the arrays, P >= B, by default B.

    Returns:
        `users`, `pos` int32 [num, P], `where` bool [num, P] and, where the data have them, `ratings` float32 [num, P];
        where `where` is false, the others are 0 and do not count.
    """
    size = batch_size if padded_size is None else padded_size
    where = np.zeros((num, size), bool)
    rows = order[first * batch_size : (first + num) * batch_size]
    filled = np.arange(num * batch_size).reshape(num, batch_size) < len(rows)
    where[:, :batch_size] = filled
    columns = {"users": train.users, "pos": train.items}
    if train.ratings is not None:
        columns["ratings"] = train.ratings
    made = {"where": where}
    for name, column in columns.items():
        made[name] = np.zeros((num, size), column.dtype)
        made[name][where] = column[rows]
    return made


def log_frequency(train: Interactions) -> np.ndarray:
    """Log of the share of training interactions that are with each item, float32 [I]; none counts as one."""
    counts = np.bincount(train.items, minlength=train.num_items)
    return np.log(np.maximum(counts, 1) / max(len(train), 1)).astype(np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Seen:
    """Each user's training items, in the form that a uniform unseen item can be looked up in.

    Attributes:
        starts: int32 [U + 1], where each user's stretch of `gaps` begins.
        gaps: int32 [N], for the j-th of a user's items in ascending order, item - j: how many *unseen* items are
            smaller. Ascending within a user.
        num_items: I.
        depth: Bisections that find a place in the longest stretch.
    """

    starts: Array
    gaps: Array
    num_items: int = dataclasses.field(metadata={"static": True})
    depth: int = dataclasses.field(metadata={"static": True})


def with_unseen_items(train: Interactions) -> Interactions:
    """`train` without the users who have seen every item, who have no negative."""
    users, _ = np.divmod(_distinct_pairs(train), train.num_items)
    full = np.bincount(users, minlength=train.num_users)[train.users] == train.num_items
    return train.take(~full) if full.any() else train


def seen(train: Interactions) -> Seen:
    """Sorts the training items of each user, once; a repeated pair counts once."""
    users, items = np.divmod(_distinct_pairs(train), train.num_items)
    counts = np.bincount(users, minlength=train.num_users)
    starts = np.r_[0, np.cumsum(counts)]
    gaps = items - (np.arange(len(items)) - starts[users])
    return Seen(
        starts=jnp.asarray(starts, jnp.int32),
        gaps=jnp.asarray(gaps, jnp.int32),
        num_items=train.num_items,
        depth=int(counts.max(initial=0)).bit_length(),
    )


def _distinct_pairs(train: Interactions) -> np.ndarray:
    """user * num_items + item of each pair, ascending, once each (np.unique takes seconds for what a sort does)."""
    pairs = np.sort(train.users.astype(np.int64) * train.num_items + train.items)
    return pairs[np.r_[True, np.diff(pairs) > 0]] if len(pairs) else pairs


def negatives(
    key: Key, users: Array, seen: Seen, *, num: int | None = None, index: Array | int = 0, count: int = 1
) -> Array:
    """Uniformly random items for each user that are not among the user's training items.

    The r-th unseen item is r plus the number of seen items below it, which a bisection of `gaps` finds: one random
    number an example, no rejection, and no [U, I] mask.

    Args:
        key: Consumed.
        users: int32 [B], this device's part of the global batch.
        num: How many for each user, N; None for one.
        index, count: Which of `count` devices this is. The numbers of the global batch are drawn on every device and
            each takes its part, so that the negatives do not depend on the number of devices (nor on padding: JAX's
            default generator gives the first n of more numbers the same values).

    Returns:
        int32 [B], or [B, N]. For a user who has seen every item the last item (leave such users out of training). The
        bias of taking 32 random bits modulo the number of unseen items is below I / 2^32.
    """
    bits = jax.random.bits(key, (count * users.shape[0], 1 if num is None else num), jnp.uint32)
    bits = jax.lax.dynamic_slice_in_dim(bits, index * users.shape[0], users.shape[0])
    shape = users.shape if num is None else bits.shape
    bits = bits.reshape(shape)
    bounds = seen.starts[users], seen.starts[users + 1]
    start, end = (bound if num is None else jnp.broadcast_to(bound[:, None], shape) for bound in bounds)
    unseen = seen.num_items - (end - start)
    target = (bits % jnp.maximum(unseen, 1).astype(jnp.uint32)).astype(jnp.int32)

    below = _num_below(seen.gaps, seen.depth, start, end, target)
    return jnp.minimum(target + below - start, seen.num_items - 1)


def _num_below(gaps: Array, depth: int, start: Array, end: Array, target: Array) -> Array:
    """The first place in [start, end) whose gap is above the target, else end; gaps ascend in between."""

    def bisect(i, below):  # one array goes round, not two bounds: half the memory, and as much less time
        probe = below + (1 << (depth - 1 - i))
        gap = gaps[jnp.minimum(probe, gaps.shape[0]) - 1]
        return jnp.where((probe <= end) & (gap <= target), probe, below)

    return jax.lax.fori_loop(0, depth, bisect, start)


def by_popularity(train: Interactions, *, exponent: float = 0.75, num: int | None = None) -> Draw:
    """Builds a draw of unseen items with probability proportional to (training interactions)^exponent.

    Mikolov, Sutskever, Chen, Corrado and Dean, "Distributed Representations of Words and Phrases and their
    Compositionality", NeurIPS 2013, arXiv:1310.4546, take 3/4. Exponent 0 is `negatives`. For the hardest of N
    negatives (Zhang et al., SIGIR 2013) draw `num`, of either kind, and let `losses.hardest` choose: no draw sees a
    model.

    Args:
        train: Where items are counted, and what is seen.
        exponent: At least 0. An item without an interaction is never drawn, unless the exponent is 0.
        num: As in `negatives`.

    Returns:
        A draw as `negatives` is one, without rejection either: a bisection of the user's seen items, now in units of
        weight, then one of all items. Weights are rounded to about 2^-24 of their sum, and at least that, and the bias
        of taking 32 random bits modulo their sum is below 1 / 256. A user who has seen every item that can be drawn
        gets the last item.

    Raises:
        ValueError: If `exponent` is negative or not finite, or no item can be drawn at all.
    """
    checks.non_negative(exponent=exponent)
    counts = np.bincount(train.items, minlength=train.num_items).astype(np.float64)
    share = counts**exponent / max((counts**exponent).sum(), 1)
    if not share.any():
        raise ValueError("Expected at least one training interaction, got none.")
    weights = np.where(share > 0, np.maximum(np.round(share * 2**24), 1), 0).astype(np.int64)
    users, items = np.divmod(_distinct_pairs(train), train.num_items)
    starts = np.r_[0, np.cumsum(np.bincount(users, minlength=train.num_users))]
    passed = np.r_[0, np.cumsum(weights[items])]
    own = passed[1:] - passed[starts[users]]  # weight of the user's seen items up to and with this one
    ends = np.cumsum(weights)
    gaps = ends[items] - own  # weight of the unseen items before it
    totals = ends[-1] - (passed[starts[1:]] - passed[starts[:-1]])
    depth = int(np.diff(starts).max(initial=0)).bit_length()
    tables = [jnp.asarray(x, jnp.int32) for x in (starts, gaps, np.r_[0, own], totals, ends)]

    def draw(key, users, seen, *, index=0, count=1):
        del seen  # in units of items; what is needed is in units of weight
        starts, gaps, own, totals, ends = tables
        bits = jax.random.bits(key, (count * users.shape[0], 1 if num is None else num), jnp.uint32)
        bits = jax.lax.dynamic_slice_in_dim(bits, index * users.shape[0], users.shape[0])
        start, end, total = (jnp.broadcast_to(x[users][:, None], bits.shape) for x in (starts, starts[1:], totals))
        target = (bits % jnp.maximum(total, 1).astype(jnp.uint32)).astype(jnp.int32)
        below = _num_below(gaps, depth, start, end, target)
        target = target + jnp.where(below > start, own[below], 0)
        items = jnp.minimum(jnp.searchsorted(ends, target, side="right"), len(ends) - 1).astype(jnp.int32)
        return items[:, 0] if num is None else items

    return draw
