"""Sequence models on Amazon Beauty (5-core, in order of time): the last item, full ranking.

22,363 users, 12,101 items, 198,502 events, nine a user: S3-Rec's files. The protocol of ml1m_sequential_table. Such
short histories are where item-kNN is hard to beat.

Expected: HR / NDCG@10 of item-kNN .066 / .039, and after 10 epochs of GRU4Rec .065 / .036, HSTU .064 / .036, SASRec
          .059 / .032, BERT4Rec .026 / .013 (one seed, one thread of an AMD EPYC, commit 3bb0b85; docs/models.md).
Cost:     7 seconds of CPU an epoch for HSTU, 15 for the others.
Run:      python -m experiments.amazon_sequential_table --epochs 10
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    rows: tuple[str, ...] = ()  # names of the models wanted (default: all)
    epochs: int = 20  # of each model trained by steps; validation chooses how many
    batch_size: int = 256  # histories a step
    learning_rate: float = 1e-3  # of Adam
    max_length: int = 50  # newest items of a history that are read
    validate_every: int = 2  # epochs between looks at the validation items
    seed: int = 0  # of the first training
    num_seeds: int = 1  # trainings of each model, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/amazon_sequential_table/NAME)
    data_dir: pathlib.Path | None = None  # holds amazon-s3rec-sequences/Beauty.txt (default: $JAXREC_DATA)
    smoke: bool = False  # the whole path on 100 users, one epoch


SMOKE_USERS = 100
EXPECTED = {
    **dict.fromkeys(("epochs", "batch_size", "validate_every", "num_seeds"), command.POSITIVE),
    "max_length": command.Expected(">= 2", lambda value: value >= 2),  # the last item of a history has one before it
    "learning_rate": command.POSITIVE,
    "seed": command.NON_NEGATIVE,
}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec.studies import table_records

    if config.smoke:
        config = dataclasses.replace(config, epochs=1, validate_every=1)
    data, on, rows = parts(config)
    table_records.execute("amazon_sequential_table", config, data, on, rows)


def parts(config: Config):
    """The data, the bench, and the models."""
    import optax

    from jaxrec import bench, losses, sequences
    from jaxrec.models import bert4rec, gru4rec, hstu, item_knn, popularity, sasrec
    from jaxrec.studies import model_table, study

    data = study.published_split("beauty", config.data_dir, num_users=SMOKE_USERS if config.smoke else None)
    train, length = data.split.train, config.max_length
    sizes = {"num_users": train.num_users, "num_items": train.num_items}

    def trained(name, model, objective, words):
        fit = model_table.by_steps(
            model,
            objective,
            optax.adam(config.learning_rate, b2=0.98),
            num_epochs=config.epochs,
            batch_size=config.batch_size,
            validate_every=config.validate_every,
            examples=sequences.examples,
        )
        schedule = f"Adam {config.learning_rate:g}, {config.batch_size} histories a step, {words}"
        return model_table.Row(name, model, schedule, fit, epochs="best")

    def next_item(name, model, words):
        objective = sequences.next_item(
            model=model, num_items=train.num_items, num_negatives=128, loss=losses.softmax, piece_size=8
        )
        return trained(name, model, objective, f"{words}, cosine over .05, softmax over 128 negatives a history")

    cosine = {"num_items": train.num_items, "max_length": length, "dropout": 0.5, "temperature": 0.05}
    attention, transducer, recurrent = (made.model(**cosine) for made in (sasrec, hstu, gru4rec))
    masked = bert4rec.model(num_items=train.num_items, max_length=length, dropout=0.5)
    by_mask = bert4rec.objective(model=masked, num_items=train.num_items, num_negatives=128)
    neighbours = item_knn.model(**sizes, weighting="tfidf", asymmetry=0.4)
    rows = [
        model_table.Row("popularity", popularity.model(**sizes), "counts", seeds=1),
        model_table.Row("item-kNN", neighbours, "100 neighbours, TF-IDF, asymmetry .4", seeds=1),
        next_item("SASRec", attention, "d 50"),
        next_item("HSTU", transducer, "d 50"),
        next_item("GRU4Rec", recurrent, "d 64, 128 hidden"),
        trained("BERT4Rec", masked, by_mask, "d 64, masks .2, softmax over 128 negatives"),
    ]
    return data, bench.leave_one_out(data.split, cutoffs=(10, 50, 100)), rows


if __name__ == "__main__":
    command.run(main, Config)
