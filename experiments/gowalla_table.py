"""Clean models on Gowalla in LightGCN's split: recall and NDCG at 20.

29,858 users and 40,981 items; a user's several test items are ranked among all items that are not known. Settings and
epochs are chosen on the published validation lists; then a model is trained on training and validation lists together,
which are LightGCN's training set. LightGCN's full schedule, 1,000 epochs, is for a GPU: here a few epochs show whether
the curve is on track.

Expected: recall / NDCG@20 of iALS .131 / .117, and after 10 epochs of LightGCN .108 / .095, MF .066 / .059 (one seed,
          one thread of an AMD EPYC, commit 3bb0b85; docs/models.md).
Cost:     14 seconds of CPU an epoch for LightGCN, 2 for MF; iALS a minute.
Run:      python -m experiments.gowalla_table --rows popularity LightGCN --epochs 4
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    rows: tuple[str, ...] = ()  # names of the models wanted (default: all)
    epochs: int = 4  # at most, of LightGCN and MF; validation chooses how many
    batch_size: int = 8192  # pairs a step (paper: 2,048)
    dimension: int = 64  # of an embedding
    learning_rate: float = 1e-3  # of Adam
    seed: int = 0  # of the first training
    num_seeds: int = 1  # trainings of each model that has chance in it, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/gowalla_table/NAME)
    data_dir: pathlib.Path | None = None  # holds gowalla/train.txt and its sisters (default: $JAXREC_DATA)
    smoke: bool = False  # the whole path on 300 users, tiny models, one epoch


SMOKE_USERS = 300
EXPECTED = {
    **dict.fromkeys(("epochs", "batch_size", "dimension", "learning_rate", "num_seeds"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}
PUBLISHED = {  # LightGCN's README; BARS for MF and EASE
    "MF, BPR": {"recall@20": 0.1627, "ndcg@20": 0.1378},
    "EASE": {"recall@20": 0.1765, "ndcg@20": 0.1467},
    "LightGCN": {"recall@20": 0.1824, "ndcg@20": 0.1554},
}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec.studies import table_records

    if config.smoke:
        config = dataclasses.replace(config, epochs=1, dimension=8)
    data, on, rows = parts(config)
    table_records.execute("gowalla_table", config, data, on, rows, published=PUBLISHED)


def parts(config: Config):
    """The data, the bench of lists, and the models that fit into this machine: EASE's inverse would take 13 GB."""
    import optax

    from jaxrec import bench, objectives
    from jaxrec.models import ials, item_knn, lightgcn, mf, popularity
    from jaxrec.studies import model_table, study

    data = study.published_split("gowalla", config.data_dir, num_users=SMOKE_USERS if config.smoke else None)
    sizes = {"num_users": data.split.train.num_users, "num_items": data.split.train.num_items}
    d = config.dimension

    def by_pairs(name, model, words):
        fit = model_table.by_steps(
            model,
            objectives.pairwise(model=model, l2=1e-4),
            optax.adam(config.learning_rate),
            num_epochs=config.epochs,
            batch_size=config.batch_size,
            validate_every=2,
        )
        schedule = f"d {d}, {words}L2 .0001, Adam {config.learning_rate:g}, batch {config.batch_size}"
        return model_table.Row(name, model, schedule, fit)

    neighbours = item_knn.model(**sizes, num_neighbours=100, asymmetry=0.4, weighting="tfidf")
    factors = ials.model(**sizes, dimension=d, l2=0.003, unobserved_weight=0.1)
    rows = [
        model_table.Row("popularity", popularity.model(**sizes), "counts", seeds=1),
        model_table.Row("item-kNN", neighbours, "100 neighbours, TF-IDF, asymmetry .4", seeds=1),
        model_table.Row("iALS", factors, f"d {d}, L2 .003, weight .1, 12 epochs"),
        by_pairs("MF, BPR", mf.model(**sizes, dimension=d, init_scale=0.1), ""),
        by_pairs("LightGCN", lightgcn.model(**sizes, dimension=d), "3 layers, "),
    ]
    return data, bench.held_out_lists(data.split, cutoffs=(20, 50)), rows


if __name__ == "__main__":
    command.run(main, Config)
