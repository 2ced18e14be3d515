"""Is this recommender robust? Certified below, attacked above, and whether the numbers can be trusted: one page.

For a model of ours, or for the factor matrices of any other library (implicit, LightFM, cornac, Spark ALS). The
adversary moves each row of the embedding tables inside a ball: more than a real user can do. Relative radii are shares
of the mean row norm, in the gauge where both tables have the same singular values, so that growing tables buy nothing.

For factor matrices: --user-factors u.npy --item-factors v.npy --interactions file.csv, instead of --run.

Expected: MF 64 trained with BPR on ML-1M: NDCG@10 .0449 clean; at relative epsilon .1 .040 under the strongest attack
          found and .0450 under noise, with nothing certain; at .05 .0015 is certain; no flag trips (one seed, 2 cores
          of an AMD EPYC, commit 27c659b).
Cost:     under 3 minutes on 2 CPU cores for MovieLens-1M.
Run:      python -m experiments.robustness_report --run runs/ml1m_apr/NAME
"""

import dataclasses
import pathlib
import shlex
import sys
from typing import Literal

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    run: pathlib.Path | None = None  # a finished run of experiments.ml1m_apr
    stage: Literal["bpr", "apr"] = "bpr"  # which of its models
    seed: int | None = None  # which of its trainings (default: the first); it also draws noise and negatives
    user_factors: pathlib.Path | None = None  # .npy [users, D], instead of a run
    item_factors: pathlib.Path | None = None  # .npy [items, D]
    item_bias: pathlib.Path | None = None  # .npy [items], added to the scores
    interactions: pathlib.Path | None = None  # csv, tsv, parquet or .inter; ids are row numbers of the factors, from 0
    held_out: pathlib.Path | None = None  # the same with one test item a user (default: each user's last interaction)
    absolute_epsilons: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)  # L2 radii of each row
    relative_epsilons: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)  # radii in mean row norms, canonical gauge
    num_steps: int = 10  # gradient steps of PGD and APGD
    k: int = 10  # length of the lists
    out: pathlib.Path | None = None  # folder for the report (default: RUN/report-STAGE-SEED, or robustness_report)
    data_dir: pathlib.Path | None = None  # where the data of the run lie (default: as in experiments.ml1m_apr)


EXPECTED = {
    **dict.fromkeys(("absolute_epsilons", "relative_epsilons", "num_steps", "k"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    import jax

    from jaxrec import audit, display, report, robustness

    loaded, seed = load(config), config.seed or 0
    display.say(f"{loaded.about['model']}; data: {loaded.dataset}, SHA-256 {loaded.fingerprint[:16]}")
    protocol_key, attack_key, flag_key = jax.random.split(jax.random.key(seed), 3)
    protocol = robustness.protocol(loaded.victim.split, protocol_key, list_length=config.k)
    attacks = fgsm_pgd_apgd(config)
    epsilons = {"absolute": sorted(config.absolute_epsilons), "relative": sorted(config.relative_epsilons)}
    with display.counting("measuring", audit.num_measured(len(attacks), epsilons)) as done:
        findings = audit.look(loaded.victim, protocol, attacks, epsilons, key=attack_key, report=done)
    display.say("Looking for reasons to doubt these numbers ...")
    flags = reasons_to_doubt(loaded.victim, protocol, audit.middle(epsilons)[1], flag_key)
    out = config.out or default_folder(config)
    again = shlex.join(["python", "-m", "experiments.robustness_report", *sys.argv[1:]])
    report.write(out, findings, loaded, flags, experiment="robustness_report", seed=seed, command=again)
    for flag in flags:
        if flag.tripped:
            display.say(f"Doubt: {flag.name}: {flag.evidence}", style="bold red")
    display.say(f"Open {out / 'report.html'}; beside it lie results.md, results.json and report.json.")


def fgsm_pgd_apgd(config: Config):
    """Who attacks; `audit.look` puts noise beside them."""
    from jaxrec.attacks import apgd, fgsm, pgd

    return {
        "FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon),
        f"PGD-{config.num_steps}": lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=config.num_steps),
        f"APGD-{config.num_steps}": lambda epsilon: apgd.attack(epsilon=epsilon, num_steps=config.num_steps),
    }


def reasons_to_doubt(victim, protocol, epsilon: float, key):
    """The flags of gradient masking at a relative epsilon, beside an adversary who estimates gradients by SPSA."""
    from jaxrec import audit, gradient_masking, oracles, robustness
    from jaxrec.attacks import pgd

    def blind(model, params, surface, known):
        return oracles.spsa(robustness.TRAINING_LOSS(model, params, surface, known), num_samples=16)

    return gradient_masking.inspect(
        victim.model,
        victim.params,
        protocol,
        surface=victim.surface,
        key=key,
        epsilon=epsilon,
        black_box={"SPSA": (lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=3), blind)},
        rescaled=audit.rescaled(victim, key),
        k=protocol.list_length,
    )


def default_folder(config: Config) -> pathlib.Path:
    if config.run is None:
        return pathlib.Path("robustness_report")
    return config.run / f"report-{config.stage}{'' if config.seed is None else f'-{config.seed}'}"


def load(config: Config):
    """The victim that the flags name."""
    from jaxrec import victims
    from jaxrec.types import InputError

    user, item, interactions = config.user_factors, config.item_factors, config.interactions
    if config.run is not None and user is None and item is None and interactions is None:
        return victims.of_run(config.run, stage=config.stage, seed=config.seed, data_dir=config.data_dir)
    if config.run is None and user is not None and item is not None and interactions is not None:
        return victims.of_factors(
            user, item, interactions, held_out=config.held_out, item_bias=config.item_bias, seed=config.seed or 0
        )
    raise InputError("Expected --run RUN_DIR, or --user-factors, --item-factors and --interactions.")


if __name__ == "__main__":
    command.run(main, Config)
