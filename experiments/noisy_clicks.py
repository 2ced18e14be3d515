"""Clicks by mistake: do the truncated and the reweighted loss see through them, and what do they do to the tail?

Wang, Feng, He, Nie and Chua, "Denoising Implicit Feedback for Recommendation", WSDM 2021, arXiv:2006.04153. Random
items are planted among each user's training clicks of MovieLens-1M; matrix factorisation is trained on them by binary
cross-entropy, truncated (T-CE) or reweighted (R-CE), at two strengths each. Validation and test items are true clicks;
validation chooses the epoch. The row "true clicks alone" is trained without what was planted, as by a perfect defence.

Expected: NDCG@10 / long tail of the lists: true clicks alone .041 / .054, standard .037 / .033, truncated by .2 .039 /
          .088, reweighted by .1 .037 / .029 (first 2,000 users, one seed, +- .006 over users; docs/defences.md).
Cost:     half a minute of one CPU core a row and seed with --users 2000; by reckoning 90 seconds for all users.
Run:      python -m experiments.noisy_clicks --users 2000 --num-seeds 1
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    rows: tuple[str, ...] = ()  # names of the rows wanted (default: all)
    share: float = 0.2  # of planted clicks among the training interactions
    drop_rates: tuple[float, ...] = (0.1, 0.2)  # of positives that the truncated loss comes to leave out (paper: .1)
    exponents: tuple[float, ...] = (0.1, 0.25)  # of the reweighted loss (paper: chosen in .05 to .25)
    rising_epochs: int = 10  # in which the drop rate rises to its value
    epochs: int = 60  # at most; validation chooses how many
    validate_every: int = 4  # epochs between looks at the validation items
    batch_size: int = 512  # positives a step
    learning_rate: float = 0.05  # of Adagrad, on the sum over the batch
    dimension: int = 32  # length of an embedding
    users: int | None = None  # the first of them only (default: all)
    seed: int = 0  # of the first training, of the validation items and of what is planted
    num_seeds: int = 3  # trainings of each row, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/noisy_clicks/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 200 users


EXPECTED = {
    **dict.fromkeys(("drop_rates", "rising_epochs", "epochs", "validate_every", "batch_size"), command.POSITIVE),
    **dict.fromkeys(("learning_rate", "dimension", "num_seeds", "users"), command.POSITIVE),
    **dict.fromkeys(("share", "exponents", "seed"), command.NON_NEGATIVE),
}
CLEAN = "true clicks alone"


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec.studies import table_records

    if config.smoke:
        config = dataclasses.replace(config, users=200, epochs=4, rising_epochs=2, num_seeds=1)
    data, on, made = parts(config)
    fits = {row.name: row.fit for row in made if row.fit is not None}
    exposures = table_records.exposures(fits[CLEAN].examples(on.split.train))  # the tail of the true clicks
    table_records.execute("noisy_clicks", config, data, on, made, more_exposures=exposures)


def parts(config: Config):
    """The data with planted clicks, the bench, and the rows."""
    import functools

    import numpy as np
    import optax

    from jaxrec import bench, objectives, provenance, splits
    from jaxrec.defences import reweighted, scheduled, truncated
    from jaxrec.models import mf
    from jaxrec.studies import model_table, study

    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=config.users)
    num_true = len(data.split.train)
    split = splits.with_false_positives(data.split, share=config.share, seed=config.seed)
    title = f"{data.title}, {config.share:.0%} of training clicks planted at random"
    data = data._replace(split=split, title=title, fingerprint=provenance.fingerprint(split))
    model = mf.model(num_users=split.train.num_users, num_items=split.train.num_items, dimension=config.dimension)
    steps_an_epoch = -(-len(split.train) // config.batch_size)

    def row(name, objective, examples=lambda pairs: pairs):
        fit = model_table.by_steps(
            model,
            objective,
            optax.adagrad(config.learning_rate, initial_accumulator_value=0.1),
            num_epochs=config.epochs,
            batch_size=config.batch_size,
            validate_every=config.validate_every,
            examples=examples,
        )
        words = f"BCE, 1 negative, d {config.dimension}, Adagrad {config.learning_rate:g}, batch {config.batch_size}"
        return model_table.Row(name, model, words, fit, epochs="best")

    standard = objectives.listwise(model=model)
    truncate = functools.partial(truncated.objective, model=model)
    rising = {r: optax.linear_schedule(0.0, r, config.rising_epochs * steps_an_epoch) for r in config.drop_rates}
    truncate_by = {
        rate: scheduled.schedule(make=lambda drop_rate: truncate(drop_rate=drop_rate), drop_rate=schedule)
        for rate, schedule in rising.items()
    }
    rows = [
        row(CLEAN, standard, lambda pairs: pairs.take(np.arange(num_true))),
        row("standard", standard),
        *(row(f"truncated, {rate:g}", objective) for rate, objective in truncate_by.items()),
        *(row(f"reweighted, {e:g}", reweighted.objective(model=model, exponent=e)) for e in config.exponents),
    ]
    return data, bench.leave_one_out(split, cutoffs=(10,)), rows


if __name__ == "__main__":
    command.run(main, Config)
