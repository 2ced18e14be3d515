"""A shop with fake buyers: a plain and a defended recommender, each on clean data and on attacked, and what is gained.

The defended one leaves out the users whom a detector suspects most, whether there are fakes or not, is trained against
an adversary, and serves whom it left out all the same (`recovery.fold_in`). Relevance is a yes or no question too: is
this the item a user bought next, or one drawn from all others?
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.linear_model
import sklearn.metrics

from jaxrec import (
    classification,
    display,
    fake_profiles,
    files,
    objectives,
    poison_evaluation,
    provenance,
    records,
    recovery,
    results,
    splits,
    statistics,
)
from jaxrec.studies import poison_records, study
from jaxrec.studies.poison_victims import Victim
from jaxrec.types import Detector, Interactions, Key, Model, Params, Poison, Split

RELEVANCE = ("accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc")
POINTS = 0.02  # that the defence may cost on clean data
TAKEN_BACK = 0.5  # of the exposure that the attack stole


class Setting(NamedTuple):
    """What the shop is.

    Attributes:
        data: Of implicit feedback. Trained on training pairs; validation items set the threshold of relevance.
        attack: Its name, for the records.
        craft: Number of fakes -> poison.
        plain, hardened: Victims: the shop's recommender, and the same trained against an adversary.
        detector: Whose most suspicious users are left out.
        removed: Their share; the defender knows neither whether nor by how many fakes it is attacked.
        targets: [T].
        fold_epochs: Of `recovery.fold_in`.
        cutoff: Of all that is ranked.
    """

    data: study.Data
    attack: str
    craft: Callable[[int], Poison]
    plain: Victim
    hardened: Victim
    detector: Detector
    removed: float
    targets: np.ndarray
    fold_epochs: int
    cutoff: int = 50

    @property
    def gated(self) -> tuple[str, ...]:
        """The measures of accuracy."""
        return *RELEVANCE, f"hit_rate@{self.cutoff}", f"ndcg@{self.cutoff}"


Figures = dict[str, dict[str, float]]  # of "plain", "defended" and "detector"


def run(directory: pathlib.Path, setting: Setting, shares: Sequence[float], *, seeds: Sequence[int]) -> None:
    """Fills measured/, a file for each seed and share of fakes, 0 too; what is there is not made again."""
    (directory / "measured").mkdir(exist_ok=True)
    both = splits.joined(setting.data.split.train, setting.data.split.valid)
    on = poison_evaluation.bench(both, setting.data.split.test, setting.targets)
    with display.counting("trainings", len(seeds) * (1 + len(shares))) as report:
        for seed in seeds:
            for share in (0.0, *shares):
                if not (path := path_of(directory, share, seed)).exists():
                    files.write_json(path, measured(setting, on, share, seed))
                report(f"{percent(share)} fakes, seed {seed}")


def path_of(directory: pathlib.Path, share: float, seed: int) -> pathlib.Path:
    """Where one cell is kept."""
    return directory / "measured" / f"{share:g}-{seed}.json"


def percent(share: float) -> str:
    """A share of fakes in words, with as many digits as its file has: two shares are two gates and two rows."""
    return f"{100 * share:g}%"


def measured(setting: Setting, on: poison_evaluation.Bench, share: float, seed: int) -> Figures:
    """Both recommenders with so many fakes, and what the detector saw of these."""
    known = setting.data.split.train
    craft_key, key = jax.random.split(jax.random.key(seed))
    fakes = setting.craft(round(share * known.num_users))(craft_key, known, setting.targets)
    data = fake_profiles.contaminate(known, fakes)
    suspicion, is_fake = setting.detector(data), fake_profiles.is_fake(data, fakes)
    left = recovery.remove(data, suspicion, share=setting.removed)
    found = {}
    for name, (model, params) in {
        "plain": setting.plain(data, key),
        "defended": defended(setting, data, left, key),
    }.items():
        scores = np.asarray(model.score_all(params, jnp.arange(known.num_users)))
        ranked = poison_evaluation.figures(poison_evaluation.measure(model, params, on), (setting.cutoff,))
        found[name] = {**relevance(scores, setting.data.split, seed), **ranked}
    removed = ~np.isin(np.arange(data.num_users), left.users)
    caught = (removed & is_fake).sum()
    found["detector"] = {"removed_real": float((removed & ~is_fake).sum() / known.num_users)}
    if fakes.num_users:
        auc = float(sklearn.metrics.roc_auc_score(is_fake, suspicion))
        found["detector"] |= {"auc": auc, "removed_fake": float(caught / fakes.num_users)}
    return found


def defended(setting: Setting, data: Interactions, left: Interactions, key: Key) -> tuple[Model, Params]:
    """The hardened recommender of what was left, which then serves everybody."""
    train_key, fold_key = jax.random.split(key)
    model, params = setting.hardened(left, train_key)
    folded = recovery.fold_in(
        model,
        objectives.pairwise(model=model),
        params,
        data.take(~np.isin(data.users, left.users)),
        num_epochs=setting.fold_epochs,
        seed=int(np.asarray(jax.random.bits(fold_key))),
    )
    return model, folded


def relevance(scores: np.ndarray, split: Split, seed: int) -> dict[str, float]:
    """`classification.binary` of each user's test item against one drawn from the items of no part, half and half.

    A logit is a line in the score's standard score among the user's scores, fitted on the validation items against
    drawn ones by logistic regression (Platt, 1999).

    Args:
        scores: [U, I].
        seed: Of the draws.
    """
    standard = scores - scores.mean(axis=1, keepdims=True)
    standard = standard / np.maximum(scores.std(axis=1, keepdims=True), 1e-12)
    taken = np.zeros(scores.shape, bool)
    for part in (split.train, split.valid, split.test):
        taken[part.users, part.items] = True

    def examples(part, place):
        drawn = np.argmax(np.where(taken, -1, np.random.default_rng((seed, place)).random(scores.shape)), axis=1)
        both = np.concatenate([standard[part.users, part.items], standard[part.users, drawn[part.users]]])
        return both[:, None], np.repeat([1, 0], len(part))

    line = sklearn.linear_model.LogisticRegression().fit(*examples(split.valid, 0))
    found, relevant = examples(split.test, 1)
    return classification.binary(relevant, line.decision_function(found))


def read(directory: pathlib.Path, shares: Sequence[float], seeds: Sequence[int]) -> dict[float, list[Figures]]:
    """{share: the figures of each seed}."""
    return {s: [files.read_json(path_of(directory, s, seed)) for seed in seeds] for s in (0.0, *shares)}


def costs(found: Mapping[float, Sequence[Figures]], names: Sequence[str]) -> dict[str, np.ndarray]:
    """{metric: what the defence costs on clean data, of each seed}, below 0 where it gains."""
    return {name: np.array([one["plain"][name] - one["defended"][name] for one in found[0.0]]) for name in names}


def taken_back(found: Mapping[float, Sequence[Figures]], share: float, metric: str) -> dict[str, float]:
    """Shares of what the attack added to the plain recommender's `metric`, of means over seeds; {} if it added nothing.

        recovered         that the defended one, attacked, does not show:  1 - (its value - plain, clean) / added
        of_attack_alone   that the attack does not add to the defended one: 1 - (what it adds to that) / added

    The first also counts what the defence does to targets without an attack, in their favour or not; the second does
    not.
    """
    mean = lambda at, name: float(np.mean([one[name][metric] for one in found[at]]))
    (clean, attacked), (still, now) = ([mean(at, name) for at in (0.0, share)] for name in ("plain", "defended"))
    added = attacked - clean
    if added <= 0:
        return {}
    return {"recovered": (attacked - now) / added, "of_attack_alone": 1 - (now - still) / added}


def gates(found: Mapping[float, Sequence[Figures]], setting: Setting) -> dict[str, bool | None]:
    """{what is asked: whether it is met}, by means over seeds; None where the attack stole nothing to take back."""
    asked: dict[str, bool | None] = {
        f"defended within {100 * POINTS:g} points of plain on clean data, {name}": bool(value.mean() <= POINTS)
        for name, value in costs(found, setting.gated).items()
    }
    for share in list(found)[1:]:
        back = taken_back(found, share, f"exposure@{setting.cutoff}")
        met = bool(min(back.values()) >= TAKEN_BACK) if back else None
        asked[f"half of the exposure that {percent(share)} fakes stole taken back, counted either way"] = met
    return asked


def records_of(
    found: Mapping[float, Sequence[Figures]], setting: Setting, *, seeds: Sequence[int], experiment: str
) -> list[records.Record]:
    """A record of each measure of both recommenders and the detector, and of each gate: 1 if it is met."""
    common: dict[str, Any] = {
        "dataset": setting.data.title, "split": setting.data.split_title, "experiment": experiment,
        "fingerprint": setting.data.fingerprint["sha256"], "device": provenance.device(),
        "commit": provenance.commit(), "step": None, "seeds": tuple(seeds), "training": None,
        "users": setting.data.split.train.num_users, "chosen_by": "validation (threshold)",
        "protocol": "all unseen items, ties against; relevance: the test item against one drawn of no part",
    }  # fmt: skip
    made = []
    for share, cells in found.items():
        adversary = {
            "attack": setting.attack, "surface": "fake users", "epsilon": share, "epsilon_unit": "of users"
        }  # fmt: skip
        common |= records.NOBODY | (adversary if share else {})
        for name in ("plain", "defended", "detector"):
            of = {
                "model": "detector" if name == "detector" else "recommender",
                "defence": "removal and adversarial training" if name == "defended" else None,
            }
            made += poison_records.summarised([one[name] for one in cells], **of, **common)
        if share and (back := taken_back(found, share, f"exposure@{setting.cutoff}")):
            named = {f"exposure_{name}@{setting.cutoff}": x for name, x in back.items()}
            made += poison_records.summarised([named], model="defence", defence=None, **common)
    met = {f"gate: {name}": float(value) for name, value in gates(found, setting).items() if value is not None}
    return made + poison_records.summarised([met], model="gates", defence=None, **{**common, **records.NOBODY})


def page(found: Mapping[float, Sequence[Figures]], setting: Setting) -> str:
    """The 2 x 2 at each share of fakes in Markdown, with intervals over seeds, and the gates."""
    names = [*setting.gated, f"target_hit_rate@{setting.cutoff}", f"exposure@{setting.cutoff}"]

    def shown(values):
        summary = statistics.summary(np.array(values))
        return f"{summary.mean:.4f}" + (f" ± {summary.high - summary.mean:.4f}" if summary.num > 1 else "")

    lines = []
    for share, cells in found.items():
        for kind in ("plain", "defended"):
            values = [shown([one[kind][name] for one in cells]) for name in names]
            lines.append([percent(share), kind, *values])
    words = {True: "met", False: "NOT met", None: "the attack stole nothing"}
    listed = [f"- {name}: {words[met]}" for name, met in gates(found, setting).items()]
    for share in list(found)[1:]:
        seen = {name: shown([one["detector"][name] for one in found[share]]) for name in found[share][0]["detector"]}
        back = taken_back(found, share, f"exposure@{setting.cutoff}")
        parts = {**seen, **{name: f"{value:.0%}" for name, value in back.items()}}
        listed.append(f"- {percent(share)} fakes: {', '.join(f'{name} {text}' for name, text in parts.items())}")
    table = results.markdown(results.Table(["fakes", "recommender"], names, lines))
    return f"{table}\n\n" + "\n".join(listed) + "\n"
