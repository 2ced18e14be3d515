"""Exact implicit gradients against unrolled training, for learned fake users, at equal CPU time.

Fillers of fakes are learned through a surrogate (Tang, Wen and Wang, RecSys 2020, arXiv:2008.04876). One objective,
that of iALS, is differentiated exactly at its fixed point, or through all or the last steps of training by Adam; EASE
is exact in closed form. How near do these gradients come to the exact one, what does one cost, and what do attacks that
walk for equal CPU time do to an iALS that is trained anew? One target at a time, from the head and from the tail.

Expected: cosine with the exact gradient of iALS: EASE .83, last 10 steps .79, all 60 .19, first order .04; HR@50 of the
          head target +2.5 points by exact iALS, +3.1 EASE, +2.0 last 10, +2.9 all 60, +.3 first order; of the tail
          target 0 by all (two targets, one seed, which cannot tell them apart; an AMD EPYC, 7dd9af3,
          recorded before a rebase: docs/poisoning.md).
Cost:     3 minutes of one CPU core; a first smoke run one, nearly all of it the compilation of five bilevel steps.
Run:      python -m experiments.exact_or_unrolled
"""

import dataclasses
import pathlib

from jaxrec import command, errors, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    seconds: tuple[float, ...] = (1.5, 4.0)  # CPU time of crafting at which attacks are judged, ascending
    unrolled: tuple[int, ...] = (10,)  # last steps that are differentiated, beside all of them
    train_steps: int = 60  # of the unrolled surrogate
    dimension: int = 16  # of iALS and of the unrolled surrogate
    fakes: float = 0.01  # of the real users
    fillers: int = 50  # of each fake
    targets: int = 1  # from the head (the 10 % of items with most users), and as many from the tail (5 to 20 users)
    step_size: float = 1.0  # L2, of each fake's row
    temperature: float = 0.1  # of the outer loss
    seed: int = 0  # of the targets, the starts and the victim
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/exact_or_unrolled/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-100K (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 200 users


EXPECTED = {
    **dict.fromkeys(("seconds", "unrolled", "train_steps", "dimension", "fakes", "fillers"), command.POSITIVE),
    **dict.fromkeys(("targets", "step_size", "temperature"), command.POSITIVE),
    "seed": command.NON_NEGATIVE,
}
SMOKE = {"seconds": (0.1,), "unrolled": (2,), "train_steps": 4, "dimension": 4, "fillers": 10}


def main(config: Config) -> None:
    command.check(config, EXPECTED, may_be_empty=("unrolled",))
    if list(config.seconds) != sorted(config.seconds):
        raise errors.InputError(f"Expected --seconds ascending, got --seconds {' '.join(map(str, config.seconds))}.")
    runtime.prepare()
    import functools

    from jaxrec import run_directory, splits
    from jaxrec.fake_profiles import Budget
    from jaxrec.models import ials
    from jaxrec.studies import injection_study, poison_victims, rating_study, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = rating_study.data("ml-100k", config.data_dir, seed=config.seed, num_users=200 if config.smoke else None)
    rated = splits.joined(splits.joined(data.split.train, data.split.valid), data.split.test)
    split = splits.leave_one_out(dataclasses.replace(rated, ratings=None), seed=config.seed)
    data = data._replace(split_title="leave-one-out, a validation item; implicit")
    known = split.train
    num_fakes = round(config.fakes * known.num_users)
    if not num_fakes or max(config.unrolled, default=1) > config.train_steps:
        raise errors.InputError(
            f"Expected --fakes that make one of {known.num_users} users or more, and --unrolled at most --train-steps "
            f"{config.train_steps}, got --fakes {config.fakes} and --unrolled {config.unrolled}."
        )
    for group, pool in pools(known).items():
        if config.targets > len(pool):
            raise errors.InputError(
                f"Expected --targets of at most {len(pool)}, the items of the {group}, got --targets {config.targets}."
            )
    budget = Budget(num_fakes, config.fillers, "push")
    setting = injection_study.Setting(known, split.test, budget, config.step_size, config.temperature, config.seed)
    victim = poison_victims.solved(functools.partial(ials.model, dimension=config.dimension))
    path = config.run_dir or study.run_path("exact_or_unrolled", data, config)
    with run_directory.open_run(path, config, data.fingerprint):
        publish(path, config, data, setting, measured(path, config, setting, victim))


def surrogates(config: Config):
    """{name: surrogate}; the first is what gradients are compared with."""
    import functools

    from jaxrec.inner import ease, ials, unrolled

    through = functools.partial(unrolled.surrogate, dimension=config.dimension, train_steps=config.train_steps)
    return {
        "iALS, exact": ials.surrogate(dimension=config.dimension),
        "EASE, exact": ease.surrogate(),
        **{f"unrolled, last {steps}": through(unrolled_steps=steps) for steps in config.unrolled},
        f"unrolled, all {config.train_steps}": through(),
        f"unrolled, all {config.train_steps}, first order": through(first_order=True),
    }


def pools(known):
    """{group: the items that targets are drawn from}."""
    import numpy as np

    counts = np.bincount(known.items, minlength=known.num_items)
    groups = {"head": counts >= np.quantile(counts, 0.9), "tail": (counts >= 5) & (counts <= 20)}
    return {group: np.flatnonzero(members) for group, members in groups.items()}


def measured(path, config: Config, setting, victim):
    """[{"group", "target", "gradients", "before", "walks"}] of each target; what is done is not done again."""
    import json

    import numpy as np

    from jaxrec import files
    from jaxrec.studies import injection_study

    rng, found, walkers = np.random.default_rng(config.seed), [], None
    for group, pool in pools(setting.known).items():
        for target in rng.choice(pool, config.targets, replace=False).tolist():
            file = path / f"{group}-{target}.json"
            if not file.exists():
                if walkers is None:
                    hull = injection_study.at_target(setting, target)[1]
                    walkers = {
                        name: injection_study.walker(each, setting, hull) for name, each in surrogates(config).items()
                    }
                walks = {
                    name: injection_study.walk(each, setting, target, config.seconds) for name, each in walkers.items()
                }
                for reached in (reached for walk in walks.values() for reached in walk):
                    reached["after"] = injection_study.judged(setting, target, reached["fillers"], victim)
                before = injection_study.judged(setting, target, None, victim)
                gradients = injection_study.gradients(walkers, setting, target)
                one = {"group": group, "target": target, "gradients": gradients, "before": before, "walks": walks}
                files.write_json(file, one)
            found.append(json.loads(file.read_text()))
    return found


def publish(path, config: Config, data, setting, found) -> None:
    """The records, both tables and the picture."""
    import numpy as np

    from jaxrec import display, files, results
    from jaxrec.pictures import gradients
    from jaxrec.studies import injection_study

    mean = lambda values: float(np.mean(list(values)))
    gained = lambda one, reached: 100 * (reached["after"][METRIC] - one["before"][METRIC])
    names, lines, curves = list(found[0]["gradients"]), [*HEADER], {}
    for name in names:
        of = {key: mean(one["gradients"][name][key] for one in found) for key in ("cosine", "seconds", "bytes")}
        ends = [one["walks"][name] for one in found]
        curves[name] = {
            walk[0]["seconds"]: mean(gained(one, reached) for one, reached in zip(found, walk, strict=True))
            for walk in zip(*ends, strict=True)
        }
        by_group = [
            mean(gained(one, one["walks"][name][-1]) for one in found if one["group"] == group)
            for group in ("head", "tail")
        ]
        steps = mean(walk[-1]["steps"] for walk in ends)
        lines.append(
            f"| {name} | {of['cosine']:+.3f} | {of['seconds']:.2f} | {of['bytes'] / 2**20:.1f} | {steps:.0f} "
            f"| {by_group[0]:+.1f} | {by_group[1]:+.1f} |"
        )
    results.write(path, injection_study.records_of("exact_or_unrolled", data, setting, found))
    files.write_text(path / "gradients.md", "\n".join(lines) + "\n")
    cosines = {name: [one["gradients"][name]["cosine"] for one in found] for name in names}
    budget = setting.budget
    title = f"{data.title}, implicit: {budget.num_fakes} fakes of {budget.num_fillers} fillers, {len(found)} targets"
    gradients.draw(path / "exact_or_unrolled.png", cosines, curves, title=title)
    display.say("\n".join(lines))
    display.say(f"Everything lies in {path}/: gradients.md, results.md, results.json, exact_or_unrolled.png")


METRIC = "target_hit_rate@50"
HEADER = (
    "| gradient | cosine with that of iALS | CPU s a step | MiB a step | steps | head, points | tail, points |",
    "|---|---|---|---|---|---|---|",
)


if __name__ == "__main__":
    command.run(main, Config)
