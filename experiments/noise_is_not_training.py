"""Training on random noise gives no robustness: what a defence gains it owes to its adversary, not to the perturbation.

From the same BPR models, on the same batches and negatives: APR (He et al., SIGIR 2018, arXiv:1808.03908), the same
training with random rows of the same length for its adversary, and BPR continued. Each after the last epoch, clean,
under noise, FGSM, PGD-10 and the worst of the two at relative epsilons. Declared before: under the worst attack at the
largest epsilon, each of noise training and APR against BPR continued, and APR against noise training.

Expected: of the first 1,000 users (8 seeds, one thread of an AMD EPYC, commit 4ba74cc) noise training gains +.0004
          [-.0005, +.0016] and +.0013 [+.0001, +.0029] at epsilon .5 and 1, APR +.0233 [+.0162, +.0305] and +.0068
          [-.0015, +.0153] (docs/findings.md). Of all of MovieLens-1M not measured.
Cost:     a quarter of an hour of one CPU core for that.
Run:      python -m experiments.noise_is_not_training
          python -m experiments.noise_is_not_training --users 1000      (a slice of the data)
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    epsilons: tuple[float, ...] = (0.5, 1.0)  # absolute L2 radii of the rows that are trained on
    adv_weight: float = 1.0  # weight of the perturbed loss (He et al.: 1)
    attack_epsilons: tuple[float, ...] = (0.1, 0.2)  # of the attacks, in mean row norms, canonical gauge
    epochs: int = 200  # of BPR before
    adv_epochs: int = 40  # of each continuation
    learning_rate: float = 0.05  # of Adagrad, on the sum over the batch of 512
    dimension: int = 64  # length of an embedding
    seed: int = 0  # of the first training, and of the validation items, which are held out and not asked
    num_seeds: int = 8  # seeds seed, seed + 1, ...; with fewer no p of 6 comparisons can be below .05
    users: int | None = None  # the first of them only (default: all)
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/noise_is_not_training/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 200 users, two seeds, two epochs


EXPECTED = {
    **dict.fromkeys(("epsilons", "attack_epsilons", "adv_weight", "learning_rate"), command.POSITIVE),
    **dict.fromkeys(("epochs", "adv_epochs", "dimension", "num_seeds", "users"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}
SMOKE = {"epsilons": (0.5,), "epochs": 2, "adv_epochs": 2, "num_seeds": 2, "users": 200}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import run_directory
    from jaxrec.attacks import fgsm, random_noise
    from jaxrec.studies import claim_records, claim_study, continued, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=config.users)
    start = claim_study.start_of(config, data)
    settings = tuple(continued.Setting(epsilon, config.adv_weight) for epsilon in config.epsilons)
    looks = (config.adv_epochs,)
    by = lambda attack: continued.apr_by(lambda epsilon: attack(epsilon=epsilon), start.model)
    base = claim_study.control(start, looks)
    noise = claim_study.Arm("noise training", by(random_noise.attack), settings, looks)
    apr = claim_study.Arm("APR", by(fgsm.attack), settings, looks)
    exam = claim_study.Exam("test", claim_study.ATTACKS, config.attack_epsilons)
    path = config.run_dir or study.run_path("noise_is_not_training", data, config)
    with run_directory.open_run(path, config, data.fingerprint):
        found = claim_study.run(path, start, data.split, [base, noise, apr], [exam])
        questions = declared(config, base, noise, apr)
        claim_records.publish(path, "noise_is_not_training", data, start, found, questions)


def declared(config: Config, base, noise, apr):
    """Under the worst attack at the largest epsilon: what each gains over the control, and APR over noise."""
    from jaxrec.studies.claim_records import Question
    from jaxrec.studies.claim_study import WORST

    attack = WORST, max(config.attack_epsilons)
    (control,) = base.models()
    pairs = [(noise, control), (apr, control)]
    against = [Question(first, second, attack) for arm, second in pairs for first in arm.models()]
    return against + [Question(*both, attack) for both in zip(apr.models(), noise.models(), strict=True)]


if __name__ == "__main__":
    command.run(main, Config)
