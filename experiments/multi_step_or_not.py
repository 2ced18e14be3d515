"""Does training against several steps give more than against one, at the same epsilon and at the same cost?

PGD adversarial training (Madry et al., ICLR 2018, arXiv:1706.06083) in place of APR's one step (He et al., SIGIR 2018,
arXiv:1808.03908), from the same BPR models on the same batches. A step of APR takes two gradients of the loss, with k
steps of PGD it takes k + 1 (the first step's gradient is the clean one, which is known): so PGD-k is set beside FGSM of
as many epochs, and beside FGSM of (k + 1) / 2 times as many, all against BPR continued as long. Declared before, clean
and under the worst of FGSM and PGD-10 at the largest epsilon: PGD-k less FGSM at equal epochs, and at equal gradients.

Expected: of the first 1,000 users (9 seeds, one thread of an AMD EPYC, commit ff3ae67) no: under the worst attack PGD-7
          gains +.0002 [-.0004, +.0008] over FGSM at equal epochs, -.0006 [-.0030, +.0018] at equal gradients
          (docs/findings.md). Of all of MovieLens-1M not measured.
Cost:     some 15 minutes of one CPU core for that.
Run:      python -m experiments.multi_step_or_not
          python -m experiments.multi_step_or_not --users 1000      (a slice of the data)
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    num_steps: tuple[int, ...] = (3, 7)  # of PGD
    epsilon: float = 0.5  # absolute L2 radius of the rows that are trained on (He et al.: 0.5)
    adv_weight: float = 1.0  # of the adversarial loss (He et al.: 1)
    attack_epsilons: tuple[float, ...] = (0.1, 0.2)  # of the attacks, in mean row norms, canonical gauge
    epochs: int = 200  # of BPR before
    adv_epochs: int = 20  # against PGD
    learning_rate: float = 0.05  # of Adagrad, on the sum over the batch of 512
    dimension: int = 64  # length of an embedding
    seed: int = 0  # of the first training, and of the validation items, which are held out and not asked
    num_seeds: int = 9  # seeds seed, seed + 1, ...; with fewer no p of 8 comparisons can be below .05
    users: int | None = None  # the first of them only (default: all)
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/multi_step_or_not/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 200 users, two seeds, two epochs


EXPECTED = {
    **dict.fromkeys(("num_steps", "epsilon", "adv_weight", "attack_epsilons", "learning_rate"), command.POSITIVE),
    **dict.fromkeys(("epochs", "adv_epochs", "dimension", "num_seeds", "users"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}
SMOKE = {"num_steps": (3,), "epochs": 2, "adv_epochs": 2, "num_seeds": 2, "users": 200}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import run_directory
    from jaxrec.attacks import fgsm, pgd
    from jaxrec.studies import claim_records, claim_study, continued, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=config.users)
    start, settings = claim_study.start_of(config, data), (continued.Setting(config.epsilon, config.adv_weight),)
    looks = tuple(sorted({config.adv_epochs, *(as_costly(config, k) for k in config.num_steps)}))

    def several(k):
        make = continued.apr_by(lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=k), start.model)
        return claim_study.Arm(f"APR by PGD-{k}", make, settings, (config.adv_epochs,))

    make = continued.apr_by(lambda epsilon: fgsm.attack(epsilon=epsilon), start.model)
    base, one = claim_study.control(start, looks), claim_study.Arm("APR by FGSM", make, settings, looks)
    arms = [base, one, *map(several, config.num_steps)]
    exam = claim_study.Exam("test", claim_study.ATTACKS, config.attack_epsilons)
    path = config.run_dir or study.run_path("multi_step_or_not", data, config)
    with run_directory.open_run(path, config, data.fingerprint):
        found = claim_study.run(path, start, data.split, arms, [exam])
        questions = declared(config, one.models(), [arm.models()[0] for arm in arms[2:]])
        claim_records.publish(path, "multi_step_or_not", data, start, found, questions)


def as_costly(config: Config, num_steps: int) -> int:
    """Epochs against FGSM that take as many gradients as `adv_epochs` against PGD."""
    return -(-config.adv_epochs * (num_steps + 1) // 2)


def declared(config: Config, one, several):
    """Each PGD against FGSM of as many epochs, and of as many gradients."""
    from jaxrec.studies import claim_records, claim_study

    of_epochs = {which.epochs: which for which in one}
    pairs = [
        (which, of_epochs[epochs])
        for which, num_steps in zip(several, config.num_steps, strict=True)
        for epochs in dict.fromkeys((config.adv_epochs, as_costly(config, num_steps)))
    ]
    attacks = claim_records.CLEAN, (claim_study.WORST, max(config.attack_epsilons))
    return [claim_records.Question(*pair, attack) for pair in pairs for attack in attacks]


if __name__ == "__main__":
    command.run(main, Config)
