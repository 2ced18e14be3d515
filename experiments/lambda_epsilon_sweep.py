"""Where do the weight and the epsilon of APR have their optimum, and is it the same clean, attacked and for the tail?

A grid of both, from the same BPR models on the same batches, against BPR continued (APR: He et al., SIGIR 2018,
arXiv:1808.03908). Heat maps of what each setting gains in NDCG@10, clean and under the worst of FGSM and PGD-10, and in
the long tail's share. Validation items choose a setting, clean and under PGD-10; declared before: on the test items,
each of the two against BPR continued, clean and under the worst attack at the largest epsilon.

Expected: of the first 1,000 users (8 seeds, one thread of an AMD EPYC, commit d1ea65e) epsilon 1 at weight .03, chosen
          clean, gains +.0057 [+.0015, +.0100] clean and +.0128 attacked; .5 at 3, chosen under attack, +.0030 [-.0029,
          +.0090] and +.0241 [+.0164, +.0320] (docs/findings.md). Of all of MovieLens-1M not measured.
Cost:     three quarters of an hour of one CPU core for that.
Run:      python -m experiments.lambda_epsilon_sweep
          python -m experiments.lambda_epsilon_sweep --users 1000      (a slice of the data)
"""

import dataclasses
import itertools
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    epsilons: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0)  # absolute L2 radii of the rows that are trained on
    adv_weights: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)  # of the adversarial loss, the paper's lambda
    attack_epsilons: tuple[float, ...] = (0.1, 0.2)  # of the attacks, in mean row norms, canonical gauge
    epochs: int = 200  # of BPR before
    adv_epochs: int = 40  # of each continuation
    learning_rate: float = 0.05  # of Adagrad, on the sum over the batch of 512
    dimension: int = 64  # length of an embedding
    seed: int = 0  # of the first training, and of the validation items, which are held out
    num_seeds: int = 8  # seeds seed, seed + 1, ...; with fewer no p of 4 comparisons can be below .05
    users: int | None = None  # the first of them only (default: all)
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/lambda_epsilon_sweep/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 200 users, two seeds, two epochs


EXPECTED = {
    **dict.fromkeys(("epsilons", "adv_weights", "attack_epsilons", "learning_rate"), command.POSITIVE),
    **dict.fromkeys(("epochs", "adv_epochs", "dimension", "num_seeds", "users"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}
SMOKE = {"epsilons": (0.5, 1.0), "adv_weights": (0.1, 1.0), "epochs": 2, "adv_epochs": 2, "num_seeds": 2, "users": 200}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import run_directory
    from jaxrec.attacks import fgsm
    from jaxrec.studies import claim_records, claim_study, continued, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=config.users)
    start, looks = claim_study.start_of(config, data), (config.adv_epochs,)
    settings = tuple(continued.Setting(e, w) for w, e in itertools.product(config.adv_weights, config.epsilons))
    make = continued.apr_by(lambda epsilon: fgsm.attack(epsilon=epsilon), start.model)
    base, apr = claim_study.control(start, looks), claim_study.Arm("APR", make, settings, looks)
    most = max(config.attack_epsilons)
    exams = [
        claim_study.Exam("test", claim_study.ATTACKS, config.attack_epsilons),
        claim_study.Exam("valid", {"PGD-10": claim_study.ATTACKS["PGD-10"]}, (most,)),
    ]
    path = config.run_dir or study.run_path("lambda_epsilon_sweep", data, config)
    with run_directory.open_run(path, config, data.fingerprint):
        found = claim_study.run(path, start, data.split, [base, apr], exams)
        best = [claim_study.chosen(found, apr.models()), claim_study.chosen(found, apr.models(), "PGD-10", most)]
        attacks = claim_records.CLEAN, (claim_study.WORST, most)
        asked = itertools.product(dict.fromkeys(best), attacks)
        questions = [claim_records.Question(each, base.models()[0], attack, "validation") for each, attack in asked]
        claim_records.publish(path, "lambda_epsilon_sweep", data, start, found, questions)
        draw(path, config, data, found, base, apr)
        tell(config, best)


def draw(path, config: Config, data, found, base, apr) -> None:
    """Three heat maps of what is gained over BPR continued: weights down, epsilons across."""
    import numpy as np

    from jaxrec import splits
    from jaxrec.pictures import heat_map
    from jaxrec.studies import claim_records, claim_study

    tail, worst = splits.tail_items(data.split.train), (claim_study.WORST, max(config.attack_epsilons))
    measures = {
        "clean": ("NDCG@10", lambda which: claim_study.per_user(found[which], *claim_records.CLEAN).mean()),
        "robust": (
            f"NDCG@10 under the {worst[0]}, {worst[1]:g}",
            lambda w: claim_study.per_user(found[w], *worst).mean(),
        ),
        "tail": ("The long tail's share", lambda which: claim_study.tail_share(found[which], tail)),
    }
    rows, columns = ([f"{name} {x:g}" for x in values] for name, values in axes(config))
    for name, (words, measure) in measures.items():
        gains = [measure(which) - measure(base.models()[0]) for which in apr.models()]
        title = f"{words}, less that of BPR continued, {data.title}, {config.num_seeds} seeds"
        values = np.reshape(gains, (len(rows), len(columns)))
        heat_map.draw(path / f"{name}.png", values, rows=rows, columns=columns, title=title)


def axes(config: Config):
    return ("weight", config.adv_weights), ("epsilon", config.epsilons)


def tell(config: Config, best) -> None:
    """Which setting validation chose, and whether it lies at the end of an axis: then the optimum may lie beyond."""
    from jaxrec import display

    for words, which in zip(("clean", "under PGD-10"), best, strict=True):
        ends = [
            name
            for (name, values), value in zip(axes(config), reversed(which.setting), strict=True)
            if value in (min(values), max(values))
        ]
        display.say(f"Best on the validation items, {words}: {which}; at the end of: {', '.join(ends) or 'no axis'}")


if __name__ == "__main__":
    command.run(main, Config)
