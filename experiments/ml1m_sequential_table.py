"""Sequence models on MovieLens-1M in order of time: the last item, full ranking, beside published figures.

The protocol of the gSASRec and generative-recommenders tables: 3,416 items with at least 5 events, each user's last
item for the test and the one before for validation, ranked among all items that the user has not seen. A model is
trained on what comes before the validation item, its epoch chosen by validation NDCG@10, and ranks the test item with
the validation item in its history.

Expected: HR / NDCG@10 after 101 epochs of HSTU .305 / .172, SASRec, sampled softmax .288 / .158, GRU4Rec .285 / .162,
          gSASRec .275 / .156, SASRec, BCE .242 / .127, Caser .241 / .134, BERT4Rec .227 / .124; item-kNN .082 / .043
          (one seed, one CPU thread, commits c7e7df4, bbe83ed and f108733; docs/models.md).
Cost:     10 or 11 seconds of CPU an epoch for SASRec, HSTU and Caser, 14 for GRU4Rec and gSASRec, 22 for BERT4Rec.
Run:      python -m experiments.ml1m_sequential_table --epochs 101 --rows "SASRec, sampled softmax" HSTU
          python -m experiments.ml1m_sequential_table --data ratings.csv --rows HSTU GRU4Rec
"""

import dataclasses
import pathlib
from typing import Literal

from jaxrec import command, errors, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    rows: tuple[str, ...] = ()  # names of the models wanted (default: all)
    epochs: int = 20  # of each model trained by steps; validation chooses how many
    batch_size: int = 128  # histories a step
    learning_rate: float = 1e-3  # of Adam
    max_length: int = 200  # newest items of a history that are read
    piece_size: int = 4  # histories whose gradient is taken at a time: 4 for a CPU, the batch size for a GPU
    compute_dtype: Literal["float32", "bfloat16"] = "float32"  # of activations and products of the attention models
    validate_every: int = 4  # epochs between looks at the validation items
    seed: int = 0  # of the first training
    num_seeds: int = 1  # trainings of each model, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/ml1m_sequential_table/NAME)
    data_dir: pathlib.Path | None = None  # holds movielens-1m/sequences.txt (default: $JAXREC_DATA)
    data: pathlib.Path | None = None  # a table of your own instead: .csv, .tsv, .inter or .parquet, with times
    smoke: bool = False  # the whole path on 100 users, tiny models, one epoch


SMOKE_USERS = 100
EXPECTED = {
    **dict.fromkeys(("epochs", "batch_size", "piece_size", "validate_every", "num_seeds"), command.POSITIVE),
    "max_length": command.Expected(">= 2", lambda value: value >= 2),  # the last item of a history has one before it
    "learning_rate": command.POSITIVE,
    "seed": command.NON_NEGATIVE,
}
PUBLISHED = {  # gSASRec's and generative-recommenders' READMEs
    "SASRec, BCE": {"hit_rate@10": 0.2392, "ndcg@10": 0.1259},
    "SASRec, sampled softmax": {"hit_rate@10": 0.2853, "ndcg@10": 0.1603},
    "gSASRec": {"hit_rate@10": 0.3003, "ndcg@10": 0.1726},
    "GRU4Rec": {"hit_rate@10": 0.2811, "ndcg@10": 0.1648},
    "BERT4Rec": {"hit_rate@10": 0.2821, "ndcg@10": 0.1516},
    "HSTU": {"hit_rate@10": 0.3097, "ndcg@10": 0.1720},
}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec.studies import table_records

    if config.smoke:
        config = dataclasses.replace(config, epochs=1, validate_every=1, max_length=20)
    data, on, made = parts(config)
    published = {} if config.data else PUBLISHED
    table_records.execute("ml1m_sequential_table", config, data, on, made, published=published)


def parts(config: Config):
    """The data, the bench, and every sequence model, with its losses."""
    import optax

    from jaxrec import bench, losses, sequences
    from jaxrec.models import bert4rec, caser, gru4rec, hstu, item_knn, popularity, sasrec
    from jaxrec.studies import model_table, study

    num_users = SMOKE_USERS if config.smoke else None
    if config.data is None:
        data = study.published_split("ml-1m-sequences", config.data_dir, num_users=num_users)
    else:
        data = study.own_file(config.data, seed=config.seed, num_users=num_users)
        if data.split.train.timestamps is None:
            raise errors.InputError(f"Expected --data with times, the order of histories; {config.data} has none.")
    train, length = data.split.train, config.max_length
    sizes = {"num_users": train.num_users, "num_items": train.num_items}
    adam = optax.adam(config.learning_rate, b2=0.98)

    def trained(name, model, objective, words):
        fit = model_table.by_steps(
            model,
            objective,
            adam,
            num_epochs=config.epochs,
            batch_size=config.batch_size,
            validate_every=config.validate_every,
            examples=sequences.examples,
        )
        schedule = f"Adam {config.learning_rate:g}, {config.batch_size} histories a step, {words}"
        return model_table.Row(name, model, schedule, fit, epochs="best")

    def next_item(name, model, loss, num_negatives, words, negatives="user", piece_size=config.piece_size):
        objective = sequences.next_item(
            model=model,
            num_items=train.num_items,
            num_negatives=num_negatives,
            loss=loss,
            negatives=negatives,
            piece_size=piece_size,
        )
        each = {"user": "history", "place": "place"}[negatives]
        return trained(name, model, objective, f"{words}, {num_negatives} negatives a {each}")

    num_negatives = 256 if train.num_items > 256 else 1
    calibrated = losses.gbce(num_items=train.num_items, num_negatives=num_negatives)
    attentive = {**sizes, "max_length": length, "compute_dtype": config.compute_dtype}
    attention, masked, transducer = (made.model(**attentive) for made in (sasrec, bert4rec, hstu))
    cosine = sasrec.model(**attentive, temperature=0.05)
    recurrent = gru4rec.model(num_items=train.num_items, max_length=length, temperature=0.05)
    by_mask = bert4rec.objective(model=masked, num_items=train.num_items, piece_size=config.piece_size)
    neighbours = item_knn.model(**sizes, weighting="tfidf", asymmetry=0.4)
    rows = [
        model_table.Row("popularity", popularity.model(**sizes), "counts", seeds=1),
        model_table.Row("item-kNN", neighbours, "100 neighbours, TF-IDF, asymmetry .4", seeds=1),
        next_item("SASRec, BCE", attention, losses.bce, 1, "d 50", "place"),
        next_item("SASRec, sampled softmax", cosine, losses.softmax, 128, "d 50, cosine over .05"),
        next_item("gSASRec", attention, calibrated, num_negatives, "d 50, t .75"),
        next_item("HSTU", transducer, losses.softmax, 128, "d 50, cosine over .05"),
        next_item(
            "GRU4Rec",
            recurrent,
            losses.softmax,
            128,
            "d 64, 128 hidden, cosine over .05",
            piece_size=min(4 * config.piece_size, config.batch_size),
        ),
        next_item("Caser", caser.model(**sizes, max_length=length), losses.bce, 3, "d 50, window 5", "place"),
        trained("BERT4Rec", masked, by_mask, "d 64, masks .2"),
    ]
    return data, bench.leave_one_out(data.split, cutoffs=(10, 50, 100)), rows


if __name__ == "__main__":
    command.run(main, Config)
