"""Predicted ratings on MovieLens-100K, splits ua and ub: the mean, biases, and biased matrix factorisation.

Biases are the shrunk means of Koren, TKDD 2010 (`rating_baselines`); biased MF is that of Koren, Bell and Volinsky,
IEEE Computer 2009 (`models.biased_mf`), trained by SGD. Shrinkages, L2 and epochs are chosen on a tenth of each user's
base, then all of the base is trained on. The two splits hold out ten ratings a user each, none of them in common; the
bar on ua is RMSE .95. Predictions are cut to 1 to 5.

Expected: RMSE / MAE on ua: mean 1.122 / .945, biases .960 / .759, biased MF .931 [.930, .933] / .736; on ub: mean 1.126
          / .951, biases .974 / .772, biased MF .947 [.945, .949] / .747 (MF: 5 seeds; one core of an AMD EPYC).
Cost:     1 minute of one CPU core.
Run:      python -m experiments.ml100k_rating_table
"""

import dataclasses
import pathlib
from typing import Literal

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    split: tuple[Literal["ua", "ub"], ...] = ("ua", "ub")  # a table for each
    l2: tuple[float, ...] = (0.08, 0.1, 0.12, 0.15)  # of both rows, once for each rating; validation chooses
    item_shrinkage: tuple[float, ...] = (0.0, 1.0, 3.0, 10.0, 25.0)  # of item biases, in ratings; validation chooses
    user_shrinkage: tuple[float, ...] = (0.0, 1.0, 3.0, 10.0, 25.0)  # of user biases
    max_epochs: int = 60  # of MF; validation chooses how many of them
    batch_size: int = 512  # ratings a step
    learning_rate: float = 0.01  # of SGD, on the sum over the batch
    dimension: int = 64  # length of an embedding
    init_scale: float = 0.1  # standard deviation of the embeddings' start
    seed: int = 0  # of the first training, of the validation ratings, and of the choice
    num_seeds: int = 5  # trainings of MF, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # holds a run for each split (default: runs/ml100k_rating_table/NAME)
    data_dir: pathlib.Path | None = None  # holds ua.base and the like (default: $JAXREC_DATA, cache, sample)
    smoke: bool = False  # the whole path on 200 users, in well under a minute


SMOKE_USERS = 200
EXPECTED = {
    **dict.fromkeys(("max_epochs", "batch_size", "dimension", "num_seeds", "learning_rate"), command.POSITIVE),
    **dict.fromkeys(("l2", "item_shrinkage", "user_shrinkage", "init_scale", "seed"), command.NON_NEGATIVE),
}
DECIDE_NOTHING = ("run_dir", "data_dir", "split", "num_seeds")  # where things lie, and how much is added to them
PROTOCOL = "predictions of held-out ratings, cut to 1 to 5"


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import display, results, run_directory
    from jaxrec.studies import rating_study, study

    if config.smoke:
        config = dataclasses.replace(config, l2=config.l2[:2], max_epochs=4, num_seeds=2)
    for split in config.split:
        name, num_users = "ml-100k" if split == "ua" else "ml-100k-ub", SMOKE_USERS if config.smoke else None
        data = rating_study.data(name, config.data_dir, seed=config.seed, num_users=num_users)
        own = config.run_dir and config.run_dir / split
        path = own or study.run_path("ml100k_rating_table", data, config, may_change=DECIDE_NOTHING)
        with run_directory.open_run(path, config, data.fingerprint, may_change=DECIDE_NOTHING) as run:
            found = results.write(path, [*by_factorisation(config, data, run), *by_biases(config, data)])
        display.records_table(found, results.table)
        display.say(f"Everything lies in {path}/: results.md, results.json, metrics.jsonl, checkpoints/")


def by_biases(config: Config, data):
    """The records of the mean alone, and of biases around it."""
    from jaxrec import splits
    from jaxrec.studies import rating_baselines

    train, valid, _ = data.split[:3]
    shrinkages = rating_baselines.chosen(
        train, valid, item_shrinkages=config.item_shrinkage, user_shrinkages=config.user_shrinkage
    )
    both, found = splits.joined(train, valid), []
    for model, (item, user) in (("mean rating", (float("inf"),) * 2), ("user and item biases", shrinkages)):
        biases = rating_baselines.biases(both, item_shrinkage=item, user_shrinkage=user)
        predicted = rating_baselines.predictions(biases, data.split.test)
        chosen = item < float("inf")
        words = f"shrinkage {item:g} of items, {user:g} of users, chosen on validation" if chosen else "none"
        found += records_of(data, model, words, [predicted], seeds=(config.seed,), chosen=chosen)
    return found


def by_factorisation(config: Config, data, run):
    """The records of biased MF."""
    import optax

    from jaxrec import rating_attack
    from jaxrec.models import biased_mf
    from jaxrec.studies import rating_study

    train, test = data.split.train, data.split.test
    model = biased_mf.model(
        num_users=train.num_users,
        num_items=train.num_items,
        dimension=config.dimension,
        init_scale=config.init_scale,
        mean=rating_study.mean_rating(train),
    )
    optimizer = optax.sgd(config.learning_rate)
    setting = rating_study.Setting(model, data, optimizer, config.batch_size, config.max_epochs)
    seeds = range(config.seed, config.seed + config.num_seeds)
    choice, states = rating_study.trained(run, setting, l2s=config.l2, seeds=seeds)
    predicted = [rating_attack.predictions(model, {**state.trained, "given": {}}, test) for state in states]
    words = f"SGD, L2 {choice.l2:g} and {choice.num_epochs} epochs chosen on validation, seed {config.seed}"
    return records_of(data, f"biased MF {config.dimension}", words, predicted, seeds=tuple(seeds), chosen=True)


def records_of(data, model: str, training: str, predicted: list, *, seeds: tuple[int, ...], chosen: bool):
    """A record for each error, of predictions for each seed; several seeds have an interval over them."""
    import numpy as np

    from jaxrec import provenance, rating_metrics, records, summaries
    from jaxrec.studies import rating_study

    test = data.split.test
    common = {
        "experiment": "ml100k_rating_table", "model": model, "dataset": data.title, "split": data.split_title,
        "protocol": PROTOCOL, "k": None, "seeds": seeds, "users": len(np.unique(test.users)), "step": None,
        "chosen_by": "validation" if chosen else None, "device": provenance.device(), "commit": provenance.commit(),
        "training": f"{training}; on training and validation ratings together", "defence": None,
        "fingerprint": data.fingerprint["sha256"], **records.NOBODY,
    }  # fmt: skip
    errors = [rating_metrics.errors(one, rating_study.ratings_of(test)) for one in predicted]
    of = lambda metric: summaries.of_seeds([one[metric] for one in errors], **common, metric=metric)
    return [of(metric) for metric in ("rmse", "mae")]


if __name__ == "__main__":
    command.run(main, Config)
