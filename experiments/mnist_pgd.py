"""PGD adversarial training of a perceptron on MNIST (Madry et al., ICLR 2018, arXiv:1706.06083), by the same attacks.

Before an adversary of embeddings is believed, it should do on images what it is known to do there. A perceptron
784-128-10 is trained by Adam in three ways: standard, with uniform noise, and against PGD in the Linf ball (clean plus
adversarial loss; from the image itself, with steps that just reach the radius, where Madry et al. start at random and
step farther). All are attacked, white box, by PGD, PGD with restarts and APGD in the ball of the training, and by
JSMA and C&W, which have other budgets: few pixels by any amount, and an L2 ball. Nothing in `attacks/` knows of images.

Expected: accuracy clean, under PGD-10, PGD-50 x 5, APGD, JSMA, C&W: standard .979, .035, .018, .021, .012, .002; noise
          .978, .062, .040, .043, .006, .004; PGD .979, .851, .838, .837, .172, .272 (one seed, one XLA thread of an AMD
          EPYC, commit 325a383; docs/mnist.md).
Cost:     some 10 minutes of one CPU core.
Run:      python -m experiments.mnist_pgd
          python -m experiments.mnist_pgd --num-seeds 3      (adds seeds; finished ones are not done again)
"""

import dataclasses
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    epsilon: float = 0.1  # Linf radius, of pixels in [0, 1]: of the noise, of PGD and of APGD
    step_size: float = 0.01  # of PGD
    num_steps: int = 10  # of PGD in training; PGD-10 attacks with as many
    adv_weight: float = 1.0  # of the loss on perturbed images, beside the clean loss
    l2_epsilon: float = 2.0  # L2 radius of C&W
    pixels: float = 0.145  # share of the pixels that JSMA may change
    cw_steps: int = 200  # Adam's steps of C&W for each of its 6 weights
    search_images: int = 500  # the first test images, which JSMA and C&W are tried on
    epochs: int = 10  # of each training
    batch_size: int = 64  # images a step
    learning_rate: float = 1e-3  # of Adam
    hidden: int = 128  # width of the hidden layer
    seed: int = 0  # of the first training
    num_seeds: int = 1  # trainings of each kind, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/mnist_pgd/NAME)
    data_dir: pathlib.Path | None = None  # holds the IDX files (default: $JAXREC_DATA, else scikit-learn's digits)
    smoke: bool = False  # the whole path on 1,000 images, one epoch, 100 test images


POSITIVE = ("num_steps", "cw_steps", "search_images", "epochs", "batch_size", "learning_rate", "hidden", "num_seeds")
EXPECTED = {
    **dict.fromkeys(POSITIVE, command.POSITIVE),
    **dict.fromkeys(("epsilon", "step_size", "adv_weight", "l2_epsilon", "seed"), command.NON_NEGATIVE),
    "pixels": command.Expected("in (0, 1]", lambda value: 0 < value <= 1),
}
DECIDE_NOTHING = ("run_dir", "data_dir", "num_seeds")  # where things lie, and how much is added to them
SMOKE = {"epochs": 1, "hidden": 16, "cw_steps": 20, "search_images": 20}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    import optax

    from jaxrec import classifier, display, results, run_directory
    from jaxrec.studies import classifier_study, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    sizes = {"num_train": 1000, "num_test": 100} if config.smoke else {}
    images = classifier_study.images(config.data_dir, **sizes)
    num_pixels = images.train.images[0].size
    model = classifier.mlp(num_pixels=num_pixels, hidden=(config.hidden,))
    plan = classifier_study.Plan(
        model=model,
        model_name=f"MLP {num_pixels}-{config.hidden}-10",
        images=images,
        trainings=trainings(config, model),
        threats=threats(config, num_test=len(images.test.labels)),
        optimizer=optax.adam(config.learning_rate),
        batch_size=config.batch_size,
        num_epochs=config.epochs,
    )
    seeds = range(config.seed, config.seed + config.num_seeds)
    path = config.run_dir or study.run_path("mnist_pgd", images.data, config, may_change=DECIDE_NOTHING)
    with run_directory.open_run(path, config, images.data.fingerprint, may_change=DECIDE_NOTHING) as run:
        measured = classifier_study.run(run, plan, seeds=seeds)
        found = classifier_study.records_of("mnist_pgd", plan, measured, seeds=seeds)
        classifier_study.write(path, found)
    display.records_table(found, results.table, units="images")
    display.say(f"Everything lies in {path}/: results.md, accuracy.png, results.json, metrics.jsonl, checkpoints/")


def trainings(config: Config, model):
    """Standard, with noise, and against PGD."""
    from jaxrec import classifier, norms
    from jaxrec.attacks import pgd, random_noise
    from jaxrec.studies.classifier_study import Training

    def against(attack=None):
        return classifier.objective(classifier=model, attack=attack, adv_weight=config.adv_weight)

    noise = random_noise.attack(epsilon=config.epsilon, norm=norms.LINF)
    ascent = pgd.attack(epsilon=config.epsilon, norm=norms.LINF, num_steps=config.num_steps, step_size=config.step_size)
    words = f"Adam {config.learning_rate:g}, batch {config.batch_size}, {config.epochs} epochs"
    beside = f"{words}; clean loss + {config.adv_weight:g} x loss"
    steps = f"{config.num_steps} steps of {config.step_size:g}"
    return [
        Training("standard", against(), None, words),
        Training("noise", against(noise), "uniform noise", f"{beside} under noise, Linf {config.epsilon:g}"),
        Training("pgd", against(ascent), "PGD", f"{beside} under PGD, Linf {config.epsilon:g}, {steps}"),
    ]


def threats(config: Config, *, num_test: int):
    """In the ball of the training on all test images; JSMA and C&W on the first of them."""
    from jaxrec import norms
    from jaxrec.attacks import apgd, cw, jsma, pgd
    from jaxrec.studies.classifier_study import Threat

    ball = {"epsilon": config.epsilon, "norm": norms.LINF}
    descent = pgd.attack(**ball, num_steps=config.num_steps, step_size=config.step_size)
    restarts = pgd.attack(**ball, num_steps=50, step_size=config.step_size, random_start=True, num_restarts=5)
    smallest = cw.attack(
        epsilon=config.l2_epsilon, num_steps=config.cw_steps, num_searches=6, learning_rate=0.05, initial_weight=0.1
    )
    few = f"JSMA, {100 * config.pixels:g} % of the pixels"
    return [
        Threat(f"PGD-{config.num_steps}", descent, config.epsilon, num_test),
        Threat("PGD-50, 5 restarts", restarts, config.epsilon, num_test),
        Threat("APGD-100", apgd.attack(**ball), config.epsilon, num_test),
        Threat(few, jsma.attack(gamma=config.pixels), None, min(config.search_images, num_test)),
        Threat("C&W, L2", smallest, config.l2_epsilon, min(config.search_images, num_test)),
    ]


if __name__ == "__main__":
    command.run(main, Config)
