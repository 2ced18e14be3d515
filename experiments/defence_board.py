"""Every defence on one board: the same start, compute, tuning and seeds, and new attacks on each final model.

From a model's clean tables each defence trains on for as many epochs as the clean loss does (He et al., SIGIR 2018),
tries as many settings, and is then attacked white box at relative epsilons, certified where scores are dot products,
and looked at for gradient masking. Controls stand among them: noise, and the plain tables scaled up, which no budget
relative to norms may reward. Where a defence does not apply to a model the board says why. Radii of training are shares
of the mean row norms of the clean tables, the same list for all models.

Expected: first 1,000 users in order of time, NDCG@10 clean / under the strongest attack at .2. Three seeds: MF plain
          .0416 / .0133, APR .0414 / .0212, distillation .0451 / .0331 (commit ecdb0d8); LightGCN .0426 / .0154, APR
          .0438 / .0154 (19bf97b). One seed: NeuMF .0306 / .0000, APR .0446 / .0080 (052ff60); SASRec .0767 / .0037,
          mixed .0849 / .0129 (ebd5583, an earlier board). One XLA thread of an AMD EPYC (docs/defence_board.md). All
          users: not measured.
Cost:     half a minute of one core a row of MF on 1,000 users, one of LightGCN, 2 to 3 of NeuMF, 4 to 10 of SASRec;
          smoothing 5 minutes of NeuMF, some 25 of SASRec. The board's column of costs is wall time of training over
          the plain row's, so leave the machine alone.
Run:      python -m experiments.defence_board --models MF --num-seeds 5
          python -m experiments.defence_board --only MF/APR TRADES    (these rows and their plain ones; a run goes on)
"""

import dataclasses
import pathlib
from typing import Literal, get_args

from jaxrec import command, errors, runtime

ModelName = Literal["MF", "NeuMF", "LightGCN", "SASRec"]


@dataclasses.dataclass(frozen=True)
class Config:
    models: tuple[ModelName, ...] = ("MF", "NeuMF", "LightGCN", "SASRec")  # whose rows are wanted
    only: tuple[str, ...] = ()  # rows by MODEL/DEFENCE, MODEL or DEFENCE (default: all)
    epsilons: tuple[float, ...] = (0.1, 0.2)  # of the final attacks, in mean row norms; validation chooses at the first
    absolute_epsilons: tuple[float, ...] = (0.5,)  # the same as L2 radii of each row, to be held beside them
    certified: tuple[float, ...] = (0.01, 0.02)  # relative epsilons of the certificate
    num_steps: int = 10  # gradient steps of PGD and APGD
    attacked_users: int = 1000  # random users whose lists are attacked and whose test items are ranked
    doubted_users: int = 256  # of the flags of gradient masking (0: none is looked for)
    mf_epochs: tuple[int, int] = (100, 20)  # clean, and with each defence from there
    neumf_epochs: tuple[int, int] = (12, 8)  # 8: a fourth of them, of free, is more than the one that compiles
    lightgcn_epochs: tuple[int, int] = (16, 8)
    sasrec_epochs: tuple[int, int] = (60, 20)
    radii: tuple[float, float] = (0.1, 0.3)  # of training's adversaries, in clean mean row norms: a row's two settings
    adv_weight: float = 1.0  # of the adversarial loss, in all rows
    dimension: int = 64  # of MF and LightGCN
    seed: int = 0  # of the first training, and of the validation items where times are unknown
    num_seeds: int = 1  # trainings of each row, with seeds seed, seed + 1, ...
    users: int | None = None  # the first of them only (default: all)
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/defence_board/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 100 users, tiny models, one epoch


EPOCHS = ("mf_epochs", "neumf_epochs", "lightgcn_epochs", "sasrec_epochs")
EXPECTED = {
    **dict.fromkeys((*EPOCHS, "radii", "epsilons", "absolute_epsilons", "certified"), command.POSITIVE),
    **dict.fromkeys(("num_steps", "attacked_users", "dimension", "num_seeds", "users"), command.POSITIVE),
    **dict.fromkeys(("adv_weight", "seed", "doubted_users"), command.NON_NEGATIVE),
}
SMOKE = {**dict.fromkeys(EPOCHS, (1, 1)), "users": 100, "dimension": 8, "num_steps": 2, "doubted_users": 32}
MAY_CHANGE = ("run_dir", "data_dir", "models", "only", "num_seeds")


def main(config: Config) -> None:
    command.check(config, EXPECTED, may_be_empty=("absolute_epsilons", "certified"))
    command.named(config.models, get_args(ModelName), "models")
    runtime.prepare()
    from jaxrec import bench, run_directory
    from jaxrec.studies import board, board_defences, board_exam, board_records, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = study.movielens_1m_in_order(config.data_dir, seed=config.seed, num_users=config.users)
    if data.split.train.timestamps is None and "SASRec" in config.models:
        raise errors.InputError(
            "Expected movielens-1m/sequences.txt or ratings.dat, which have the order of time, for --models SASRec; "
            f"got {data.name}."
        )
    seeds = range(config.seed, config.seed + config.num_seeds)
    rows, examined = board.rows(subjects(config, data.split.train), board_defences.ALL), exam(config)
    asked = board.chosen([row for row in rows if row.subject.name in config.models], config.only)
    path = config.run_dir or study.run_path("defence_board", data, config, may_change=MAY_CHANGE)
    with run_directory.open_run(path, config, data.fingerprint, may_change=MAY_CHANGE):
        found = board_exam.run(path, rows, asked, bench.leave_one_out(data.split, cutoffs=(10,)), examined, seeds)
        made = board_records.records_of("defence_board", found, rows, data)
        board_records.publish(path, made)


def exam(config: Config):
    """What every final model is put through."""
    from jaxrec import oracles, worst_of
    from jaxrec.attacks import apgd, fgsm, pgd
    from jaxrec.studies import board_exam, model_robustness

    def worst(epsilon):
        by_pgd = pgd.attack(epsilon=epsilon, num_steps=config.num_steps)
        return worst_of.shared(
            [fgsm.attack(epsilon=epsilon), by_pgd, apgd.attack(epsilon=epsilon, num_steps=config.num_steps)]
        )

    def blind(model, params, surface, known):
        return oracles.spsa(model_robustness.ADVERSARY(model, params, surface, known), num_samples=8)

    three = f"worst-of (FGSM, PGD-{config.num_steps}, APGD-{config.num_steps})"
    return board_exam.Exam(
        attacks={"noise": lambda epsilon: worst_of.control(3, epsilon=epsilon), three: worst},
        epsilons={"relative": sorted(config.epsilons), "absolute": sorted(config.absolute_epsilons)},
        certified=sorted(config.certified),
        choosing=lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=5),
        num_users=config.attacked_users,
        num_doubted=config.doubted_users,
        flag_steps=3,
        black_box={"SPSA": (lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=2), blind)},
        seed=config.seed,
    )


def subjects(config: Config, train):
    """The models that are defended, and how long each is trained."""
    from jaxrec.studies import board_subjects as models

    def at(epochs, make, **options):
        start, after = epochs
        shared = {"radii": config.radii, "adv_weight": config.adv_weight}
        return make(train, start_epochs=start, epochs=after, **shared, **options)

    return [
        at(config.mf_epochs, models.factorised, dimension=config.dimension),
        at(config.neumf_epochs, models.neural),
        at(config.lightgcn_epochs, models.of_graph, dimension=config.dimension),
        at(config.sasrec_epochs, models.sequential),
    ]


if __name__ == "__main__":
    command.run(main, Config)
