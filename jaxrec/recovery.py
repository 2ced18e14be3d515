"""What a defender does with suspicion: leaves users out of the training, or lets them count for less.

A user who is left out keeps their number, so that ids fit, and is served all the same: `Model.knowing(params, all)`
gives models that score by histories theirs back, `Model.solve_users` and `fold_in` give users of a factorisation, or of
a graph (LightGCN), a row.
"""

import jax
import numpy as np
import optax

from jaxrec import loop, train
from jaxrec.types import Interactions, Key, Model, Objective, Params


def remove(interactions: Interactions, suspicion: np.ndarray, *, share: float) -> Interactions:
    """Without the interactions of the `share` of users who are most suspicious.

    Of users who are equally suspicious the first are taken: fakes come last in what `fake_profiles.contaminate` makes,
    so that a detector which cannot tell users apart removes real ones.

    Args:
        suspicion: [U], from a `Detector`.
        share: In [0, 1], rounded to whole users. A defender does not know how many fakes there are.

    Raises:
        ValueError: If `share` lies outside [0, 1], or `suspicion` is not one finite number a user.
    """
    _check(interactions, suspicion)
    if not 0 <= share <= 1:
        raise ValueError(f"Expected share in [0, 1], got share={share}.")
    removed = np.argsort(-suspicion, kind="stable")[: round(share * interactions.num_users)]
    kept = np.ones(interactions.num_users, bool)
    kept[removed] = False
    return interactions.take(kept[interactions.users])


def down_weight(key: Key, interactions: Interactions, suspicion: np.ndarray) -> Interactions:
    """Keeps each interaction with a chance that falls with its user's rank by suspicion, from 1 to 0.

        chance(u) = 1 - (share of users who are less suspicious than u)^8

    A victim's interactions then weigh, on average, that much, whatever kind of model it is: the median user's 99.6 %,
    those of the most suspicious twentieth 18 %.

    Args:
        key: Decides which interactions stay.
        suspicion: [U].

    Raises:
        ValueError: If `suspicion` is not one finite number a user.
    """
    _check(interactions, suspicion)
    below = np.searchsorted(np.sort(suspicion), suspicion) / max(len(suspicion), 1)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    return interactions.take(rng.random(len(interactions)) < (1 - below**8)[interactions.users])


def fold_in(
    model: Model,
    objective: Objective,
    params: Params,
    pairs: Interactions,
    *,
    num_epochs: int,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 512,
    seed: int = 0,
    trainer: train.Trainer | None = None,
) -> Params:
    """Trains the rows of users who were left out, beside all else as it is: nobody else is served other.

    Args:
        model: Its user tables are those that `Model.reads` has read by "users" alone (`models.mf`, `models.neumf`).
        objective: What a step minimises, such as `objectives.pairwise`.
        params: Of the training without them.
        pairs: Their interactions; none leaves the params as they are.
        num_epochs, batch_size, seed: Of the training on these pairs.
        optimizer: SGD at .05 by default; one that leaves rows alone whose gradient is 0.
        trainer: Of `of_users(model, objective)` and this optimiser, compiled once; made by default.

    Raises:
        ValueError: If the model has no such table.
    """
    if not len(pairs):
        return params
    return loop.fit_in_memory(
        model,
        of_users(model, objective),
        pairs,
        num_epochs=num_epochs,
        batch_size=batch_size,
        optimizer=optax.sgd(0.05) if optimizer is None else optimizer,
        seed=seed,
        start=params,
        trainer=trainer,
    )


def of_users(model: Model, objective: Objective) -> Objective:
    """The objective whose gradient is that by the rows of users, and 0 by all else.

    Raises:
        ValueError: If the model has no table of users.
    """
    if not (names := user_tables(model)):
        raise ValueError("Expected a model with a table of users' rows.")

    def objective_of_users(params, batch, key, reduce):
        frozen = jax.lax.stop_gradient(params)
        tables = {**frozen["tables"], **{name: params["tables"][name] for name in names}}
        return objective({**frozen, "tables": tables}, batch, key, reduce)

    return objective_of_users


def user_tables(model: Model) -> list[str]:
    """The names of the tables whose rows are users."""
    return [name for name, columns in (model.reads or {}).items() if tuple(columns) == ("users",)]


def left_out(interactions: Interactions, known: Interactions) -> np.ndarray:
    """bool [U]: the users of whom something is known, and who have nothing in `interactions`."""
    return np.isin(np.arange(known.num_users), known.users) & ~np.isin(np.arange(known.num_users), interactions.users)


def _check(interactions: Interactions, suspicion: np.ndarray) -> None:
    """Raises a ValueError unless there is one finite number a user."""
    if suspicion.shape != (interactions.num_users,) or not np.isfinite(suspicion).all():
        raise ValueError(f"Expected a finite suspicion of {interactions.num_users} users, got {suspicion.shape}.")
