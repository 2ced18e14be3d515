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
          PCA's AUC on learned ones is .08 to .27 (b3df889). At 5 % (3 seeds) exact EASE gains 4.3 to 10.2 points, which
          no defence takes back, bandwagon .4 to 4.5 (1324d32); nukes take 2.2 at most (53dfb09).
Cost:     12 minutes by the clock for the 5 %, on one of two cores that some 18 processes shared; 10 minutes of CPU for
          seven attacks at 1 % and 3 seeds of head targets, 2 of tail ones; 7 for two at 1, 3 and 5 %, defended.
Run:      python -m experiments.ml100k_shilling_table
"""

import dataclasses
import pathlib
from typing import Literal

from jaxrec import command, errors, runtime


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


SMOKE_USERS = 200
SMOKE = {
    "attacks": ("random", "segment", "exact EASE"), "defended": ("segment",), "budgets": (0.05,), "num_seeds": 1,
    "epochs": 2, "neumf_epochs": 1, "lightgcn_epochs": 1, "vae_epochs": 1, "dimension": 8, "steps": 2,
}  # fmt: skip
ADDED = ("budgets", "attacks", "defended", "aims", "victims", "num_seeds")  # decide which cells a run has, and no value
AIMS: dict[str, tuple[Literal["push", "nuke"], str]] = {
    "push head": ("push", "head"), "push tail": ("push", "tail"),
    "nuke head": ("nuke", "head"), "nuke tail": ("nuke", "tail"),
}  # fmt: skip
COUNTS = ("num_targets", "profile_size", "neighbours", "dimension", "graph_batch", "user_batch", "steps", "num_seeds")
EXPECTED = {
    "budgets": command.Expected("in (0, 1]", lambda value: 0 < value <= 1),
    "aims": command.Expected(f"of {', '.join(AIMS)}", AIMS.__contains__),
    **dict.fromkeys((*COUNTS, "epochs", "neumf_epochs", "lightgcn_epochs", "vae_epochs"), command.POSITIVE),
    **dict.fromkeys(("l2", "ials_l2"), command.POSITIVE),
    **dict.fromkeys(("num_selected", "seed"), command.NON_NEGATIVE),
}


def main(config: Config) -> None:
    check(config)
    runtime.prepare()
    from jaxrec.studies import study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = study.movielens_100k(config.data_dir, num_users=SMOKE_USERS if config.smoke else None)
    execute("ml100k_shilling_table", config, data)


def check(config) -> None:
    """Refuses flags that no table of this kind can be made with."""
    command.check(config, EXPECTED)
    if config.num_selected > config.profile_size:
        size = config.profile_size
        raise errors.InputError(f"Expected --num-selected <= --profile-size {size}, got {config.num_selected}.")


def execute(experiment: str, config, data) -> None:
    """Makes the table of a data set, here or in ml1m_poisoning_table, whose config has the same fields."""
    from jaxrec import run_directory
    from jaxrec.studies import poison_records, poison_study, study

    setting = parts(config, data)
    for share in config.budgets:
        poison_study.num_fakes(share, setting.known.num_users, "--budgets")
    cases = poison_study.cases_of(config.attacks, [AIMS[aim] for aim in config.aims], config.budgets)
    seeds = range(config.seed, config.seed + config.num_seeds)
    may_change = (*run_directory.PLACES, *ADDED)
    path = config.run_dir or study.run_path(experiment, data, config, may_change=may_change)
    with run_directory.open_run(path, config, data.fingerprint, may_change=may_change):
        poison_study.run(path, setting, cases, seeds=seeds)
        poison_records.publish(path, setting, cases, seeds=seeds, experiment=experiment)


def parts(config, data):
    """The attacks, the victims, the detectors and the targets."""
    from jaxrec.inner import ease
    from jaxrec.studies import poison_parts, poison_study

    if config.defended:
        command.named(config.defended, poison_parts.ATTACKS, "defended")
    shared = {"dimension": config.dimension, "ease_l2": config.l2, "ials_l2": config.ials_l2}
    epochs = {
        "MF-BPR": config.epochs, "NeuMF": config.neumf_epochs,
        "LightGCN": config.lightgcn_epochs, "Mult-VAE": config.vae_epochs,
    }  # fmt: skip
    sizes = {"profile_size": config.profile_size, "num_selected": config.num_selected}
    batches = {"graph_batch": config.graph_batch, "user_batch": config.user_batch}
    setting = poison_study.Setting(
        data=data,
        make=poison_parts.attacks(config.attacks, **sizes, num_steps=config.steps, **shared),
        victims=poison_parts.victims(config.victims, neighbours=config.neighbours, epochs=epochs, **batches, **shared),
        detectors=poison_parts.detectors(),
        targets={},
        surrogate=ease.surrogate(l2=config.l2),
        defended=config.defended,
        unrated=poison_parts.LEARNED,
    )
    targets = poison_study.draw_targets(setting.known, num=config.num_targets, seed=config.seed)
    return setting._replace(targets=targets)


if __name__ == "__main__":
    command.run(main, Config)
