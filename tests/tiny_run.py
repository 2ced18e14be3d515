"""A finished run of experiments.ml1m_apr as its readers see it, with tables that were drawn and not trained."""

import json
import pathlib

import jax
import numpy as np
import optax

from jaxrec import checkpoint, provenance, train
from jaxrec.datasets import locate
from jaxrec.models import mf

USERS, ITEMS, DIMENSION = 12, 20, 3
RATE = 0.05


def write_data(folder: pathlib.Path) -> None:
    """Leave-one-out files: users like the items of their own half."""
    rng = np.random.default_rng(0)
    train_lines, test_lines = [], []
    for user in range(USERS):
        liked = rng.permutation(np.arange(user % 2, ITEMS, 2))[:6]
        train_lines += [f"{user}\t{item}" for item in liked[:-1]]
        test_lines.append(f"{user}\t{liked[-1]}")
    train_lines += [f"0\t{item}" for item in range(ITEMS) if f"0\t{item}" not in (*train_lines, test_lines[0])]
    (folder / "ml-1m.train.rating").write_text("\n".join(train_lines) + "\n")
    (folder / "ml-1m.test.rating").write_text("\n".join(test_lines) + "\n")


def write(folder: pathlib.Path, *, seeds=(0, 1)) -> tuple[pathlib.Path, pathlib.Path]:
    """(run directory, folder of its data)"""
    run, data = folder / "run", folder / "data"
    (run / "checkpoints").mkdir(parents=True)
    data.mkdir()
    write_data(data)
    fingerprint = provenance.fingerprint(locate.movielens_1m(data, seed=seeds[0]).split)
    config = {"seed": seeds[0], "num_seeds": len(seeds), "dimension": DIMENSION, "learning_rate": RATE}
    config |= {"epsilon": 0.5, "adv_weight": 0.1}
    (run / "config.json").write_text(json.dumps({"config": config, "data": fingerprint}))
    (run / "results.json").write_text("[]")
    optimizer = optax.adagrad(RATE, initial_accumulator_value=0.1)
    model = mf.model(num_users=USERS, num_items=ITEMS, dimension=DIMENSION, init_scale=1.0)
    for place, stage in enumerate(("bpr", "apr")):
        for seed in seeds:
            key = jax.random.key(10 * place + seed)
            state = train.init_state(model.init(key), optimizer, key)
            with checkpoint.Checkpoints(run / "checkpoints" / f"{stage}-{seed}") as checkpoints:
                checkpoints.save(1, state, {"epoch": 1}, score=0.5)
    return run, data
