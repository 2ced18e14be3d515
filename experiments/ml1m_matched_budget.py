"""Is multi-step far stronger than FGSM, as MSAP says? The claim as its code makes it, and at truly equal budgets.

Anelli et al., "MSAP", FLAIRS 2021, arXiv:2010.01329, sets L2 steps with a cut coordinate by coordinate beside an
FGSM of L2 norm epsilon. Here the rows' achieved lengths and the gradients are stated apart, FGSM and PGD are given
MSAP's own lengths row by row, and all is repeated on tables (3P, Q/3), which score the same.

Expected: NDCG@10 of BPR, .0441 clean: FGSM .0374, PGD-25 .0364, MSAP-25 as coded .0006 with rows 5 times as long, FGSM
          of those lengths .0003, noise of them .0250 (10 seeds; 2 cores of an AMD EPYC, commit 8188b45):
          docs/matched_budget.md.
Cost:     under 2 minutes for each model on one CPU core, 35 minutes in all.
Run:      python -m experiments.ml1m_matched_budget --run RUN_DIR      (of ml1m_apr --num-seeds 10)
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    run: pathlib.Path | None = None  # a finished run of experiments.ml1m_apr; its seeds are those of the table
    epsilon: float = 0.5  # absolute L2 radius of FGSM and PGD, and MSAP's largest entry (MSAP: 0.5)
    relative_epsilon: float = 0.2  # the same in mean row norms, canonical gauge
    num_steps: int = 25  # of MSAP and PGD (MSAP: up to 25)
    rescaling: float = 3.0  # the control has user tables times this and item tables over it
    out: pathlib.Path | None = None  # folder for the results; a stopped study goes on (default: in the run)
    data_dir: pathlib.Path | None = None  # where the data of the run lie (default: as in experiments.ml1m_apr)


LENGTHS = " at MSAP's lengths"
EXPECTED: dict[str, command.Expected] = dict.fromkeys(
    ("epsilon", "relative_epsilon", "num_steps", "rescaling"), command.POSITIVE
)


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import robustness
    from jaxrec.studies import attack_study, attack_tables

    at_one_epsilon, at_msaps_lengths = attacks(config.num_steps)
    threat = lambda attacks: [attack_study.Threat(robustness.WHITE_BOX, robustness.TRAINING_LOSS, attacks)]
    epsilons = {"absolute": [config.epsilon], "relative": [config.relative_epsilon]}
    factor = config.rescaling
    with attack_study.opened("ml1m_matched_budget", config) as study:
        found = attack_study.run(study, threat({**at_one_epsilon, **at_msaps_lengths}), epsilons)
        other = attack_study.run(study, threat(at_one_epsilon), epsilons, name="rescaled", change=rescaled(factor))
        of_other = attack_tables.records_of(study, other, note=f"tables ({factor:g} P, Q / {factor:g})")
        attack_tables.publish(study, found, declared(config.num_steps), also=of_other)


def attacks(num_steps: int):
    """Those that are compared at one epsilon, and those that have MSAP's lengths, row by row."""
    from jaxrec.attacks import fgsm, msap, pgd, random_noise
    from jaxrec.studies import matched

    as_coded = lambda epsilon: msap.attack(epsilon=epsilon, num_steps=num_steps)
    at_one_epsilon = {
        "FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon),
        f"PGD-{num_steps}": lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=num_steps),
        f"MSAP-{num_steps}": as_coded,
    }
    unit = {
        "noise": random_noise.attack(epsilon=1.0),
        "FGSM": fgsm.attack(epsilon=1.0),
        f"PGD-{num_steps}": pgd.attack(epsilon=1.0, num_steps=num_steps),
    }
    at_msaps_lengths = {
        f"{name}{LENGTHS}": lambda epsilon, attack=attack: matched.lengths(as_coded(epsilon), attack)
        for name, attack in unit.items()
    }
    return at_one_epsilon, at_msaps_lengths


def rescaled(factor: float):
    """The same scores from tables of other lengths."""

    def change(params):
        tables = params["tables"]
        return {**params, "tables": {**tables, "user": tables["user"] * factor, "item": tables["item"] / factor}}

    return change


def declared(num_steps: int):
    """The comparisons that are tested, fixed before the first run."""
    from jaxrec.studies.attack_tables import Declared

    msap, pgd = f"MSAP-{num_steps}", f"PGD-{num_steps}"
    pairs = [
        (msap, "FGSM"),  # the published claim, as it was measured
        (msap, f"FGSM{LENGTHS}"),  # what is left of it when FGSM moves every row as far
        (pgd, "FGSM"),  # the claim at the budget that epsilon names
        (f"{pgd}{LENGTHS}", f"FGSM{LENGTHS}"),  # and at MSAP's
    ]
    return [Declared((stage, first), (stage, second)) for stage in ("bpr", "apr") for first, second in pairs]


if __name__ == "__main__":
    command.run(main, Config)
