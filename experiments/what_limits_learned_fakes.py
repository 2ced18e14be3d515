"""What limits learned fake users: each setting changed alone, on four recommenders that are trained anew.

Fakes that are 1 % of the users, learned through exact gradients of EASE (Tang et al., RecSys 2020), move head targets
of MovieLens-100K by some three points of HR@50. Is it the steps, the outer loss, how long profiles are, rounding,
the surrogate, or that one profile pushes five targets? Each is changed alone, then what is free to an attacker at once,
with five targets in every fake and with one at a time. The victim EASE is the surrogate itself, so that on it nothing
is lost in transfer; "not rounded" is the same victim with the learned rows as they are, shares of fillers and not ones.
Bandwagon fakes of both lengths stand beside them.

Expected: five targets at once / one at a time, points of HR@50 (3 seeds): on EASE 2.6 / 4.3, with 200 steps 3.6 / 4.2,
          200 items a profile 3.7 / 5.9, both and longer steps 5.4 / 7.8 (not rounded 5.9 / 8.9); on MF-BPR 2.0 to 3.4
          whatever is changed, +- 2 to 6 (commits e53f21c to b04f00c; docs/poisoning.md).
Cost:     25 minutes of CPU for the five variants of docs/poisoning.md and 3 seeds, about as many for the others.
Run:      python -m experiments.what_limits_learned_fakes
          python -m experiments.what_limits_learned_fakes --variants learned "all three"     (some; a run goes on)
"""

import dataclasses
import pathlib

from jaxrec import command, errors, runtime

VARIANTS = (
    "learned", "more steps", "longer steps", "sharper loss", "flatter loss", "longer profiles", "all three",
    "through iALS", "bandwagon", "bandwagon, longer profiles",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    variants: tuple[str, ...] = VARIANTS  # all three: more steps, longer steps, longer profiles
    victims: tuple[str, ...] = ("item-kNN", "MF-BPR", "iALS", "EASE")  # and NeuMF, LightGCN, Mult-VAE, which are slow
    fakes: float = 0.01  # as a share of the users
    num_targets: int = 5  # of the head, pushed at once and one at a time
    profile_size: int = 50  # items of a fake beside the targets, and of longer ones:
    longer: int = 200  # real users have 106 on average, 65 at the median
    steps: int = 20  # of the learned attacks, and of those with more steps:
    more_steps: int = 200
    step_size: float = 1.0  # L2, of each fake's row, and of longer steps:
    longer_step: float = 3.0
    temperature: float = 0.1  # of the outer loss, in scores of EASE, and others:
    sharper: float = 0.03
    flatter: float = 0.3
    seed: int = 0  # of the targets, and the first of the trainings and attacks
    num_seeds: int = 3  # trainings and attacks, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/what_limits_learned_fakes/NAME)
    data_dir: pathlib.Path | None = None  # holds u.data (default: $JAXREC_DATA)
    smoke: bool = False  # the whole path on 200 users, two victims, one seed


SMOKE = {
    "victims": ("item-kNN", "EASE"), "fakes": 0.05, "num_targets": 2, "profile_size": 8, "longer": 16, "steps": 2,
    "more_steps": 4, "num_seeds": 1,
}  # fmt: skip
SELECTED = 5  # of a bandwagon fake's items; it and the victims as in ml100k_shilling_table
EASE_L2, IALS_L2, DIMENSION = 100.0, 0.01, 32
EPOCHS = {"MF-BPR": 50, "NeuMF": 20, "LightGCN": 40, "Mult-VAE": 100}
SIZES = ("num_targets", "profile_size", "longer", "steps", "more_steps", "step_size", "longer_step")
EXPECTED = {
    "fakes": command.Expected("in (0, 1]", lambda value: 0 < value <= 1),
    **dict.fromkeys((*SIZES, "temperature", "sharper", "flatter", "num_seeds"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}
NAME = "what_limits_learned_fakes"


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import run_directory
    from jaxrec.studies import limits_study, poison_study, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = study.movielens_100k(config.data_dir, num_users=200 if config.smoke else None)
    setting, learned = parts(config, data)
    shortest = min(config.profile_size, config.longer)
    if shortest < SELECTED:
        message = f"Expected --profile-size and --longer of the {SELECTED} items that bandwagon selects or more"
        raise errors.InputError(f"{message}, got {shortest}.")
    poison_study.num_fakes(config.fakes, setting.known.num_users, "--fakes")
    seeds = range(config.seed, config.seed + config.num_seeds)
    may_change = (*run_directory.PLACES, "variants", "victims", "num_seeds")
    path = config.run_dir or study.run_path(NAME, data, config, may_change=may_change)
    with run_directory.open_run(path, config, data.fingerprint, may_change=may_change):
        limits_study.run(path, setting, learned, share=config.fakes, seeds=seeds)
        limits_study.publish(path, setting, share=config.fakes, seeds=seeds, experiment=NAME)


def parts(config: Config, data):
    """The setting of poison_study, and those of its attacks that walk along the victim EASE itself."""
    import functools

    from jaxrec.inner import ease, ials
    from jaxrec.poisoning import bandwagon
    from jaxrec.studies import limits_study, poison_parts, poison_study

    dimension = 8 if config.smoke else DIMENSION
    base = limits_study.Learned(
        config.profile_size, config.steps, config.step_size, config.temperature, ease.surrogate(l2=EASE_L2)
    )
    learned = {
        "learned": base,
        "more steps": base._replace(num_steps=config.more_steps),
        "longer steps": base._replace(step_size=config.longer_step),
        "sharper loss": base._replace(temperature=config.sharper),
        "flatter loss": base._replace(temperature=config.flatter),
        "longer profiles": base._replace(num_fillers=config.longer),
        "all three": base._replace(
            num_steps=config.more_steps, step_size=config.longer_step, num_fillers=config.longer
        ),
    }
    through = {"through iALS": base._replace(surrogate=ials.surrogate(dimension=dimension, l2=IALS_L2))}
    make = {name: attack.make for name, attack in (learned | through).items()}

    def fixed(num_fakes, direction, *, size):
        selecting = {"num_selected": SELECTED, "num_fillers": size - SELECTED}
        return bandwagon.attack(num_fakes=num_fakes, direction=direction, **selecting)

    make["bandwagon"] = functools.partial(fixed, size=config.profile_size)
    make["bandwagon, longer profiles"] = functools.partial(fixed, size=config.longer)
    make = {name: make[name] for name in command.named(config.variants, make, "variants")}
    victims = poison_parts.victims(
        config.victims,
        neighbours=20,
        epochs=dict.fromkeys(EPOCHS, 2) if config.smoke else EPOCHS,
        graph_batch=2048,
        user_batch=100,
        dimension=dimension,
        ease_l2=EASE_L2,
        ials_l2=IALS_L2,
    )
    setting = poison_study.Setting(data, make, victims, detectors={}, targets={}, unrated=tuple(make))
    head = poison_study.draw_targets(setting.known, num=config.num_targets, seed=config.seed)["head"]
    setting = setting._replace(targets=limits_study.groups(head))
    return setting, {name: attack for name, attack in learned.items() if name in make}


if __name__ == "__main__":
    command.run(main, Config)
