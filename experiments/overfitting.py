"""Do recommenders overfit, and does their robustness: train and test ranks, clean and attacked, epoch by epoch.

Robust overfitting (Rice, Wong and Kolter, "Overfitting in adversarially robust deep learning", ICML 2020,
arXiv:2002.11569): with images, robust test accuracy falls when adversarial training goes on for long. Here BPR and APR
go on for long, after a few epochs of BPR and on the same batches, and at each look rank the test item, and one training
item of each user among the same unseen items, clean and under PGD-10. Declared before, for both, clean and attacked:
NDCG@10 of the test items at the look that validation chose (clean or attacked alike) less that at the last.

Expected: of the first 1,000 users, looks to 320 (8 seeds, one thread of an AMD EPYC, commit d1ea65e): BPR loses .0162
          [.0084, .0242] under PGD-10 from its best look to the last and nothing clean; APR rises to the end, clean and
          attacked: no robust overfitting (docs/findings.md). Of all of MovieLens-1M not measured.
Cost:     20 minutes of one CPU core for that.
Run:      python -m experiments.overfitting
          python -m experiments.overfitting --users 1000      (a slice of the data)
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    looks: tuple[int, ...] = (5, 10, 20, 40, 80, 160, 320, 640)  # epochs after which models are measured
    epsilon: float = 0.5  # absolute L2 radius of the rows that are trained on (He et al.: 0.5)
    adv_weight: float = 1.0  # of the adversarial loss (He et al.: 1)
    attack_epsilon: float = 0.2  # of PGD-10, in mean row norms, canonical gauge
    epochs: int = 20  # of BPR before
    learning_rate: float = 0.05  # of Adagrad, on the sum over the batch of 512
    dimension: int = 64  # length of an embedding
    seed: int = 0  # of the first training, and of the validation items, which are held out
    num_seeds: int = 8  # seeds seed, seed + 1, ...; with fewer no p of 4 comparisons can be below .05
    users: int | None = None  # the first of them only (default: all)
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/overfitting/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 200 users, two seeds, two epochs


EXPECTED = {
    **dict.fromkeys(("looks", "epsilon", "adv_weight", "attack_epsilon", "learning_rate"), command.POSITIVE),
    **dict.fromkeys(("epochs", "dimension", "num_seeds", "users"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}
SMOKE = {"looks": (1, 2), "epochs": 2, "num_seeds": 2, "users": 200}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import run_directory
    from jaxrec.attacks import fgsm
    from jaxrec.studies import claim_records, claim_study, continued, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=config.users)
    start, settings = claim_study.start_of(config, data), (continued.Setting(config.epsilon, config.adv_weight),)
    looks = tuple(sorted(set(config.looks)))
    make = continued.apr_by(lambda epsilon: fgsm.attack(epsilon=epsilon), start.model)
    arms = [claim_study.control(start, looks), claim_study.Arm("APR", make, settings, looks)]
    attack = {"PGD-10": claim_study.ATTACKS["PGD-10"]}
    exams = [claim_study.Exam(items, attack, (config.attack_epsilon,)) for items in ("test", "train", "valid")]
    conditions = claim_records.CLEAN, ("PGD-10", config.attack_epsilon)
    path = config.run_dir or study.run_path("overfitting", data, config)
    with run_directory.open_run(path, config, data.fingerprint):
        found = claim_study.run(path, start, data.split, arms, exams)
        questions = [
            claim_records.Question(
                claim_study.chosen(found, arm.models(), *condition), arm.models()[-1], condition, "validation"
            )
            for arm in arms
            for condition in conditions
        ]
        claim_records.publish(path, "overfitting", data, start, found, questions)
        draw(path, config, data, found, arms, conditions)


def draw(path, config: Config, data, found, arms, conditions) -> None:
    """NDCG@10 against epochs, of the test items and of the training items: a picture and a curve for each."""
    from jaxrec import files
    from jaxrec.pictures import learning_curves
    from jaxrec.studies import claim_study

    curves = {
        f"{arm.name}, {items} items, {'clean' if attack == 'none' else f'{attack}, {epsilon:g}'}": [
            (which.epochs, float(claim_study.per_user(found[which], attack, epsilon).mean()))
            for which in arm.models(items)
        ]
        for items in ("train", "test")
        for arm in arms
        for attack, epsilon in conditions
    }
    files.write_json(path / "curves.json", curves)
    title = f"{data.title}, {config.num_seeds} seeds, after {config.epochs} epochs of BPR"
    for items in ("train", "test"):
        shown = {name: curve for name, curve in curves.items() if f"{items} items" in name}
        learning_curves.draw(path / f"{items}.png", shown, title=title, label="NDCG@10")


if __name__ == "__main__":
    command.run(main, Config)
