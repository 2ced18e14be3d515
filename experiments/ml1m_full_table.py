"""Clean models on MovieLens-1M, full ranking of unseen items, with what their lists expose; or on a file of your own.

The models of ml1m_ncf_table, and LightGCN, autoencoders, a hybrid, and models of what is known of users and movies (FM,
DeepFM, DCN-v2, two towers), under the same choice on validation and the same training on training and validation pairs
together. Beside accuracy: coverage, Gini and entropy of exposure, novelty, intra-list diversity by genres, and the
share of the long tail.

Expected: HR / NDCG@10 of EASE .109 / .055, MF .104 / .051, iALS .096 / .048, two towers .091 / .046, popularity .041 /
          .020 (one seed, one thread of an AMD EPYC, commit 3bb0b85, and of an Intel Xeon, f108733; docs/models.md).
Cost:     80 minutes of CPU with --reuse, of which DCN-v2 24, DeepFM 18, two towers 10, FM 9 and LightGCN 7.
Run:      python -m experiments.ml1m_full_table --reuse RUN_DIR      (of ml1m_ncf_table: its trainings are taken over)
          python -m experiments.ml1m_full_table --data ratings.csv --rows EASE "MF, BPR"
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    rows: tuple[str, ...] = ()  # names of the models wanted (default: all)
    dimension: int = 64  # of MF by BPR, iALS and LightGCN
    mf_dimension: int = 192  # of logistic MF
    mf_epochs: int = 32  # of logistic MF, whose learning rate falls with them
    epochs: int = 16  # at most, of NeuMF and its halves, LightGCN and feature models; validation chooses how many
    bpr_epochs: int = 100  # at most, of MF by BPR
    pretrained_learning_rate: float = 1e-3  # of NeuMF that goes on from its trained halves, for sums over a batch
    autoencoder_epochs: int = 40  # at most
    seed: int = 0  # of the first training, and of the validation items where times are unknown
    num_seeds: int = 1  # trainings of each model that has chance in it, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/ml1m_full_table/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    data: pathlib.Path | None = None  # a table of your own instead: .csv, .tsv, .inter or .parquet
    reuse: pathlib.Path | None = None  # take finished trainings over from this run of the same flags
    smoke: bool = False  # the whole path on 200 users, tiny models, one epoch


SMOKE_USERS = 200
SIZES = ("dimension", "mf_dimension", "mf_epochs", "epochs", "bpr_epochs", "autoencoder_epochs", "num_seeds")
EXPECTED = {**dict.fromkeys((*SIZES, "pretrained_learning_rate"), command.POSITIVE), "seed": command.NON_NEGATIVE}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec.studies import table_records

    if config.smoke:
        small = {
            "epochs": 1,
            "mf_epochs": 1,
            "bpr_epochs": 1,
            "autoencoder_epochs": 1,
            "dimension": 8,
            "mf_dimension": 8,
        }
        config = dataclasses.replace(config, **small)
    data, on, rows = parts(config)
    table_records.execute("ml1m_full_table", config, data, on, rows, more_exposures=exposures(config, data))


def parts(config: Config):
    """The data, the bench of full ranking, and the models."""
    from jaxrec import bench
    from jaxrec.studies import collaborative, study

    num_users = SMOKE_USERS if config.smoke else None
    if config.data is None:
        data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=num_users)
    else:
        data = study.own_file(config.data, seed=config.seed, num_users=num_users)
    on, train = bench.leave_one_out(data.split, cutoffs=(10, 50, 100)), data.split.train
    factors = {name: getattr(config, name) for name in ("dimension", "bpr_epochs", "mf_dimension", "mf_epochs")}
    rows = [
        *collaborative.solved(train, dimension=config.dimension),
        hybrid(config, data),
        *collaborative.factorised(train, num_pairs=len(train) + len(data.split.valid), **factors),
        *collaborative.neural(train, epochs=config.epochs, pretrained_learning_rate=config.pretrained_learning_rate),
        *others(config, data),
        *of_features(config, data),
    ]
    return data, on, rows


def hybrid(config: Config, data):
    """Factors and neighbours together: iALS and EASE, their scores in units of their spread."""
    from jaxrec.models import ease, ensemble, ials
    from jaxrec.studies import model_table

    sizes = {"num_users": data.split.train.num_users, "num_items": data.split.train.num_items}
    members = {"ials": ials.model(**sizes, dimension=config.dimension), "ease": ease.model(**sizes, l2=1200)}
    options = {
        f"{share:g} of iALS": ensemble.model(**sizes, members=members, weights=(share, 1 - share))
        for share in (0.5, 0.75)
    }
    return model_table.Row("iALS + EASE", next(iter(options.values())), "z-scores, weighted", options=options)


def others(config: Config, data):
    """A graph model and autoencoders."""
    import optax

    from jaxrec import objectives, sequences
    from jaxrec.models import lightgcn, mult_dae, mult_vae
    from jaxrec.studies import model_table

    train = data.split.train
    sizes = {"num_users": train.num_users, "num_items": train.num_items}
    graph = lightgcn.model(**sizes, dimension=config.dimension)
    by_graph = model_table.by_steps(
        graph,
        objectives.pairwise(model=graph, l2=1e-4),
        optax.adam(5e-3),
        num_epochs=config.epochs,
        batch_size=8192,
        validate_every=4,
    )

    def autoencoder(model, objective):
        return model_table.by_steps(
            model,
            objective,
            optax.adam(1e-3),
            num_epochs=config.autoencoder_epochs,
            batch_size=500,
            examples=lambda pairs: sequences.examples(pairs, at_least=1),
        )

    dae, vae = mult_dae.model(**sizes), mult_vae.model(**sizes)
    schedule = "Adam .001, 500 users a step"
    return [
        model_table.Row("LightGCN", graph, f"d {config.dimension}, 3 layers, Adam .005, batch 8,192", by_graph),
        model_table.Row("Mult-DAE", dae, f"200, {schedule}", autoencoder(dae, mult_dae.objective(l2=2e-5))),
        model_table.Row(
            "Mult-VAE", vae, f"600-200, {schedule}", autoencoder(vae, mult_vae.objective(anneal_steps=1000))
        ),
    ]


def of_features(config: Config, data):
    """Models of what is known of users and movies beside their ids; of the ids alone where nothing is."""
    import functools

    import optax

    from jaxrec import features, losses, objectives, sampling
    from jaxrec.datasets import locate
    from jaxrec.models import dcn_v2, deepfm, fm, two_tower
    from jaxrec.studies import model_table, study

    train = data.split.train
    sizes = {"num_users": train.num_users, "num_items": train.num_items}
    users, movies = (study.described(data, of) for of in (locate.users, locate.movies))
    side = None
    if users is not None and movies is not None:
        side = features.movielens(train, users.head(train.num_users), movies)
    apart = side and side._replace(user_crossed=None, item_crossed=None)
    four = functools.partial(sampling.negatives, num=4)

    def fitted(model, objective, batch_size, draw):
        return model_table.by_steps(
            model,
            objective,
            optax.adam(1e-3),
            num_epochs=config.epochs,
            batch_size=batch_size,
            validate_every=4,
            draw=draw,
        )

    apart_from = "" if side else ", ids alone"  # another model: a run may be gone on with when descriptions are there
    known = "ids, demographics, genres, year, popularity" if side else "ids alone"
    rows = []
    low_rank = functools.partial(dcn_v2.model, dimension=8, rank=32)
    for name, build in {"FM": fm.model, "DeepFM": deepfm.model, "DCN-v2": low_rank}.items():
        model = build(**sizes, side=side)
        fit = fitted(model, objectives.listwise(model=model, loss=losses.bce), 512, four)
        size = "d 8, crosses of rank 32" if name == "DCN-v2" else "d 16"
        rows.append(
            model_table.Row(
                f"{name}{apart_from}", model, f"{known}; {size}, BCE, 4 negatives, Adam .001, batch 512", fit
            )
        )
    towers = two_tower.model(**sizes, side=apart)
    by_batch = objectives.in_batch(model=towers, log_q=sampling.log_frequency(train))
    fit = fitted(towers, by_batch, 512, sampling.negatives)
    words = f"{known}; 64-32, softmax over a batch of 512, logQ, Adam .001"
    return [*rows, model_table.Row(f"two towers{apart_from}", towers, words, fit)]


def exposures(config: Config, data):
    """What a table of whole rankings says beside accuracy."""
    import numpy as np

    from jaxrec import exposure, features
    from jaxrec.datasets import locate
    from jaxrec.studies import study

    train = data.split.train
    counts = np.bincount(train.items, minlength=train.num_items)
    information = exposure.self_information(np.maximum(counts, 1), train.num_users)
    made = {
        "gini": lambda lists: exposure.gini(lists, train.num_items),
        "entropy": lambda lists: exposure.entropy(lists, train.num_items),
        "novelty": lambda lists: float(exposure.novelty(lists, information).mean()),
    }
    movies = study.described(data, locate.movies)
    if movies is not None:
        genres = features.genres(movies)
        made["intra_list_diversity"] = lambda lists: float(exposure.intra_list_diversity(lists, genres).mean())
    return made


if __name__ == "__main__":
    command.run(main, Config)
