"""APR on MovieLens-1M: does adversarial training of the embeddings help BPR matrix factorisation, clean and attacked?

He, He, Du and Chua, "Adversarial Personalized Ranking for Recommendation", SIGIR 2018, arXiv:1808.03908. BPR is trained
first; APR goes on from its last weights with Adagrad started anew. A validation item of each user chooses the epoch;
with --robust-epsilon, a second one by its rank under PGD, so that both choices stand side by side.

Expected: NDCG@10 clean / under PGD-10 at epsilon .5: BPR .0447 / .0376, APR .0412 / .0424 (one seed, +- .004 over
          users; 2 cores of an AMD EPYC, commit ee301b2). The batches decide: see README.
Cost:     5 minutes on 2 CPU cores; with --num-seeds N, N times that.
Run:      python -m experiments.ml1m_apr
"""

import dataclasses
import pathlib
from typing import Literal

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    epochs: int = 100  # epochs of BPR (paper: 1000)
    adv_epochs: int = 50  # epochs of APR, from BPR's last weights (paper: 1000)
    epsilon: float = 0.5  # absolute L2 radius around each row that APR trains against (paper: 0.5)
    adv_weight: float = 1.0  # weight of the adversarial loss; 0 goes on with BPR (paper: 1)
    batch_size: int = 512  # training pairs a step; it decides the adversary, not only the speed (paper: 512)
    sampler: Literal["shuffled", "user_blocked"] = "shuffled"  # which pairs share a batch (paper: shuffled)
    adv_sampler: Literal["shuffled", "user_blocked"] | None = None  # the same for APR's epochs (default: as for BPR)
    learning_rate: float = 0.05  # of Adagrad, on the sum over the batch (paper: 0.05)
    dimension: int = 64  # length of an embedding (paper: 64)
    seed: int = 0  # of the first training, and of the validation items
    num_seeds: int = 1  # trainings, with seeds seed, seed + 1, ... (paper: 1)
    absolute_epsilons: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)  # L2 radii of the curve (paper: 0.5, 1, 2)
    relative_epsilons: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)  # radii in mean row norms, canonical gauge
    num_steps: int = 10  # gradient steps of the PGD attack
    robust_epsilon: float | None = None  # also the epoch best in validation under PGD of this relative radius
    devices: int = 1  # over which each batch is split
    run_dir: pathlib.Path | None = None  # results go here, and a stopped run goes on (default: runs/ml1m_apr/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    bpr_run: pathlib.Path | None = None  # take BPR from this finished run of the same flags instead of training it
    smoke: bool = False  # the whole path on a tiny slice of the data, in under 40 s
    paper: bool = False  # the published schedule: 1000 + 1000 epochs


SMOKE_USERS = 200
EXPECTED = {
    **dict.fromkeys(("epochs", "batch_size", "dimension", "num_seeds", "num_steps", "devices"), command.POSITIVE),
    **dict.fromkeys(("learning_rate", "absolute_epsilons", "relative_epsilons", "robust_epsilon"), command.POSITIVE),
    **dict.fromkeys(("adv_epochs", "epsilon", "adv_weight", "seed"), command.NON_NEGATIVE),
}


def main(config: Config) -> None:
    command.check(config, EXPECTED, may_be_empty=("absolute_epsilons", "relative_epsilons"))
    runtime.prepare(config.devices)
    import optax

    from jaxrec import run_directory, surfaces
    from jaxrec.models import mf
    from jaxrec.studies import publish, staged, study

    if config.paper:
        config = dataclasses.replace(config, epochs=1000, adv_epochs=1000)
    if config.smoke:
        config = dataclasses.replace(config, epochs=4, adv_epochs=2)
    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=SMOKE_USERS if config.smoke else None)
    train = data.split.train
    model = mf.model(num_users=train.num_users, num_items=train.num_items, dimension=config.dimension)
    surface = surfaces.tables("user", "item")
    stages, adversary = bpr_then_apr(config, model, surface), noise_fgsm_pgd(config, surface)
    setting = staged.Setting(
        model=model,
        data=data,
        optimizer=optax.adagrad(config.learning_rate, initial_accumulator_value=0.1),  # TensorFlow 1's start
        batch_size=config.batch_size,
        num_devices=config.devices,
    )
    seeds = range(config.seed, config.seed + config.num_seeds)
    unasked = ("robust_epsilon",) if config.robust_epsilon is None else ()  # runs from before it keep their names
    may_change = (*run_directory.PLACES, *unasked)
    path = config.run_dir or study.run_path("ml1m_apr", data, config, may_change=may_change)
    with run_directory.open_run(path, config, data.fingerprint) as run:
        if not (path / "results.json").exists():
            if config.bpr_run is not None:
                staged.reuse(config.bpr_run, run, config, stages[0], seeds)
            outcomes = staged.run(run, setting, stages, adversary, seeds=seeds)
            name = f"MF {config.dimension}"
            found = publish.records_of(setting, outcomes, adversary, seeds=seeds, experiment="ml1m_apr", model=name)
            publish.write(path, found)
        publish.show(path, epsilon=config.epsilon)


def bpr_then_apr(config: Config, model, surface):
    """The two trainings, the second from the first's last weights."""
    from jaxrec import objectives, sampling
    from jaxrec.attacks import fgsm
    from jaxrec.defences import apr
    from jaxrec.studies import staged

    bpr = objectives.pairwise(model=model)
    robust = apr.objective(
        clean=bpr, attack=fgsm.attack(epsilon=config.epsilon), surface=surface, adv_weight=config.adv_weight
    )
    adv_sampler = config.adv_sampler or config.sampler
    against = f"epsilon {config.epsilon:g}, weight {config.adv_weight:g}, {adv_sampler}"
    bpr_schedule = f"BPR {config.epochs} epochs, batch {config.batch_size} {config.sampler}"
    apr_schedule = f"{bpr_schedule}; APR {config.adv_epochs} epochs, {against}"
    sample, adv_sample = sampling.SAMPLERS[config.sampler], sampling.SAMPLERS[adv_sampler]
    return [
        staged.Stage("bpr", bpr, config.epochs, sample, None, bpr_schedule),
        staged.Stage("apr", robust, config.adv_epochs, adv_sample, "APR", apr_schedule),
    ]


def noise_fgsm_pgd(config: Config, surface):
    """Who attacks both models: the control of equal norm, one step, and several."""
    from jaxrec.attacks import fgsm, pgd, random_noise
    from jaxrec.studies import staged

    several = lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=config.num_steps)
    return staged.Adversary(
        attacks={
            "noise": lambda epsilon: random_noise.attack(epsilon=epsilon),
            "FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon),
            f"PGD-{config.num_steps}": several,
        },
        epsilons={
            "absolute": sorted({*config.absolute_epsilons, config.epsilon} - {0}),  # the table shows config.epsilon
            "relative": config.relative_epsilons,
        },
        surface=surface,
        surface_name="user and item tables",
        choosing=None if config.robust_epsilon is None else staged.Choosing(several, config.robust_epsilon),
    )


if __name__ == "__main__":
    command.run(main, Config)
