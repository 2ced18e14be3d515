"""Which loss should the adversary of a recommender raise? Five of them at equal norm, judged by how test items rank.

Every loss is raised by PGD over the training data, on both embedding tables, and never sees a test item. A preliminary
measurement on MovieLens-100K found the full softmax weaker than sampled BPR; here it is stronger.

Expected: NDCG@10 of BPR, .0441 clean, under PGD-10 at absolute .5: hardest margin .0405, scale-free margin .0398,
          sampled BPR .0364, full softmax .0336 (10 seeds, +- .0008), smooth NDCG .0264 (2 seeds, +- .004; 2 cores of an
          AMD EPYC, commit 8188b45): docs/attacks.md.
Cost:     half a minute for each model on one CPU core, and two minutes more with smooth NDCG.
Run:      python -m experiments.ml1m_ascended_losses --run RUN_DIR      (of ml1m_apr --num-seeds 10)
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    run: pathlib.Path | None = None  # a finished run of experiments.ml1m_apr; its seeds are those of the table
    absolute_epsilons: tuple[float, ...] = (0.5,)  # L2 radii of each row
    relative_epsilons: tuple[float, ...] = (0.2,)  # radii in mean row norms, canonical gauge
    num_steps: int = 10  # gradient steps of PGD
    smooth_seeds: int = 3  # for how many of the seeds smooth NDCG is raised: it costs 25 times as much as BPR
    out: pathlib.Path | None = None  # folder for the results; a stopped study goes on (default: in the run)
    data_dir: pathlib.Path | None = None  # where the data of the run lie (default: as in experiments.ml1m_apr)


EXPECTED = {
    **dict.fromkeys(("absolute_epsilons", "relative_epsilons", "num_steps"), command.POSITIVE),
    "smooth_seeds": command.NON_NEGATIVE,
}
BPR, OTHERS = "sampled BPR", ("full softmax", "hardest margin", "scale-free margin")


def main(config: Config) -> None:
    command.check(config, EXPECTED, may_be_empty=("absolute_epsilons", "relative_epsilons"))
    runtime.prepare()
    from jaxrec import adversaries, robustness
    from jaxrec.attacks import pgd
    from jaxrec.studies import attack_study, attack_tables

    epsilons = {"absolute": config.absolute_epsilons, "relative": config.relative_epsilons}
    attack = lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=config.num_steps)

    def threat(name, adversary):
        return attack_study.Threat(f"white box: model, training pairs; {name}", adversary, {name: attack})

    margins = (adversaries.softmax(), adversaries.hardest_margin(), adversaries.scale_free_margin())
    threats = [threat(BPR, robustness.TRAINING_LOSS), *map(threat, OTHERS, margins)]
    with attack_study.opened("ml1m_ascended_losses", config) as study:
        found = attack_study.run(study, threats, epsilons)
        smooth = []
        if config.smooth_seeds:
            seeds = study.seeds[: config.smooth_seeds]
            some = study._replace(trainings=[each for each in study.trainings if each.seed in seeds])
            slow = attack_study.run(some, [threat("smooth NDCG", adversaries.smooth_ndcg())], epsilons, name="smooth")
            smooth = [each for each in attack_tables.records_of(some, slow) if each.attack is not None]
        attack_tables.publish(study, found, declared(), also=smooth)


def declared():
    """The comparisons that are tested, fixed before the first run: is another loss stronger than sampled BPR?"""
    from jaxrec.studies.attack_tables import Declared

    return [Declared((stage, other), (stage, BPR)) for stage in ("bpr", "apr") for other in OTHERS]


if __name__ == "__main__":
    command.run(main, Config)
