"""Profiles by a generator that is trained against a discriminator, for the rank of the targets.

After AUSH (Lin, Chen, Li, Xiao, Li and Yang, "Attacking Recommender Systems with Augmented User Profiles", CIKM 2020,
arXiv:2005.08164): each fake begins as a real user's profile, and a generator changes it under three losses, of looking
real, of staying close to the template, and of promoting the targets. AUSH samples the fillers and generates ratings of
chosen items; here the generator chooses the fillers, and what promotes is the gradient of a surrogate that is trained
with the fakes (`injection.inner`), where AUSH rewards high ratings.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec import checks, fake_profiles, fake_rows, injection, packed, profiles
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.fake_rows import Hull
from jaxrec.injection import Audience, Surrogate
from jaxrec.inner import ease
from jaxrec.types import Array, Interactions, Key, Poison, PyTree, Scalar

NUM_REAL = 64  # real users whom the discriminator sees in a step


class Weights(NamedTuple):
    """Of the generator's losses: the discriminator's has weight 1.

    Attributes:
        template: Of the mean cross-entropy of the template's items, in nats.
        promotion: Of the outer loss to first order, whose gradient is scaled so that its largest entry is 1.
        temperature: As in `injection.promotion`.
        sign: 1 to promote the targets, -1 to demote them.
    """

    template: Scalar
    promotion: Scalar
    temperature: Scalar
    sign: Scalar


class Pair(NamedTuple):
    """The two networks' weights and the states of their optimisers."""

    generator: PyTree
    generator_state: PyTree
    discriminator: PyTree
    discriminator_state: PyTree


class _Network(nn.Module):
    """Rows [M, I] -> [M, num_outputs]."""

    hidden: int
    num_outputs: int

    @nn.compact
    def __call__(self, rows):
        return nn.Dense(self.num_outputs)(nn.relu(nn.Dense(self.hidden)(rows)))


class _Game(NamedTuple):
    """What the two networks play for.

    Attributes:
        makes, judges: The generator and the discriminator.
        template: [M, I], ones at the free items of each template.
        hull: Of the profiles.
        num_fillers: n.
        weights: Of the generator's losses.
    """

    makes: _Network
    judges: _Network
    template: Array
    hull: Hull
    num_fillers: int
    weights: Weights

    def made(self, generator: PyTree) -> tuple[Array, Array]:
        """Logits [M, I], and profiles: ones at the n largest, with the slope of the logits' sigmoids."""
        logits = jnp.where(self.hull.free[None], _of(self.makes, generator, self.template), -jnp.inf)
        soft = jax.nn.sigmoid(logits)
        return logits, jax.lax.stop_gradient(_largest(logits, self.num_fillers) - soft) + soft

    def tells_apart(self, discriminator: PyTree, profiles: Array, fakes: Array) -> Array:
        """The discriminator's loss."""
        score = lambda rows: _of(self.judges, discriminator, rows)
        return jnp.mean(jax.nn.softplus(-score(profiles))) + jnp.mean(jax.nn.softplus(score(fakes)))

    def fools(self, generator: PyTree, discriminator: PyTree, slope: Array) -> Array:
        """The generator's loss, where the outer loss rises by `slope` [M, I]."""
        logits, profiles = self.made(generator)
        looks = jnp.mean(jax.nn.softplus(-_of(self.judges, discriminator, profiles)))
        close = _mean(jax.nn.softplus(-logits), self.template > 0) + _mean(
            jax.nn.softplus(logits), self.hull.free[None] & (self.template == 0)
        )
        promotes = self.weights.sign * jnp.sum(slope * profiles) / len(self.template)
        return looks + self.weights.template * close + self.weights.promotion * promotes


def _of(network: _Network, weights: PyTree, rows: Array) -> Array:
    """What a network with these weights says of rows."""
    return jnp.asarray(network.apply(weights, rows))


def attack(
    *,
    num_fakes: int,
    num_fillers: int = 50,
    direction: Direction = "push",
    allowed: np.ndarray | None = None,
    surrogate: Surrogate | None = None,
    num_steps: int = 100,
    learning_rate: float = 0.003,
    hidden: int = 64,
    template_weight: float = 1.0,
    promotion_weight: float = 1.0,
    temperature: float = 0.1,
) -> Poison:
    """Builds the attack of one who knows the data, trains a recommender of their own, and wants to be taken for a user.

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.
        surrogate: `inner.ease.surrogate()` by default; see `injection.Surrogate`.
        num_steps: Of both networks, in turn; each takes a training of the surrogate. 0 leaves a random generator.
        learning_rate: Of Adam, for both.
        hidden: Width of each network's one hidden layer.
        template_weight, promotion_weight, temperature: As in `Weights`.

    Returns:
        `(key, interactions, targets) -> fakes`. A template is a user drawn from those who have at least `num_fillers`
        allowed items, or from those who have the most. Ratings are the template's own where it has the item, and the
        item's mean, rounded to the scale, where not.

    Raises:
        ValueError: If a number of steps or a weight is negative, or a size is not above 0 and finite; the attack itself
            as `fake_profiles.know` and `injection.audience`.
    """
    budget = Budget(num_fakes, num_fillers, direction, allowed)
    for name, value, least in (
        ("num_steps", num_steps, 0),
        ("hidden", hidden, 1),
        ("template_weight", template_weight, 0),
        ("promotion_weight", promotion_weight, 0),
    ):
        if not least <= value < float("inf"):
            raise ValueError(f"Expected {name} >= {least} and finite, got {name}={value}.")
    checks.positive(learning_rate=learning_rate, temperature=temperature)
    weights = Weights(template_weight, promotion_weight, temperature, 1.0 if direction == "push" else -1.0)

    def generated(key: Key, interactions: Interactions, targets: np.ndarray) -> Interactions:
        know_key, fit_key = jax.random.split(key)
        known = fake_profiles.know(know_key, interactions, targets, budget)
        audience = injection.audience(interactions, targets)
        if budget.num_fakes == 0:
            return fake_profiles.fakes(known, (np.zeros((0, 0), int), None))
        users, pool = templates(known)
        recommender = ease.surrogate() if surrogate is None else surrogate
        data = recommender.prepare(interactions, budget.num_fakes)
        rows = packed.rows(interactions, injection.CHUNK)
        sizes, hull = (num_steps, hidden, budget.num_fillers), fake_rows.hull_of(known)
        items = np.asarray(
            fit(recommender, sizes, weights, learning_rate, data, audience, rows, hull, users, pool, fit_key)
        )
        return fake_profiles.fakes(known, (items, rated(known, users, items)))

    return generated


def templates(known: fake_profiles.Known) -> tuple[np.ndarray, np.ndarray]:
    """A real user for each fake, [F], drawn from those with items enough, then from those with the most; and all of the
    former, or if nobody has as many those with the most."""
    counts = profiles.matrix(known.interactions) @ known.free.astype(np.int64)
    enough = np.minimum(counts, known.budget.num_fillers)
    order = known.rng.permutation(len(enough))
    chosen = order[np.argsort(-enough[order], kind="stable")][: known.budget.num_fakes]
    return chosen, np.flatnonzero(enough == enough.max())


def rated(known: fake_profiles.Known, users: np.ndarray, items: np.ndarray) -> np.ndarray | None:
    """Ratings of the items [F, n]: those of the users [F], or where they have none the item's mean, on the scale."""
    if known.scale is None:
        return None
    theirs = profiles.ratings(known.interactions)[users].toarray()
    has = profiles.matrix(known.interactions)[users].toarray() > 0
    wanted = np.where(has, theirs, fake_profiles.item_means(known)[None])
    wanted = np.take_along_axis(wanted, items, axis=1)
    return known.scale[np.abs(wanted[..., None] - known.scale).argmin(axis=-1)]


@functools.partial(jax.jit, static_argnames=("surrogate", "sizes"))
def fit(
    surrogate: Surrogate,
    sizes: tuple[int, int, int],
    weights: Weights,
    learning_rate: Scalar,
    data: PyTree,
    audience: Audience,
    real: packed.Rows,
    hull: Hull,
    users: Array,
    pool: Array,
    key: Key,
) -> Array:
    """Trains the two networks in turn, and gives the n items [M, n] that the generator makes of each template.

    Args:
        sizes: Steps, width of the hidden layers, n.
        users: [M], whose rows are templates.
        pool: [P], real users whom the discriminator sees, n of the items of each.
    """
    num_steps, hidden, num_fillers = sizes
    num_items, bits = len(hull.free), real.bits.reshape(-1, real.bits.shape[-1])
    rows = lambda users: (packed.unpack(bits[users], num_items) & hull.free[None]).astype(hull.fixed.dtype)
    makes, judges = _Network(hidden, num_items), _Network(hidden, 1)
    game = _Game(makes, judges, rows(users), hull, num_fillers, weights)
    outer, optimizer = injection.promoting(audience, weights.temperature), optax.adam(learning_rate)

    def of_real(key):
        """n items each of random real users."""
        who_key, what_key = jax.random.split(key)
        whole = rows(jax.random.choice(who_key, pool, (NUM_REAL,)))
        return whole * _largest(whole * jax.random.uniform(what_key, whole.shape, minval=0.5), num_fillers)

    def step(carry, key):
        pair, start = carry
        _, fakes = game.made(pair.generator)
        whole = jnp.where(hull.free[None], fakes, hull.fixed[None])
        (_, solution), slope = injection.inner(surrogate, data, outer, start, whole)
        slope = jnp.where(hull.free[None], slope, 0)
        slope = slope / jnp.maximum(jnp.abs(slope).max(), jnp.finfo(slope.dtype).tiny)
        gradient = jax.grad(game.tells_apart)(pair.discriminator, of_real(key), fakes)
        change, judged = optimizer.update(gradient, pair.discriminator_state)
        discriminator = optax.apply_updates(pair.discriminator, change)
        gradient = jax.grad(game.fools)(pair.generator, discriminator, slope)
        change, moved = optimizer.update(gradient, pair.generator_state)
        pair = Pair(optax.apply_updates(pair.generator, change), moved, discriminator, judged)
        return (pair, surrogate.again(start, solution)), None

    generator_key, discriminator_key, start_key, steps_key = jax.random.split(key, 4)
    generator, discriminator = makes.init(generator_key, game.template), judges.init(discriminator_key, game.template)
    pair = Pair(generator, optimizer.init(generator), discriminator, optimizer.init(discriminator))
    begin = pair, surrogate.init(data, start_key, len(users))
    (pair, _), _ = jax.lax.scan(step, begin, jax.random.split(steps_key, num_steps))
    return jax.lax.top_k(game.made(pair.generator)[0], num_fillers)[1]


def _mean(values: Array, where: Array) -> Array:
    """0 where there is none."""
    return jnp.where(where, values, 0).sum() / jnp.maximum(where.sum(), 1)


def _largest(values: Array, num: int) -> Array:
    """Ones at the `num` largest values of each row [M, I], zeros elsewhere."""
    _, places = jax.lax.top_k(values, num)
    return jax.vmap(lambda places: jnp.zeros(values.shape[1], values.dtype).at[places].set(1))(places)
