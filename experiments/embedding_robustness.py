"""Which architectures are brittle? Every model of a table with embedding tables, clean and attacked, side by side.

One adversary for all: it moves all tables of a model's rows, each row by at most a share of its table's mean row norm,
and raises the softmax cross-entropy of the model's own clean lists; noise of the same norm is the control. A user's
ranking of the test item, and the share of the clean list that is still in the perturbed one, which needs no test item.
A budget relative to norms is what models can be compared at; still it is model-space access, stronger than any user's,
and what an equal share of a row means differs between a factor and an item-item weight.

Expected: at epsilon .2 the share of the clean top ten that is left: popularity .96, item-kNN .74, PureSVD .56, EASE and
          DCN-v2 .52, iALS .32, DeepFM .26, two towers .22, LightGCN .20, MLP .06, logistic MF .05, BPR .04, NeuMF .03,
          Mult-DAE and GMF .02, FM and Mult-VAE .01; under noise FM .54, GMF .55, the others .69 to .97 (one seed,
          commits a191f4a and f108733; docs/models.md).
Cost:     15 minutes of one CPU core for sixteen models, 20 more for the four that know features.
Run:      python -m experiments.embedding_robustness --run RUN_DIR     (of ml1m_full_table, ml1m_sequential_table, ...)
"""

import dataclasses
import hashlib
import json
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    run: pathlib.Path | None = None  # a run of a table of models, such as experiments.ml1m_full_table
    rows: tuple[str, ...] = ()  # names of its models (default: all that have tables)
    epsilons: tuple[float, ...] = (0.1, 0.2)  # radii in mean row norms
    num_steps: int = 10  # gradient steps of PGD
    num_users: int = 1000  # random users whose lists are attacked and whose test items are ranked
    out: pathlib.Path | None = None  # folder for the results; a stopped study goes on (default: in the run)
    experiment: str | None = None  # that made the run (default: as its results.json says)
    data_dir: pathlib.Path | None = None  # where the data of the run lie now (default: as in the run)
    data: pathlib.Path | None = None  # where the run's own csv lies now (default: as in the run)


EXPECTED: dict[str, command.Expected] = dict.fromkeys(("epsilons", "num_steps", "num_users"), command.POSITIVE)


PLACES = ("run", "rows", "out", "experiment", "data_dir", "data")  # what decides no figure


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import display, results, run_directory
    from jaxrec.pictures import brittleness
    from jaxrec.studies import model_robustness, model_table

    run = opened(config)
    seed, source = run.settings.seed, run.path
    folder = config.out or source / "embedding_robustness"
    data = {**run.data.fingerprint, "run": began_with(source)}
    with run_directory.open_run(folder, config, data, may_change=PLACES):
        rows = model_table.chosen(source, run.rows, run.on, seed)
        made = attacks(config)
        found = model_robustness.run(
            folder,
            source,
            rows,
            run.on,
            made,
            config.epsilons,
            seed=seed,
            num_users=config.num_users,
            report=lambda name: display.say(f"attacks on {name}"),
        )
        rows = [row for row in rows if row.name in found]
        gaps = model_robustness.list_gaps(folder, rows)
        kept = model_robustness.records_of(found, rows, run.data, gaps, seed=seed, white_box=list(made)[1:])
        kept = results.write(folder, kept)
        brittleness.draw(folder / "curve.png", kept, attacks=["noise", model_robustness.WORST])
        display.records_table([r for r in kept if r.attack in (None, "noise", model_robustness.WORST)])
        display.say(f"Everything lies in {folder}/: results.md, results.json, curve.png")


def opened(config: Config):
    """The run of a table, with those of its rows that were measured and are wanted."""
    from jaxrec import files
    from jaxrec.studies import table_runs
    from jaxrec.types import InputError

    if config.run is None:
        raise InputError("Expected --run, a run of a table of models such as experiments.ml1m_full_table.")
    table_runs.read_config(config.run)
    moved = {name: value for name in ("data_dir", "data") if (value := getattr(config, name)) is not None}
    run = table_runs.open_run(config.run, table_runs.experiment_of(config.run, named=config.experiment), moved=moved)
    if run.on.test.plan is None:
        raise InputError(f"Expected a table that holds out one item of each user, got a run of {run.experiment}.")
    there = lambda row: (run.path / "measured" / f"{files.stem(row.name)}-{run.settings.seed}.npz").exists()
    wanted = [row for row in run.rows if there(row) and (not config.rows or row.name in config.rows)]
    if not wanted:
        raise InputError(
            f"Expected models measured in {config.run}, got none of {', '.join(r.name for r in run.rows)}."
        )
    return run._replace(rows=wanted)


def began_with(run: pathlib.Path) -> str:
    """SHA-256 of what decides a run's trainings: the same after it was moved, or had rows or seeds added."""
    from jaxrec.studies import model_table, table_runs

    recorded = table_runs.read_config(run)
    decisive = {name: value for name, value in recorded["config"].items() if name not in model_table.MAY_CHANGE}
    kept = {name: recorded.get(name) for name in ("data", "versions", "commit", "device")} | {"config": decisive}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def attacks(config: Config):
    """Noise of the same norm, one step, and several."""
    from jaxrec.attacks import fgsm, pgd, random_noise

    return {
        "noise": lambda epsilon: random_noise.attack(epsilon=epsilon),
        "FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon),
        f"PGD-{config.num_steps}": lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=config.num_steps),
    }


if __name__ == "__main__":
    command.run(main, Config)
