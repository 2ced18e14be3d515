"""How many of its good recommendations a bagged recommender keeps on MovieLens-100K whatever fake users do.

PORE (Jia, Liu, Hu and Gong, USENIX Security 2023, arXiv:2303.14601): thousands of base models, each EASE of a few users
drawn at random, vote; the votes certify, for every user and number of fake users, how many relevant items stay in the
list. Precision, recall and F1 at 10: certified, under it all that fakes can do; attacked, by random and bandwagon fakes
and by bandwagon fakes that push what stands just below most lists and is relevant to nobody there, with all base models
drawn and trained anew; and clean.

Expected: precision at 10, 1,000 base models, one seed: clean .360, certified .149 without a fake, .118 with one, .054
          with ten, 0 from 40 on; attacked by 10 or 50 fakes .357 to .363 (docs/poisoning.md).
Cost:     22 s of one CPU core for 1,000 base models, of which there are seven times as many; 3 minutes.
Run:      python -m experiments.pore_certificate
"""

import dataclasses
import pathlib
from typing import Literal

from jaxrec import command, errors, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    models: int = 1000  # base models of each ensemble, T; the paper's is 100,000
    sampled: int = 50  # users of each base model, s; of 20, 50, 100 and 200 on validation. The paper's is 200
    recommended: int = 1  # items that a base model votes for, for each user, N'
    l2: float = 100.0  # of EASE; of 10 and 100 on validation
    k: int = 10  # length of the lists, N
    alpha: float = 0.001  # probability that the certificate is wrong for any user
    most: int = 50  # fake users up to which it is certified
    attacked: tuple[int, ...] = (10, 50)  # numbers of fake users that attack
    attacks: tuple[str, ...] = ("random", "bandwagon", "runners-up")
    targets: int = 10  # items that fakes push
    profile_size: int = 100  # items of a fake beside the targets; real users have 106 on average
    selected: int = 90  # of them the most popular items, in bandwagon and runners-up
    on: Literal["test", "valid"] = "test"  # what is relevant; validation is for choosing settings
    batch: int = 1  # base models that are solved at once; more on an accelerator
    seed: int = 0  # of the split, the samples and the attacks
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/pore_certificate/NAME)
    data_dir: pathlib.Path | None = None  # holds u.data (default: $JAXREC_DATA)
    smoke: bool = False  # the whole path on 200 users


SMOKE = {"models": 40, "sampled": 5, "attacked": (2,), "most": 5}
ADDED = ("models", "attacked", "attacks")  # decide which votes a run has, and none of them
EXPECTED = {
    **dict.fromkeys(
        ("models", "sampled", "recommended", "l2", "k", "targets", "profile_size", "batch"), command.POSITIVE
    ),
    **dict.fromkeys(("most", "selected", "seed"), command.NON_NEGATIVE),
    "alpha": command.Expected("in (0, 1)", lambda value: 0 < value < 1),
    "attacked": command.POSITIVE,
}


def main(config: Config) -> None:
    command.check(config, EXPECTED, may_be_empty=("attacked",))
    if config.selected > config.profile_size:
        raise errors.InputError(f"Expected --selected <= --profile-size {config.profile_size}, got {config.selected}.")
    runtime.prepare()
    from jaxrec import display, files, results, run_directory
    from jaxrec.pictures import certified
    from jaxrec.studies import poison_study, pore_study, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    setting = parts(config)
    drawn = poison_study.draw_targets(setting.known, num=config.targets, seed=config.seed)["head"]
    targets = {"random": drawn, "bandwagon": drawn, "runners-up": drawn}
    command.named(config.attacks, targets, "attacks")
    list(attacked(config, setting, targets))  # one that cannot be is refused before anything is cast
    may_change = (*run_directory.PLACES, *ADDED)
    path = config.run_dir or study.run_path("pore_certificate", setting.data, config, may_change=may_change)
    with run_directory.open_run(path, config, setting.data.fingerprint, may_change=may_change) as run:
        first = setting._replace(num_models=min(config.models, pore_study.PIECE))
        seen = pore_study.counts(
            run, first, "clean", setting.known
        )  # by the attacker; it does not change with --models
        targets["runners-up"] = pore_study.runners_up(setting, seen, config.targets)
        votes = pore_study.counts(run, setting, "clean", setting.known)
        bounds = pore_study.certified(setting, votes, range(config.most + 1))
        kept = {(None, 0): pore_study.listed(setting, votes), **bounds}
        for name, num, interactions in attacked(config, setting, targets):
            kept[name, num] = pore_study.listed(setting, pore_study.counts(run, setting, f"{name}-{num}", interactions))
        found = results.write(path, pore_study.records_of("pore_certificate", setting, kept))
        files.write_text(path / "certified.md", pore_study.table(found, setting.known.num_users))
        certified.draw(
            path / "pore_certificate.png", found, num_users=setting.known.num_users, certified=pore_study.ANY
        )
        taken = pore_study.seconds_per_thousand(run)
        display.say((path / "certified.md").read_text())
        display.say(
            f"1,000 base models: {taken['seconds']:.0f} s by the clock, {taken['cpu_seconds']:.0f} s of CPU time"
        )
        display.say(f"Everything lies in {path}/: certified.md, results.md, results.json, pore_certificate.png, votes/")


def parts(config: Config):
    """The data, what is relevant, and how base models are made."""
    import functools

    from jaxrec import bagging, metrics, splits
    from jaxrec.studies import pore_study, study

    hold_out = functools.partial(splits.per_user_ratio, valid_fraction=0.1, test_fraction=0.25, seed=config.seed)
    words = (
        f"a quarter of each user's ratings for the test, a tenth for validation, at random; implicit, on {config.on}"
    )
    data = study.movielens_100k(
        config.data_dir, num_users=200 if config.smoke else None, hold_out=hold_out, words=words
    )
    train, valid, test, _ = data.split
    known, held_out = (train, valid) if config.on == "valid" else (splits.joined(train, valid), test)
    known = dataclasses.replace(known, ratings=None)
    metrics.check_cutoff(config.k, known.num_items)
    ensemble = bagging.Ensemble(config.sampled, config.recommended, config.l2, config.batch)
    bagging.check(known, ensemble)
    return pore_study.Setting(data, known, held_out, ensemble, config.models, config.k, config.alpha, config.seed)


def attacked(config: Config, setting, targets):
    """(name, number of fakes, real users and fakes) of every attack, each on its targets."""
    from jaxrec.poisoning import bandwagon, random_ratings
    from jaxrec.studies import pore_study

    for name in config.attacks:
        for num in config.attacked:
            if name == "random":
                poison = random_ratings.attack(num_fakes=num, num_fillers=config.profile_size)
            else:
                others = config.profile_size - config.selected
                poison = bandwagon.attack(num_fakes=num, num_fillers=others, num_selected=config.selected)
            yield name, num, pore_study.contaminated(setting, poison, targets[name])


if __name__ == "__main__":
    command.run(main, Config)
