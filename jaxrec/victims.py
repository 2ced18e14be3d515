"""Trained models to be measured: out of a run directory, or factor matrices that came from any other library."""

import functools
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec import audit, checkpoint, provenance, splits, surfaces, train
from jaxrec.certificates import dot_product
from jaxrec.datasets import indexing, interactions_file, locate, titles
from jaxrec.models import biased_mf, mf
from jaxrec.types import InputError, Interactions, Params, Split

Path = str | os.PathLike[str]
BOTH = surfaces.tables("user", "item")  # one value, as `robustness.measure` compiles for each surface anew
SMOKE_USERS = 200  # as many as the smoke runs of experiments.ml1m_apr take


class Loaded(NamedTuple):
    """A victim, and what is known about it.

    Attributes:
        about: {what: in words}, for a report.
        notes: What a reader should bear in mind, a sentence each.
        fingerprint: SHA-256 of the data.
        step: The optimiser's step that was taken; None where it is not known.
    """

    victim: audit.Victim
    model: str
    defence: str | None
    dataset: str
    about: dict[str, str]
    notes: list[str]
    fingerprint: str
    step: int | None
    training: str


def of_run(run_dir: Path, *, stage: str = "bpr", seed: int | None = None, data_dir: Path | None = None) -> Loaded:
    """The model of a run of `experiments.ml1m_apr`, at the epoch that validation chose.

    Args:
        run_dir: The run directory.
        stage: "bpr" or "apr".
        seed: Of the training; the run's first by default.
        data_dir: Where the data of the run lie now, as in `locate.movielens_1m`.

    Raises:
        InputError: If it is no such run, the training is not there or has no scored checkpoint, or the data are others.
    """
    path = pathlib.Path(run_dir)
    try:
        recorded = json.loads((path / "config.json").read_text())
        config, sha256 = recorded["config"], recorded["data"]["sha256"]
        dimension, first_seed = int(config["dimension"]), int(config["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Expected a run directory of experiments.ml1m_apr, got {path}: {error!r}.") from None
    located = locate.movielens_1m(data_dir, seed=first_seed)
    split = splits.first_users(located.split, num=SMOKE_USERS) if config.get("smoke") else located.split
    fingerprint = provenance.fingerprint(split)["sha256"]
    if fingerprint != sha256:
        raise InputError(
            f"Expected the data that {path} was trained on (SHA-256 {sha256[:16]}), got {located.path} "
            f"({fingerprint[:16]}): name their folder with --data-dir."
        )
    seed = first_seed if seed is None else seed
    model = _mf(num_users=split.train.num_users, num_items=split.train.num_items, dimension=dimension)
    params, step = _best(path / "checkpoints" / f"{stage}-{seed}", model.init, float(config["learning_rate"]))
    dataset = "the MovieLens SAMPLE, not MovieLens-1M" if located.is_sample else located.name
    notes = [f"Every figure is of {dataset}."] if located.is_sample or config.get("smoke") else []
    training = f"{stage.upper()} of {path}, seed {seed}, step {step}, chosen by validation"
    names = audit.names(split.train, titles.find(located.name, located.path))
    victim = audit.Victim(model, params, split, BOTH, _factors_of_mf, names["users"], names["items"])
    about = {"model": f"MF {dimension}, {training}", "data set": dataset}
    defence = None if stage == "bpr" else stage.upper()
    return Loaded(victim, f"MF {dimension}", defence, dataset, about, notes, fingerprint, step, training)


def seeds_of(run_dir: Path) -> list[int]:
    """The seeds of a finished run of `experiments.ml1m_apr`.

    Raises:
        InputError: If it is no such run, or is not finished.
    """
    path = pathlib.Path(run_dir)
    try:
        config = json.loads((path / "config.json").read_text())["config"]
        seeds = range(int(config["seed"]), int(config["seed"]) + int(config["num_seeds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Expected a run directory of experiments.ml1m_apr, got {path}: {error!r}.") from None
    if not (path / "results.json").exists():
        raise InputError(f"Expected a finished run, got {path} without results.json: start its command again.")
    return list(seeds)


_mf = functools.lru_cache(mf.model)  # what is compiled for one training of a run then serves the others


def _best(path: pathlib.Path, init: Any, learning_rate: float) -> tuple[Params, int]:
    if not path.is_dir():
        there = sorted(other.name for other in path.parent.glob("*-*")) if path.parent.is_dir() else []
        raise InputError(f"Expected a training in {path}, got none; there are: {', '.join(there) or 'no others'}.")
    optimizer = optax.adagrad(learning_rate, initial_accumulator_value=0.1)
    key = jax.random.key(0)
    template = train.init_state(init(key), optimizer, key)
    best = checkpoint.best(path, template)
    if best is None:
        raise InputError(f"Expected a scored checkpoint in {path}, got none: the training has not come to one yet.")
    return {**best.state.trained, "given": {}}, best.step


def _factors_of_mf(params: Params) -> dot_product.Factors:
    return dot_product.Factors(params["tables"]["user"], params["tables"]["item"])


def _factors_of_biased_mf(params: Params) -> dot_product.Factors:
    user, item = params["tables"]["user"], params["tables"]["item"]
    return dot_product.Factors(user[:, :-1], item[:, :-1], item[:, -1])


def of_factors(
    user_factors: Path,
    item_factors: Path,
    interactions: Path,
    *,
    held_out: Path | None = None,
    item_bias: Path | None = None,
    seed: int = 0,
) -> Loaded:
    """A model that ranks by dot products of two matrices, and item biases if it has them.

    Args:
        user_factors: .npy [U, D].
        item_factors: .npy [I, D].
        interactions: A table as in `interactions_file.load`, whose ids are row numbers of the matrices, from 0.
        held_out: A table of the same kind with at most one item a user, which the model was not trained on. Without
            one the last item of each user in `interactions` who has three or more is ranked (a random one where there
            are no times).
        item_bias: .npy [I].
        seed: Of the held-out items without times.

    Raises:
        InputError: If a file is not what it should be, matrices do not fit each other, or an id is no row of them.
    """
    user, item = (_matrix(path, 2) for path in (user_factors, item_factors))
    if user.shape[1] != item.shape[1]:
        raise InputError(
            f"Expected factors of one length, got {user_factors} with {user.shape[1]} columns and {item_factors} "
            f"with {item.shape[1]}."
        )
    bias = None if item_bias is None else _matrix(item_bias, 1)
    if bias is not None and len(bias) != len(item):
        raise InputError(f"Expected a bias for each of {len(item)} items in {item_bias}, got {len(bias)}.")
    known = _by_rows(interactions, len(user), len(item))
    notes = ["Ids are row numbers of the factor matrices."]
    if held_out is None:
        split = splits.leave_one_out(known, seed=seed)
        if not len(split.test):
            raise InputError(
                f"Expected a user with three items or more in {interactions}, or held-out items; got none."
            )
        notes.append(
            "No held-out items were given: each user's last item is ranked, which the model may have been trained on. "
            "Clean figures are then too good."
        )
    else:
        test = _by_rows(held_out, len(user), len(item))
        if len(np.unique(test.users)) < len(test):
            raise InputError(f"Expected at most one held-out item a user in {held_out}, got more.")
        split = Split(train=known, valid=indexing.none_of(known), test=test)
    dimension = user.shape[1]
    if bias is None:
        model = mf.model(num_users=len(user), num_items=len(item), dimension=dimension)
        surface, factors = BOTH, _factors_of_mf
    else:
        model = biased_mf.model(num_users=len(user), num_items=len(item), dimension=dimension)
        surface, factors = surfaces.columns(BOTH, dimension), _factors_of_biased_mf
        user, item = np.pad(user, ((0, 0), (0, 1))), np.concatenate([item, bias[:, None]], axis=1)
        notes.append("Item biases count in every score; the adversary leaves them alone.")
    params = {"tables": {"user": jnp.asarray(user), "item": jnp.asarray(item)}, "weights": {}, "given": {}}
    names = audit.names(split.train)
    victim = audit.Victim(model, params, split, surface, factors, names["users"], names["items"])
    name = f"factors of length {dimension}{'' if bias is None else ' with item biases'}"
    about = {"model": f"{name}: {user_factors}, {item_factors}", "data set": str(interactions)}
    fingerprint = provenance.fingerprint(split)["sha256"]
    return Loaded(victim, name, None, str(interactions), about, notes, fingerprint, None, "given")


def _matrix(path: Path, num_axes: int) -> np.ndarray:
    """A .npy file as float32; no pickle is ever loaded."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"Expected a .npy file of numbers, got {path}: {str(error).splitlines()[0]}") from None
    if not isinstance(array, np.ndarray) or array.ndim != num_axes or array.dtype.kind not in "fiu" or not array.size:
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"Expected {path} to hold numbers with {num_axes} axes, got {got}.")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        place = tuple(map(int, np.argwhere(~np.isfinite(numbers))[0]))
        raise InputError(f"Expected finite float32 numbers in {path}, got {array[place]} at {list(place)}.")
    return numbers


def _by_rows(path: Path, num_users: int, num_items: int) -> Interactions:
    """A file's interactions with its own ids as indices."""
    rows = interactions_file.read(path, {}, rating_scale=None)
    for name, ids, num in (("user", rows.users, num_users), ("item", rows.items, num_items)):
        if ids.max() >= num:
            raise InputError(
                f"Expected {name} ids in [0, {num}), row numbers of the factors, in {path}, got {ids.max()}."
            )
    return indexing.interactions(rows, np.arange(num_users), np.arange(num_items))
