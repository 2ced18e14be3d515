"""Small random rankings by dot products, one a user: what certificates and the attacks on them are tried on."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrec import evaluate
from jaxrec.certificates import dot_product
from jaxrec.types import Interactions

NUM_USERS, NUM_ITEMS, NUM_SEEN, DIMENSION = 250, 8, 2, 3
SEEDS = range(4)  # times 250 users: 1,000 cases


class Cases(NamedTuple):
    """Factors and a protocol, with what it ranks as a mask: `where` [U, I] is true for the target's competitors."""

    factors: dot_product.Factors
    plan: evaluate.RankPlan
    targets: np.ndarray
    where: np.ndarray


def draw(seed: int, *, bias: bool = False, integers: bool = False) -> Cases:
    """Every user has a target and has seen two other items: as many, so that all seeds share one compilation."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(NUM_ITEMS, size=NUM_USERS).astype(np.int32)
    order = rng.random((NUM_USERS, NUM_ITEMS))
    order[np.arange(NUM_USERS), targets] = 2
    seen = order.argsort(axis=1).argsort(axis=1) < NUM_SEEN
    values = lambda *shape: jnp.asarray(rng.integers(-1, 2, shape) if integers else rng.normal(size=shape), jnp.float32)
    factors = dot_product.Factors(
        values(NUM_USERS, DIMENSION), values(NUM_ITEMS, DIMENSION), values(NUM_ITEMS) if bias else None
    )
    users, items = (ids.astype(np.int32) for ids in np.nonzero(seen))
    train = Interactions(users, items, NUM_USERS, NUM_ITEMS)
    test = Interactions(np.arange(NUM_USERS, dtype=np.int32), targets, NUM_USERS, NUM_ITEMS)
    where = ~seen
    where[np.arange(NUM_USERS), targets] = False
    return Cases(factors, evaluate.prepare([train], test, chunk_size=64), targets, where)


def ranks(scores: np.ndarray, cases: Cases) -> np.ndarray:
    """Ranks of the targets in scores [..., U, I], ties against them."""
    at = np.broadcast_to(cases.targets[:, None], (*scores.shape[:-1], 1))
    return 1 + ((scores >= np.take_along_axis(scores, at, axis=-1)) & cases.where).sum(axis=-1)


def float64(cases: Cases) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p [U, D], d [U, I, D] and the margins [U, I], in float64."""
    user, item = (np.asarray(table, np.float64) for table in cases.factors[:2])
    bias = np.zeros(len(item)) if cases.factors.item_bias is None else np.asarray(cases.factors.item_bias, np.float64)
    scores = user @ item.T + bias
    margins = np.take_along_axis(scores, cases.targets[:, None], axis=1) - scores
    return user, item[cases.targets][:, None] - item[None], margins
