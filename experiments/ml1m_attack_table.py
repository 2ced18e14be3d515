"""Which attack on embedding tables is the strongest, and does APR stand all of them? BPR and APR on MovieLens-1M.

Every attack has the same ball: L2 rows of one radius, absolute or in mean row norms of the canonical gauge. What each
cost in gradients and in questions stands beside it. The comparisons that are tested were fixed before the first run
(`declared`); five training seeds cannot go below p = .06 by sign flips, so ten are wanted.

Expected: NDCG@10 clean / FGSM / PGD-100 / another seed's gradients at absolute .5: BPR .0441 / .0374 / .0364 / .0364,
          APR .0470 / .0433 / .0425 / .0425, intervals +- .0007 or less (10 seeds; 2 cores of an AMD EPYC, commit
          8188b45): docs/attacks.md.
Cost:     under 4 minutes for each model on one CPU core, 75 minutes in all.
Run:      python -m experiments.ml1m_attack_table --run RUN_DIR      (of ml1m_apr --num-seeds 10)
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    run: pathlib.Path | None = None  # a finished run of experiments.ml1m_apr; its seeds are those of the table
    absolute_epsilons: tuple[float, ...] = (0.5,)  # L2 radii of each row
    relative_epsilons: tuple[float, ...] = (0.2,)  # radii in mean row norms, canonical gauge
    num_samples: int = 8  # pairs of questions for an estimated gradient (SPSA, NES)
    num_queries: int = 200  # questions of the random search (square)
    out: pathlib.Path | None = None  # folder for the results; a stopped study goes on (default: in the run)
    data_dir: pathlib.Path | None = None  # where the data of the run lie (default: as in experiments.ml1m_apr)


EXPECTED: dict[str, command.Expected] = dict.fromkeys(
    ("absolute_epsilons", "relative_epsilons", "num_samples", "num_queries"), command.POSITIVE
)
WHITE_BOX = ("FGSM", "BIM-10", "MIM-10", "PGD-10", "PGD-25", "PGD-100", "APGD-25")
TWIN, OTHER_SEED = "transfer from the other stage, PGD-10", "transfer from another seed, PGD-10"
WORST, CONTROL = "worst of white box", "worst of noise"  # the one perturbation that raised the loss most
OWN, OWN_CONTROL = "each user's worst of white box", "each user's worst of noise"  # bounds, knowing the test items


def main(config: Config) -> None:
    command.check(config, EXPECTED, may_be_empty=("absolute_epsilons", "relative_epsilons"))
    runtime.prepare()
    from jaxrec.studies import attack_study, attack_tables

    epsilons = {"absolute": config.absolute_epsilons, "relative": config.relative_epsilons}
    with attack_study.opened("ml1m_attack_table", config) as study:
        measured = attack_study.run(study, threats(config, study), epsilons)
        found = {training: with_the_worst(each) for training, each in measured.items()}
        attack_tables.publish(study, found, declared())


def threats(config: Config, study):
    """Who attacks: with the model's gradients, with questions alone, and with the gradients of another model."""
    from jaxrec import oracles, robustness, surrogates
    from jaxrec.attacks import apgd, bim, fgsm, mim, pgd, random_noise, square
    from jaxrec.norms import L2
    from jaxrec.studies.attack_study import Threat

    bpr, loss, samples = robustness.TRAINING_LOSS, "spread-normalised BPR", config.num_samples
    multi_step = {f"PGD-{n}": lambda epsilon, n=n: pgd.attack(epsilon=epsilon, num_steps=n) for n in (10, 25, 100)}
    white_box = {
        "FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon),
        "BIM-10": lambda epsilon: bim.attack(epsilon=epsilon, num_steps=10),
        "MIM-10": lambda epsilon: mim.attack(epsilon=epsilon, num_steps=10),
        **multi_step,
        "APGD-25": lambda epsilon: apgd.attack(epsilon=epsilon, num_steps=25),
    }
    noise = {"noise": lambda epsilon: random_noise.attack(epsilon=epsilon)}
    random_search = lambda epsilon: square.attack(epsilon=epsilon, norm=L2, num_queries=config.num_queries)
    behind = lambda wrap: lambda model, params, surface, known: wrap(bpr(model, params, surface, known))
    spsa = behind(lambda victim: oracles.spsa(victim, num_samples=samples))
    nes = behind(lambda victim: oracles.nes(victim, num_samples=samples, sigma=0.01))
    search = behind(oracles.black_box)
    known = surrogates.transferred(bpr)
    from_another = Threat(
        f"gradients of the next seed; {loss}", known, {OTHER_SEED: multi_step["PGD-10"]}, study.next_seed
    )
    return [
        # As many draws of noise as there are attacks to choose from.
        Threat(f"losses, to choose by; {loss}", bpr, noise, draws=len(WHITE_BOX)),
        Threat(robustness.WHITE_BOX, bpr, white_box),
        Threat(f"SPSA, {2 * samples} losses a gradient; {loss}", spsa, {"SPSA, PGD-10": multi_step["PGD-10"]}),
        Threat(f"NES, {2 * samples} losses a gradient; {loss}", nes, {"NES, PGD-10": multi_step["PGD-10"]}),
        Threat(f"losses alone; {loss}", search, {f"square, {config.num_queries} queries": random_search}),
        Threat(f"gradients of the other stage; {loss}", known, {TWIN: multi_step["PGD-10"]}, study.twin),
        *([from_another] if len(study.seeds) > 1 else []),
    ]


def with_the_worst(measured):
    """The measurements with the strongest attacks and their controls, and one draw of the noise."""
    from jaxrec.studies import attack_study, attack_tables

    noise = [attack_study.name_of("noise", draw) for draw in range(len(WHITE_BOX))]
    return [
        *(each for each in measured if each.attack not in noise[1:]),
        *attack_tables.strongest(measured, WHITE_BOX, title=WORST),
        *attack_tables.strongest(measured, noise, title=CONTROL),
        *attack_tables.each_users_worst(measured, WHITE_BOX, title=OWN),
        *attack_tables.each_users_worst(measured, noise, title=OWN_CONTROL),
    ]


def declared():
    """The comparisons that are tested, fixed before the first run: with ten seeds no more than these can be found."""
    from jaxrec.studies.attack_tables import Declared

    of_each = [
        ("PGD-10", "FGSM"),
        ("PGD-100", "PGD-10"),
        ("APGD-25", "PGD-25"),
        (WORST, CONTROL),
        (OTHER_SEED, "noise"),
    ]
    return [
        *(Declared((stage, first), (stage, second)) for stage in ("bpr", "apr") for first, second in of_each),
        Declared(("apr", WORST), ("bpr", WORST)),
    ]


if __name__ == "__main__":
    command.run(main, Config)
