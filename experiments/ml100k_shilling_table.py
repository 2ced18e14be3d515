"""Shilling on MovieLens-100K read as purchases: fakes against four recommenders that are trained anew.

Random, average, bandwagon, reverse bandwagon and segment fakes (Lam and Riedl, WWW 2004; Mobasher et al., TOIT 2007) of
one size push head or tail items, or nuke head items, several targets at once; by how much do users who do not know a
target get it more often? If asked for (--attacks "exact EASE" "exact iALS" unrolled generated), fillers are learned as
well (Tang et al., RecSys 2020; Lin et al., CIKM 2020), through surrogates with the settings of the victims EASE and
iALS. Beside it: how well detectors see the same fakes, with ratings and without, and what defences take back: removal
and down-weighting of the most suspicious users, and adversarial poisoning training (Wu et al., SIGIR 2021), which adds
users of the defender's own. On implicit feedback love/hate is the random attack, and a nuke can but push what competes:
nothing there says that an item is bad.

Expected: at 5 % (one seed, 15 epochs of MF-BPR) head targets gain -3 to +5 points of HR@50, tail targets below one; AUC
          of PCA .96 and more on random and average fakes, 0 on segment fakes with ratings (docs/poisoning.md; b745d0e).
          At 1 % (3 seeds) learned fakes gain 1.4 to 3.1 points on head targets, bandwagon .9 to 1.4, each on all four;
          PCA's AUC on learned ones is .08 to .27 (b3df889). At 5 % exact EASE gains 2.8 to 10.2 points on seven
          victims, average fakes .2 to 4.8, bandwagon .5 to 4.5 (5 seeds; 766e521); no defence takes the first back
          (1324d32); nukes take 2.2 at most (53dfb09).
Cost:     12 minutes by the clock for the 5 %, on one of two cores that some 18 processes shared; 10 minutes of CPU for
          seven attacks at 1 % and 3 seeds of head targets, 2 of tail ones; 7 for two at 1, 3 and 5 %, defended; 35 for
          three at .1, 1 and 5 % on all seven victims, 5 seeds.
Run:      python -m experiments.ml100k_shilling_table
"""

import dataclasses
import pathlib

from jaxrec import command, runtime
from jaxrec.studies import poison_table


@dataclasses.dataclass(frozen=True)
class Config:
    budgets: tuple[float, ...] = (0.01, 0.03, 0.05)  # fakes, as shares of the users; none at all is always measured
    attacks: tuple[str, ...] = ("random", "average", "bandwagon", "reverse bandwagon", "segment")  # and what is learned
    defended: tuple[str, ...] = ("average", "bandwagon")  # attacks that defences are tried on
    aims: tuple[str, ...] = ("push head", "push tail", "nuke head")  # and nuke tail
    victims: tuple[str, ...] = ("item-kNN", "MF-BPR", "iALS", "EASE")  # and NeuMF, LightGCN, Mult-VAE, which are slow
    num_targets: int = 5  # of each group, attacked at once
    profile_size: int = 50  # items of a fake beside the targets; real users have 106 on average, 65 at the median
    num_selected: int = 5  # of them the items that bandwagon, reverse bandwagon and segment choose
    neighbours: int = 20  # of item-kNN; this and the next two were chosen on validation, of a few
    l2: float = 100.0  # of EASE
    ials_l2: float = 0.01  # of iALS, with weight .3 and 8 epochs
    dimension: int = 32  # of MF-BPR, iALS and LightGCN
    epochs: int = 50  # of MF-BPR; these four were chosen on validation, of a few
    neumf_epochs: int = 20
    lightgcn_epochs: int = 40
    vae_epochs: int = 100
    graph_batch: int = 2048  # pairs a step of LightGCN
    user_batch: int = 100  # users a step of Mult-VAE
    steps: int = 20  # of each learned attack, a training of its surrogate each
    seed: int = 0  # of the targets, and the first of the trainings and attacks
    num_seeds: int = 5  # trainings and attacks, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/ml100k_shilling_table/NAME)
    data_dir: pathlib.Path | None = None  # holds u.data (default: $JAXREC_DATA)
    smoke: bool = False  # the whole path on 200 users, three attacks, one seed


def main(config: Config) -> None:
    poison_table.check(config)
    runtime.prepare()
    from jaxrec.studies import study

    config = dataclasses.replace(config, **(poison_table.SMOKE if config.smoke else {}))
    data = study.movielens_100k(config.data_dir, num_users=poison_table.SMOKE_USERS if config.smoke else None)
    poison_table.execute("ml100k_shilling_table", config, data)


if __name__ == "__main__":
    command.run(main, Config)
