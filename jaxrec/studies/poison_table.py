"""A table of fake users, attack x victim x budget: what the configs of the experiments that make one mean.

Such a config has the fields of `experiments.ml100k_shilling_table`. Nothing here imports jax before flags are checked.
"""

from typing import Any, Literal

from jaxrec import command, errors

SMOKE_USERS = 200  # of a smoke run, whose config differs by:
SMOKE = {
    "attacks": ("random", "segment", "exact EASE"), "defended": ("segment",), "budgets": (0.05,), "num_seeds": 1,
    "epochs": 2, "neumf_epochs": 1, "lightgcn_epochs": 1, "vae_epochs": 1, "dimension": 8, "steps": 2,
}  # fmt: skip
ADDED = ("budgets", "attacks", "defended", "aims", "victims", "num_seeds")  # decide which cells a run has, and no value
AIMS: dict[str, tuple[Literal["push", "nuke"], str]] = {
    "push head": ("push", "head"), "push tail": ("push", "tail"),
    "nuke head": ("nuke", "head"), "nuke tail": ("nuke", "tail"),
}  # fmt: skip
COUNTS = ("num_targets", "profile_size", "neighbours", "dimension", "graph_batch", "user_batch", "steps", "num_seeds")
EXPECTED = {
    "budgets": command.Expected("in (0, 1]", lambda value: 0 < value <= 1),
    "aims": command.Expected(f"of {', '.join(AIMS)}", AIMS.__contains__),
    **dict.fromkeys((*COUNTS, "epochs", "neumf_epochs", "lightgcn_epochs", "vae_epochs"), command.POSITIVE),
    **dict.fromkeys(("l2", "ials_l2"), command.POSITIVE),
    **dict.fromkeys(("num_selected", "seed"), command.NON_NEGATIVE),
}


def check(config: Any) -> None:
    """Refuses flags that no table of this kind can be made with."""
    command.check(config, EXPECTED)
    if config.num_selected > config.profile_size:
        size = config.profile_size
        raise errors.InputError(f"Expected --num-selected <= --profile-size {size}, got {config.num_selected}.")


def execute(experiment: str, config: Any, data: Any) -> None:
    """Makes the table of a data set, in the run directory of the experiment."""
    from jaxrec import run_directory
    from jaxrec.studies import poison_records, poison_study, study

    setting = parts(config, data)
    for share in config.budgets:
        poison_study.num_fakes(share, setting.known.num_users, "--budgets")
    cases = poison_study.cases_of(config.attacks, [AIMS[aim] for aim in config.aims], config.budgets)
    seeds = range(config.seed, config.seed + config.num_seeds)
    may_change = (*run_directory.PLACES, *ADDED)
    path = config.run_dir or study.run_path(experiment, data, config, may_change=may_change)
    with run_directory.open_run(path, config, data.fingerprint, may_change=may_change):
        poison_study.run(path, setting, cases, seeds=seeds)
        poison_records.publish(path, setting, cases, seeds=seeds, experiment=experiment)


def parts(config: Any, data: Any):
    """The attacks, the victims, the detectors and the targets."""
    from jaxrec.inner import ease
    from jaxrec.studies import poison_parts, poison_study

    if config.defended:
        command.named(config.defended, poison_parts.ATTACKS, "defended")
    shared = {"dimension": config.dimension, "ease_l2": config.l2, "ials_l2": config.ials_l2}
    epochs = {
        "MF-BPR": config.epochs, "NeuMF": config.neumf_epochs,
        "LightGCN": config.lightgcn_epochs, "Mult-VAE": config.vae_epochs,
    }  # fmt: skip
    sizes = {"profile_size": config.profile_size, "num_selected": config.num_selected}
    batches = {"graph_batch": config.graph_batch, "user_batch": config.user_batch}
    setting = poison_study.Setting(
        data=data,
        make=poison_parts.attacks(config.attacks, **sizes, num_steps=config.steps, **shared),
        victims=poison_parts.victims(config.victims, neighbours=config.neighbours, epochs=epochs, **batches, **shared),
        detectors=poison_parts.detectors(),
        targets={},
        surrogate=ease.surrogate(l2=config.l2),
        defended=config.defended,
        unrated=poison_parts.LEARNED,
    )
    targets = poison_study.draw_targets(setting.known, num=config.num_targets, seed=config.seed)
    return setting._replace(targets=targets)
