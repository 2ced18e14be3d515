"""What an adversary with targets raises: items to move up or down in the lists, or predicted ratings to change.

They are built and used as those of `adversaries`. `push` and `pull` too measure scores in units of their spread.

    push, pull  a set of target items, up or down every list
    rating      predicted ratings, from 4 to 1, in stars
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import adversaries, checks, oracles
from jaxrec.adversaries import Adversary
from jaxrec.types import Array, Scalar, check_ids


def push(targets: np.ndarray, *, temperature: Scalar = 1.0) -> Adversary:
    """Builds the adversary who promotes items: mean log softmax of each target among each user's unseen items.

    Pairs of a user and a target that the user has seen are left out. Promotion as in Tang, Wen and Wang, "Revisiting
    Adversarially Learned Injection Attacks Against Recommender Systems", RecSys 2020, arXiv:2008.04876.

    Args:
        targets: int [T], item ids.
        temperature: In units of the spread of the clean scores.

    Raises:
        ValueError: If there are no targets or one comes twice, or `temperature` is not positive and finite; once the
            catalogue is known, if an id lies outside it.
    """
    _check_targets(targets)
    checks.positive(temperature=temperature)

    def of_chunk(chunk, spread):
        is_target = _targets(targets, chunk)
        unseen = chunk.unseen() / (temperature * spread)
        # A user who has seen everything has no softmax, and no target either.
        log_total = jax.nn.logsumexp(jnp.where(chunk.some_unseen(), unseen, 0), axis=1, keepdims=True)
        where = is_target & jnp.isfinite(unseen) & chunk.is_user[:, None]
        return adversaries.sum_where(jnp.where(where, unseen, 0) - log_total, where)

    return adversaries.over_users(of_chunk)


def pull(targets: np.ndarray, *, temperature: Scalar = 1.0) -> Adversary:
    """Builds the adversary who demotes items: mean over users of log(1 - P), P the softmax mass of all targets.

    The softmax is that over a user's unseen items. Users who lack an unseen target, or an unseen item that is none, are
    left out.

    Args:
        targets, temperature: As in `push`.

    Raises:
        ValueError: As `push` does.
    """
    _check_targets(targets)
    checks.positive(temperature=temperature)

    def of_chunk(chunk, spread):
        is_target = _targets(targets, chunk)
        unseen = chunk.unseen() / (temperature * spread)
        others = jnp.where(is_target, -jnp.inf, unseen)
        has_target = jnp.any(is_target & jnp.isfinite(unseen), axis=1)
        where = chunk.is_user & has_target & jnp.any(jnp.isfinite(others), axis=1)
        log_total, log_others = (
            jax.nn.logsumexp(jnp.where(where[:, None], scores, 0), axis=1) for scores in (unseen, others)
        )
        return adversaries.sum_where(log_others - log_total, where)

    return adversaries.over_users(of_chunk)


def rating(
    users: np.ndarray,
    items: np.ndarray,
    *,
    where: Array | None = None,
    target: float = 1.0,
    piece_size: int = 16_384,
) -> Adversary:
    """Builds the adversary who drives predicted ratings to `target`: minus the mean squared error to it.

    Args:
        users, items: int [N], the predictions to change, such as all that are 4 or more.
        where: bool [N], which of them count (all by default). May be traced, so that models that predict differently
            are attacked by one compiled function.
        target: In the model's units, such as 1 star.
        piece_size: Predictions whose gradient is taken at a time.

    Raises:
        ValueError: If there are no pairs, the columns or `where` differ in length, `target` is not finite or
            `piece_size < 1`; once the model is known, if an id lies outside its tables.
    """
    checks.counts(piece_size=piece_size)
    if len(users) != len(items) or not len(users):
        raise ValueError(f"Expected as many users as items, at least one, got {len(users)} and {len(items)}.")
    if where is not None and where.shape != (len(users),):
        raise ValueError(f"Expected where of shape ({len(users)},), got {where.shape}.")
    if not np.isfinite(target):
        raise ValueError(f"Expected a finite target, got target={target}.")

    def adversary(model, params, surface, known):
        check_ids(users, len(known.chunks.places), "users")
        check_ids(items, jax.eval_shape(model.score_all, params, known.chunks.users[0]).shape[1], "items")

        def adversary_losses(key, x):
            del key
            perturbed = surface.put(params, x)
            score = jax.checkpoint(lambda pair: model.score(perturbed, *pair))
            scores = jax.lax.map(score, (jnp.asarray(users), jnp.asarray(items)), batch_size=piece_size)
            counts = jnp.ones(len(users), bool) if where is None else where
            total = jnp.sum(jnp.where(counts, jnp.square(scores - target), 0), keepdims=True)
            return -total / jnp.maximum(jnp.sum(counts), 1)

        return oracles.white_box(adversary_losses)

    return adversary


def _targets(targets: np.ndarray, chunk: adversaries.Chunk) -> Array:
    """bool [1, I], true for the target items."""
    num_items = chunk.scores.shape[1]
    check_ids(targets, num_items, "targets")
    return jnp.asarray(np.isin(np.arange(num_items), targets)[None])


def _check_targets(targets: np.ndarray) -> None:
    """Raises a ValueError unless there are targets, none of them twice."""
    if not len(targets) or len(np.unique(targets)) < len(targets):
        raise ValueError(f"Expected at least one target, each once, got targets={targets}.")
