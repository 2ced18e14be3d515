"""What limits learned fakes: variants of one attack on all targets at once and on each alone, rounded and not.

Cells are those of `poison_study`: a variant is an attack there, and each target alone is a group of its own.
"""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import display, fake_rows, files, metrics, profiles, provenance, records, results
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.injection import Surrogate
from jaxrec.pictures import dots
from jaxrec.poisoning import implicit
from jaxrec.records import Record
from jaxrec.studies import poison_records, poison_study
from jaxrec.studies.poison_study import Case, Setting
from jaxrec.types import Array, Interactions, Key, Poison

ALL = "head"
TOGETHER, ALONE = "at once", "one at a time"
EASE = "EASE"  # the surrogate's model among the victims
UNROUNDED = f"{EASE}, not rounded"
HIT_RATE, CHANGE = "target_hit_rate", "target_hit_rate_change"


class Learned(NamedTuple):
    """The settings of one learned attack, as in `poisoning.implicit`; `surrogate` is its recommender."""

    num_fillers: int
    num_steps: int
    step_size: float
    temperature: float
    surrogate: Surrogate

    def make(self, num_fakes: int, direction: Direction) -> Poison:
        """The attack, as `Setting.make` has it."""
        return implicit.attack(num_fakes=num_fakes, direction=direction, **self._asdict())


def groups(targets: np.ndarray) -> dict[str, np.ndarray]:
    """{group: targets}: all of them, then each alone."""
    return {ALL: targets} | {f"{ALL} {target}": np.array([target]) for target in targets}


def run(
    directory: pathlib.Path, setting: Setting, learned: Mapping[str, Learned], *, share: float, seeds: Sequence[int]
) -> None:
    """Fills the run directory as `poison_study.run` does, and keeps what learned attacks do before they are rounded.

    Args:
        directory: Of the run.
        setting: Its groups of targets are those of `groups`.
        learned: Attacks of the setting that are looked at before they are rounded.
        share: Fakes as a share of the users.
        seeds: Of trainings and attacks.
    """
    cases = _cases(setting, share)
    poison_study.run(directory, setting, cases, seeds=seeds)
    work = [(seed, case) for seed in seeds for case in cases if case.attack in learned and EASE in setting.victims]
    with display.counting("not rounded", len(work)) as report:
        for seed, case in work:
            path = poison_study.path_of(directory, "measured", UNROUNDED, case, seed)
            if not path.exists():
                budget = Budget(round(share * setting.known.num_users), learned[case.attack].num_fillers, "push")
                key, targets = poison_study.attack_key(seed), setting.targets[case.group]
                found = unrounded(key, learned[case.attack], budget, setting.known, targets, max(setting.cutoffs))
                files.write_json(path, {_name(HIT_RATE, setting): found})
            report(case)


def unrounded(
    key: Key, attack: Learned, budget: Budget, known: Interactions, targets: np.ndarray, cutoff: int
) -> float:
    """The targets' hit ratio in the surrogate that is trained with the learned rows as they are, before rounding."""
    walked = {"num_steps": attack.num_steps, "step_size": attack.step_size, "temperature": attack.temperature}
    rows = fake_rows.learn(key, budget, attack.surrogate, known, targets, **walked)[2]
    return hit_rate(attack.surrogate, known, targets, rows, cutoff)


def hit_rate(surrogate: Surrogate, known: Interactions, targets: np.ndarray, rows: Array, cutoff: int) -> float:
    """`target_hit_rate` of `poison_evaluation.figures` in a surrogate that is trained with fake rows [M, I].

    It holds the scores of all users, [U, I].
    """
    data = surrogate.prepare(known, len(rows))
    solution = surrogate.solve(data, surrogate.init(data, jax.random.key(0), len(rows)), rows)
    has = profiles.matrix(known).toarray() > 0
    scores = np.where(has, -np.inf, np.asarray(surrogate.scores(data, solution, jnp.arange(known.num_users))))
    found = []
    for target in targets:
        audience = scores[~has[:, target]]
        ranks = (audience >= audience[:, target, None]).sum(axis=1)
        found.append(metrics.hit_rate(ranks, cutoff, known.num_items).mean())
    return float(np.mean(found))


def publish(directory: pathlib.Path, setting: Setting, *, share: float, seeds: Sequence[int], experiment: str) -> None:
    """Writes the records, both pages and the picture of what `run` has found into its directory."""
    found = results.write(directory, records_of(directory, setting, share=share, seeds=seeds, experiment=experiment))
    files.write_text(directory / "limits.md", page(found))
    title = f"{setting.data.title}: what limits learned fakes"
    dots.draw(directory / "limits.png", _panels(found), x="change of the targets' hit ratio, points", title=title)
    display.say((directory / "limits.md").read_text())
    display.say(f"Everything lies in {directory}/: limits.md, results.md, results.json, limits.png, attacks/")


def records_of(
    directory: pathlib.Path, setting: Setting, *, share: float, seeds: Sequence[int], experiment: str
) -> list[Record]:
    """The change of the targets' hit ratio on each victim by each variant, and how high it was before."""
    num = len(setting.targets[ALL])
    common: dict[str, Any] = {
        "dataset": setting.data.title, "split": setting.data.split_title, "experiment": experiment,
        "fingerprint": setting.data.fingerprint["sha256"], "device": provenance.device(),
        "commit": provenance.commit(), "step": None, "seeds": tuple(seeds), "training": None, "defence": None,
        "users": setting.known.num_users, "chosen_by": None,
        "protocol": f"all unseen items, ties against; mean of {num} targets over users who have them not",
    }  # fmt: skip
    adversary = records.NOBODY | {"surface": "fake users", "epsilon": share, "epsilon_unit": "of users"}
    heads = [group for group in setting.targets if group != ALL]
    made = []
    for victim in setting.victims:
        clean = [{_name(HIT_RATE, setting): one[ALL]} for one in _clean(directory, setting, victim, seeds)]
        made += poison_records.summarised(clean, model=victim, **common, **records.NOBODY)
    for attack, (how, members) in itertools.product(setting.make, {TOGETHER: [ALL], ALONE: heads}.items()):
        cases = [Case(attack, "push", group, share) for group in members]
        for victim in (*setting.victims, *([UNROUNDED] if EASE in setting.victims else [])):
            if poison_study.path_of(directory, "measured", victim, cases[0], seeds[0]).exists():
                gained = [{_name(CHANGE, setting): one} for one in _gained(directory, setting, victim, cases, seeds)]
                fields = {"model": victim, **common, **adversary, "attack": f"{attack}, {how}"}
                made += poison_records.summarised(gained, **fields)
    return made


def _cases(setting: Setting, share: float) -> list[Case]:
    return poison_study.cases_of(list(setting.make), [("push", group) for group in setting.targets], [share])


def _name(metric: str, setting: Setting) -> str:
    return f"{metric}@{max(setting.cutoffs)}"


def _clean(directory: pathlib.Path, setting: Setting, victim: str, seeds: Sequence[int]) -> list[dict[str, float]]:
    """For each seed {group: hit ratio} of a victim that no fake has touched."""
    read = [files.read_json(poison_study.clean_path(directory, victim, seed)) for seed in seeds]
    return [{group: of[_name(HIT_RATE, setting)] for group, of in one.items()} for one in read]


def _gained(
    directory: pathlib.Path, setting: Setting, victim: str, cases: Sequence[Case], seeds: Sequence[int]
) -> list[float]:
    """For each seed, the mean over cases of the hit ratio after less before."""
    before = _clean(directory, setting, EASE if victim == UNROUNDED else victim, seeds)
    gained = []
    for seed, clean in zip(seeds, before, strict=True):
        paths = [poison_study.path_of(directory, "measured", victim, case, seed) for case in cases]
        after = [files.read_json(path)[_name(HIT_RATE, setting)] for path in paths]
        gained.append(float(np.mean([end - clean[case.group] for end, case in zip(after, cases, strict=True)])))
    return gained


def page(found: Sequence[Record]) -> str:
    """The table in Markdown: points gained on each victim, with t intervals over seeds."""
    before = {r.model: r.value for r in found if r.metric == HIT_RATE}
    of = {(r.attack, r.model): r for r in found if r.metric == CHANGE}
    models = list(dict.fromkeys(model for _, model in of))
    lines = [["before", *(f"{before[model]:.3f}" if model in before else "" for model in models)]]
    for attack in dict.fromkeys(attack for attack, _ in of):
        lines.append([str(attack), *(poison_records.points(of.get((attack, model))) for model in models)])
    return results.markdown(results.Table(["fakes"], models, lines)) + "\n"


def _panels(found: Sequence[Record]) -> dict[str, dict[str, dict[str, dots.Dot]]]:
    """{how many targets: {victim: {variant: points gained and their interval}}}."""
    panels: dict[str, dict[str, dict[str, dots.Dot]]] = {f"targets {how}": {} for how in (TOGETHER, ALONE)}
    for record in (r for r in found if r.metric == CHANGE):
        variant, _, how = str(record.attack).rpartition(", ")
        low, high = record.interval or (record.value, record.value)
        dot = 100 * record.value, (100 * low, 100 * high)
        panels[f"targets {how}"].setdefault(record.model, {})[variant] = dot
    return panels
