"""Fake users on MovieLens-1M, read as purchases: attack x victim x budget, recommenders trained anew on each.

What ml100k_shilling_table does, on data ten times as large, of .1 to 5 % fakes: pushes and nukes of 5 head and 5 tail
targets, the targets' hit ratio over users who do not know them, detectors, defences. Published leave-one-out files have
no ratings, so that detectors see implicit feedback alone. Training and validation pairs are trained on, test items
measured. The default leaves out what is slow on two cores; the whole of it, five seeds, is

    --budgets .001 .01 .03 .05 --aims "push head" "push tail" "nuke head" "nuke tail" --num-seeds 5 --victims item-kNN
    MF-BPR iALS EASE NeuMF LightGCN Mult-VAE --attacks random average bandwagon "reverse bandwagon" segment "exact EASE"

Expected: head targets' HR@50 in points (2 seeds), 1 / 5 %: exact EASE +3.8 / +22.8 on item-kNN, +2.1 / +3.6 on EASE,
          +2.0 / +2.8 on iALS; bandwagon -.3 / -3.6, +.9 / +4.9, +.6 / +1.0; tail targets move by less than one point,
          but for exact EASE on item-kNN at 5 % (+3.8). AUC of PCA on exact EASE .16 / .00 (docs/poisoning.md; 1324d32).
          MF-BPR (3 seeds): exact EASE +1.7 / +3.7, bandwagon +1.2 / +3.2, average +1.3 / +4.5 (052ff60).
Cost:     some 30 minutes of CPU for four attacks, two aims, both budgets, three victims and 2 seeds, undefended; 10 for
          three attacks and 3 seeds of head targets on MF-BPR.
Run:      python -m experiments.ml1m_poisoning_table
"""

import dataclasses
import pathlib

from jaxrec import command, runtime
from jaxrec.studies import poison_table


@dataclasses.dataclass(frozen=True)
class Config:
    budgets: tuple[float, ...] = (0.01, 0.05)  # fakes, as shares of the users; none at all is always measured
    attacks: tuple[str, ...] = ("random", "average", "bandwagon")  # and the others of ml100k_shilling_table
    defended: tuple[str, ...] = ("bandwagon",)  # attacks that defences are tried on
    aims: tuple[str, ...] = ("push head", "push tail", "nuke head")  # and nuke tail
    victims: tuple[str, ...] = ("item-kNN", "iALS", "EASE")  # and MF-BPR, NeuMF, LightGCN, Mult-VAE, which are slow
    num_targets: int = 5  # of each group, attacked at once
    profile_size: int = 90  # items of a fake beside the targets; real users have 165 on average, 96 at the median
    num_selected: int = 5  # of them the items that bandwagon, reverse bandwagon and segment choose
    neighbours: int = 100  # of item-kNN; this and what follows near what ml1m_full_table has, not chosen anew
    l2: float = 1200.0  # of EASE
    ials_l2: float = 0.007  # of iALS, with weight .3 and 8 epochs
    dimension: int = 64  # of MF-BPR, iALS and LightGCN
    epochs: int = 20  # of MF-BPR, by SGD
    neumf_epochs: int = 8
    lightgcn_epochs: int = 16
    vae_epochs: int = 40
    graph_batch: int = 8192  # pairs a step of LightGCN
    user_batch: int = 500  # users a step of Mult-VAE
    steps: int = 20  # of each learned attack, a training of its surrogate each
    seed: int = 0  # of the targets, and the first of the trainings and attacks
    num_seeds: int = 2  # trainings and attacks, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/ml1m_poisoning_table/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 200 users, three attacks, one seed


def main(config: Config) -> None:
    poison_table.check(config)
    runtime.prepare()
    from jaxrec.studies import study

    config = dataclasses.replace(config, **(poison_table.SMOKE if config.smoke else {}))
    num_users = poison_table.SMOKE_USERS if config.smoke else None
    data = study.movielens_1m(config.data_dir, seed=0, num_users=num_users)  # draws validation pairs: trained on too
    poison_table.execute("ml1m_poisoning_table", config, data)


if __name__ == "__main__":
    command.run(main, Config)
