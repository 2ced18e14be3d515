"""Why papers on APR disagree: which pairs share a batch decides how strong its adversary is.

Examples that share a user share the adversary's perturbation of that user, so that batches of one user after another,
or of another size, are another defence at the same epsilon. From the same BPR models: APR for each composition and size
of the batches, epsilon and weight, against BPR continued on the same batches. NDCG@10 of the test items after the last
epoch is the one metric declared; intervals over seeds and users, sign flips over seeds with Holm's correction.

Expected: NDCG@10 less that of the control (5 seeds, one XLA thread of an AMD EPYC, commit 209d324): at epsilon .5
          +.0011 to +.0021 in all six cells; at epsilon 1 from -.0050 (shuffled, 512) to +.0017 (user-blocked, 2,048).
          By the declared test five seeds cannot tell any, and the ten of --full stop at p .14 in its grid of 72.
          APR takes .03 to .13 of the long tail's share. Correlation of the gain with the fall of the margin -.57, with
          epsilon -.63.
Cost:     some 80 minutes of one CPU core, 14 for 1,000 users; by reckoning 20 hours with --full.
Run:      python -m experiments.why_apr_papers_disagree
          python -m experiments.why_apr_papers_disagree --users 1000      (a slice of the data)
"""

import dataclasses
import itertools
import pathlib
from typing import Literal

from jaxrec import command, runtime

Batching = Literal["shuffled", "user_blocked", "item_blocked"]


@dataclasses.dataclass(frozen=True)
class Config:
    batchings: tuple[Batching, ...] = ("shuffled", "user_blocked", "item_blocked")  # which pairs share a batch
    batch_sizes: tuple[int, ...] = (512, 2048)  # pairs a step
    epsilons: tuple[float, ...] = (0.5, 1.0)  # absolute L2 radii around each row
    adv_weights: tuple[float, ...] = (0.1,)  # weights of the adversarial loss
    epochs: int = 200  # of BPR before, on shuffled batches of 512
    adv_epochs: int = 40  # of APR, and of BPR continued
    learning_rate: float = 0.05  # of Adagrad, on the sum over the batch
    dimension: int = 64  # length of an embedding
    seed: int = 0  # of the first training, and of the validation items, which are held out and not asked
    num_seeds: int = 5  # trainings of each setting, with seeds seed, seed + 1, ...
    users: int | None = None  # the first of them only (default: all)
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/why_apr_papers_disagree/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 200 users, two batchings, two seeds
    full: bool = False  # batches 128 to 8,192, epsilon .25 to 1, weights .1 and 1, ten seeds


EXPECTED = {
    **dict.fromkeys(
        ("batch_sizes", "epsilons", "adv_weights", "epochs", "adv_epochs", "learning_rate"), command.POSITIVE
    ),
    **dict.fromkeys(("dimension", "num_seeds", "users"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}
SMOKE = {
    "batchings": ("shuffled", "user_blocked"),
    "batch_sizes": (512,),
    "epsilons": (0.5, 1.0),
    "adv_weights": (0.1,),
}
SMOKE |= {"epochs": 2, "adv_epochs": 2, "num_seeds": 2, "users": 200}
FULL = {"batch_sizes": (128, 512, 2048, 8192), "epsilons": (0.25, 0.5, 1.0), "adv_weights": (0.1, 1.0), "num_seeds": 10}


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    import optax

    from jaxrec import bench, run_directory
    from jaxrec.models import mf
    from jaxrec.studies import batch_study, continued, study

    for is_asked, changes in ((config.full, FULL), (config.smoke, SMOKE)):
        config = dataclasses.replace(config, **(changes if is_asked else {}))
    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=config.users)
    sizes = {"num_users": data.split.train.num_users, "num_items": data.split.train.num_items}
    grid = itertools.product(config.epsilons, config.adv_weights)
    start = continued.Start(
        model=mf.model(**sizes, dimension=config.dimension),
        data=data.split.train,
        optimizer=optax.adagrad(config.learning_rate, initial_accumulator_value=0.1),
        epochs=config.epochs,
        seeds=tuple(range(config.seed, config.seed + config.num_seeds)),
    )
    plan = batch_study.Plan(
        start,
        on=bench.leave_one_out(data.split, cutoffs=(10,)),
        adv_epochs=config.adv_epochs,
        settings=(continued.CONTROL, *(continued.Setting(*values) for values in grid)),
    )
    cells = [continued.Cell(*values) for values in itertools.product(config.batchings, config.batch_sizes)]
    path = config.run_dir or study.run_path("why_apr_papers_disagree", data, config)
    with run_directory.open_run(path, config, data.fingerprint):
        found = batch_study.run(path, plan, cells)
        publish(path, config, data, plan, found)


def publish(path, config: Config, data, plan, found) -> None:
    """Records, the table of gains, and the heat map of their means."""
    import numpy as np

    from jaxrec import display, files, results
    from jaxrec.pictures import heat_map
    from jaxrec.studies import batch_records, batch_study, continued

    gains = batch_study.gains(found, plan.settings, seed=config.seed)
    results.write(path, batch_records.records_of("why_apr_papers_disagree", data, plan, found, gains))
    files.write_text(path / "gains.md", batch_records.page(gains))
    columns = [str(setting) for setting in plan.settings if setting != continued.CONTROL]
    means = np.reshape([gain.interval.mean for gain in gains], (len(found), len(columns)))
    title = f"NDCG@10 gained over BPR continued on the same batches, {data.title}, {len(plan.start.seeds)} seeds"
    heat_map.draw(path / "gains.png", means, rows=[str(cell) for cell in found], columns=columns, title=title)
    display.say(batch_records.page(gains))
    display.say(f"Everything lies in {path}/: results.md, results.json, gains.md, gains.png, logs/, measured/")


if __name__ == "__main__":
    command.run(main, Config)
