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
    from jaxrec.studies import collaborative, study

    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=SMOKE_USERS if config.smoke else None)
    on, train = bench.leave_one_out(data.split, cutoffs=(10,), listed=True), data.split.train
    factors = {name: getattr(config, name) for name in ("dimension", "bpr_epochs", "mf_dimension", "mf_epochs")}
    rows = [
        *collaborative.solved(train, dimension=config.dimension),
        *collaborative.factorised(train, num_pairs=len(train) + len(data.split.valid), **factors),
        *collaborative.neural(train, epochs=config.epochs, pretrained_learning_rate=config.pretrained_learning_rate),
    ]
    return data, on, rows


if __name__ == "__main__":
    command.run(main, Config)
