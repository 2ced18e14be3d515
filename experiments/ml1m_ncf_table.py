"""Clean models on MovieLens-1M in the NCF protocol: the held-out item against 99 given negatives, at 10.

The published leave-one-out files. Settings and epochs are chosen on a validation item of each user, ranked among all
unseen items; then a model is trained on training and validation pairs together, as published ones are, and ranks the
test item. 156 users have it among their own negatives, where it is dropped: popularity then gives the published figure.

Expected: HR / NDCG@10 of EASE .718 / .452, iALS .723 / .445, MF .726 / .448, NeuMF .684 / .412, popularity .453 / .254
          (one seed, one thread of an AMD EPYC, commit 0c96c0b; docs/models.md).
Cost:     about 30 minutes of CPU, of which logistic MF 6, MLP, NeuMF and its going on 6 each, BPR 5.
Run:      python -m experiments.ml1m_ncf_table --rows EASE iALS "MF, logistic"
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    rows: tuple[str, ...] = ()  # names of the models wanted (default: all)
    dimension: int = 64  # of MF by BPR, and of iALS
    mf_dimension: int = 192  # of logistic MF
    mf_epochs: int = 32  # of logistic MF, whose learning rate falls with them
    epochs: int = 16  # at most, of NeuMF and its halves; validation chooses how many
    bpr_epochs: int = 100  # at most, of MF by BPR
    pretrained_learning_rate: float = 1e-3  # of NeuMF that goes on from its trained halves, for sums over a batch
    seed: int = 0  # of the first training, and of the validation items where times are unknown
    num_seeds: int = 1  # trainings of each model that has chance in it, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/ml1m_ncf_table/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M's leave-one-out files (default: $JAXREC_DATA)
    smoke: bool = False  # the whole path on 200 users, tiny models, one epoch


SMOKE_USERS = 200
EXPECTED = {
    **dict.fromkeys(("dimension", "mf_dimension", "mf_epochs", "epochs", "bpr_epochs", "num_seeds"), command.POSITIVE),
    "pretrained_learning_rate": command.POSITIVE,
    "seed": command.NON_NEGATIVE,
}
PUBLISHED = {  # Ferrari Dacrema et al., TOIS 2021, tables 54 and 55; iALS and MF: Rendle et al., 2020 and 2021
    "popularity": {"hit_rate@10": 0.4533, "ndcg@10": 0.2542},
    "user-kNN": {"hit_rate@10": 0.6768, "ndcg@10": 0.4100},
    "PureSVD": {"hit_rate@10": 0.6937, "ndcg@10": 0.4303},
    "EASE": {"hit_rate@10": 0.7192, "ndcg@10": 0.4494},
    "iALS": {"hit_rate@10": 0.711, "ndcg@10": 0.438},
    "NeuMF": {"hit_rate@10": 0.7093, "ndcg@10": 0.4349},
    "MF, BPR": {"hit_rate@10": 0.6305, "ndcg@10": 0.3730},
    "MF, logistic": {"hit_rate@10": 0.725, "ndcg@10": 0.449},
}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec.studies import table_records

    if config.smoke:
        config = dataclasses.replace(config, epochs=1, mf_epochs=1, bpr_epochs=1, dimension=8, mf_dimension=8)
    data, on, rows = parts(config)
    table_records.execute("ml1m_ncf_table", config, data, on, rows, published=PUBLISHED)


def parts(config: Config):
    """The data, the bench of listed negatives, and the models."""
    from jaxrec import bench
    from jaxrec.studies import study

    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=SMOKE_USERS if config.smoke else None)
    on = bench.leave_one_out(data.split, cutoffs=(10,), listed=True)
    return data, on, [*solved(config, data), *trained(config, data)]


def solved(config: Config, data):
    """What is counted or solved; validation chooses among settings."""
    from jaxrec.models import ease, ials, item_knn, popularity, pure_svd, user_knn
    from jaxrec.studies import model_table

    sizes = {"num_users": data.split.train.num_users, "num_items": data.split.train.num_items}

    def row(name, words, options, seeds: int | None = 1):
        return model_table.Row(name, next(iter(options.values())), words, seeds=seeds, options=options)

    tf_idf = "tfidf"
    return [
        model_table.Row("popularity", popularity.model(**sizes), "counts", seeds=1),
        row(
            "user-kNN",
            "asymmetric cosine, TF-IDF",
            {
                f"{k} neighbours, asymmetry {a:g}": user_knn.model(
                    **sizes, num_neighbours=k, asymmetry=a, weighting=tf_idf
                )
                for k, a in ((100, 0.3), (200, 0.3), (100, 0.5))
            },
        ),
        row(
            "item-kNN",
            "asymmetric cosine, TF-IDF",
            {
                f"{k} neighbours, asymmetry {a:g}": item_knn.model(
                    **sizes, num_neighbours=k, asymmetry=a, weighting=tf_idf
                )
                for k, a in ((50, 0.4), (100, 0.4), (100, 0.5))
            },
        ),
        row("EASE", "closed form", {f"L2 {l2}": ease.model(**sizes, l2=l2) for l2 in (600, 900, 1200)}),
        row(
            "PureSVD",
            "truncated SVD",
            {
                f"rank {d}": pure_svd.model(**sizes, dimension=d)
                for d in (16, 32, 48)
                if d <= config.dimension or d == 16
            },
        ),
        row(
            "iALS",
            f"d {config.dimension}, 12 epochs",
            {
                f"L2 {l2:g}, weight {w:g}": ials.model(**sizes, dimension=config.dimension, l2=l2, unobserved_weight=w)
                for l2, w in ((0.007, 0.3), (0.003, 0.3), (0.007, 0.1))
            },
            seeds=None,
        ),
    ]


def trained(config: Config, data):
    """What is trained by steps."""
    import functools

    import optax

    from jaxrec import losses, objectives, sampling
    from jaxrec.models import biased_mf, gmf, mf, mlp, neumf
    from jaxrec.studies import model_table

    train = data.split.train
    sizes = {"num_users": train.num_users, "num_items": train.num_items}
    draw = {num: functools.partial(sampling.negatives, num=num) for num in (4, 8)}  # one each, compiled once

    bpr = mf.model(**sizes, dimension=config.dimension)
    by_bpr = model_table.by_steps(
        bpr,
        objectives.pairwise(model=bpr),
        optax.adagrad(0.05, initial_accumulator_value=0.1),
        num_epochs=config.bpr_epochs,
        batch_size=512,
    )
    logistic = biased_mf.model(**sizes, dimension=config.mf_dimension, init_scale=0.1)
    num_steps = config.mf_epochs * -(-(len(train) + len(data.split.valid)) // 128)
    by_logistic = model_table.by_direct_steps(
        logistic,
        lambda model: objectives.listwise(model=model, loss=losses.bce, l2=0.005),
        optax.sgd(optax.linear_schedule(0.02, 0.002, num_steps)),
        num_epochs=config.mf_epochs,
        batch_size=128,
        draw=draw[8],
    )

    def pointwise(model, optimizer, **parts):
        return model_table.by_steps(
            model,
            objectives.listwise(model=model, loss=losses.bce),
            optimizer,
            num_epochs=config.epochs,
            batch_size=512,
            validate_every=4,
            draw=draw[4],
            **parts,
        )

    words = "BCE, 4 negatives, d 16, Adam .001, batch 512"
    gmf_row, mlp_row, neumf_row = (
        model_table.Row(name, model := made.model(**sizes, dimension=16), words, pointwise(model, optax.adam(1e-3)))
        for name, made in {"GMF": gmf, "MLP": mlp, "NeuMF": neumf}.items()
    )
    went_on = pointwise(
        neumf_row.model,
        optax.sgd(config.pretrained_learning_rate),
        parts=(gmf_row, mlp_row),
        start=neumf.pretrained,
        first_epoch=config.epochs,
    )
    return [
        model_table.Row("MF, BPR", bpr, f"d {config.dimension}, Adagrad .05, batch 512", by_bpr),
        model_table.Row(
            "MF, logistic",
            logistic,
            f"d {config.mf_dimension}, biases, 8 negatives, SGD .02 falling to .002, L2 .005, batch 128",
            by_logistic,
            epochs="fixed",
        ),
        gmf_row,
        mlp_row,
        neumf_row,
        model_table.Row(
            "NeuMF, pretrained",
            neumf_row.model,
            f"GMF and MLP, then SGD {config.pretrained_learning_rate:g} on sums of 512 examples",
            went_on,
        ),
    ]


if __name__ == "__main__":
    command.run(main, Config)
