"""Does the batch decide what APR does? A grid of batchings, epsilons and weights, each from the same BPR models.

For each composition and size of the batches one sweep trains all settings and seeds: APR at each epsilon and weight,
and its control, BPR continued on the same batches with the same negatives (`CONTROL`). What is compared is the last
epoch of each, so that nothing is chosen; per-user values are kept for the tests.
"""

import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrec import bench, display, exposure, files, metrics, splits, statistics, sweep, train
from jaxrec.attacks import fgsm
from jaxrec.studies import continued
from jaxrec.studies.continued import CONTROL, Cell, Setting
from jaxrec.types import PyTree


class Plan(NamedTuple):
    """What all trainings share.

    Attributes:
        start: The BPR before.
        on: What is ranked.
        adv_epochs: Of each setting, from BPR's last weights, the optimiser anew.
    """

    start: continued.Start
    on: bench.Bench
    adv_epochs: int
    settings: tuple[Setting, ...]


class Measured(NamedTuple):
    """A cell's models after the last epoch: [settings, S, U] and [settings, S]; shifts are of the mean margin,
    perturbed less clean, in the first and in the last epoch.
    """

    ndcg: np.ndarray
    long_tail_share: np.ndarray
    coverage: np.ndarray
    first_shift: np.ndarray
    last_shift: np.ndarray
    distinct_users: np.ndarray


def run(directory: pathlib.Path, plan: Plan, cells: Sequence[Cell]) -> dict[Cell, Measured]:
    """Trains and measures every cell; what is done is not done again, and a stopped sweep goes on."""
    for folder in ("checkpoints", "logs", "measured"):
        (directory / folder).mkdir(exist_ok=True)
    found, begun = {}, functools.cache(lambda: continued.begun(directory, plan.start))
    for cell in cells:
        path = directory / "measured" / f"{files.stem(str(cell))}.npz"
        if not path.exists():
            measured = _measure(directory, plan, cell, _gone_on(directory, plan, cell, begun()))
            with files.whole(path) as file:
                np.savez_compressed(file, **measured._asdict())
        found[cell] = Measured(**files.read_npz(path, Measured._fields))
    return found


def _gone_on(directory: pathlib.Path, plan: Plan, cell: Cell, begun: PyTree) -> train.TrainState:
    """APR at every setting for every seed, setting by setting, [settings x S, ...]."""
    return continued.gone_on(
        directory,
        plan.start,
        str(cell),
        continued.apr_by(lambda epsilon: fgsm.attack(epsilon=epsilon), plan.start.model),
        settings=plan.settings,
        num_epochs=plan.adv_epochs,
        begun=begun,
        cell=cell,
    )


def _measure(directory: pathlib.Path, plan: Plan, cell: Cell, states: train.TrainState) -> Measured:
    """Of all models of a cell, on the test items."""
    train_pairs, tail = plan.on.split.train, splits.tail_items(plan.on.split.train)
    shape = len(plan.settings), len(plan.start.seeds)
    ndcg, shares, coverages = [], [], []
    with display.counting(f"rankings of {cell}", shape[0] * shape[1]) as report:
        for number in range(shape[0] * shape[1]):
            params = {**sweep.model(states.trained, number), "given": {}}
            measured = bench.measure(plan.start.model, params, plan.on.test)
            k = measured.lists.shape[1]
            ndcg.append(metrics.ndcg(measured.ranks, k, plan.on.test.num_ranked))
            shares.append(float(exposure.long_tail_share(measured.lists, tail).mean()))
            coverages.append(exposure.coverage(measured.lists, train_pairs.num_items))
            report(number)
    log = (directory / "logs" / f"{files.stem(str(cell))}.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]

    def logged(name: str, epoch: int) -> np.ndarray:
        of = lambda setting, seed: [
            line[name] for line in lines if (line["model"], line["seed"], line["epoch"]) == (str(setting), seed, epoch)
        ]
        return np.array([[np.mean(of(setting, seed)) for seed in plan.start.seeds] for setting in plan.settings])

    last = plan.adv_epochs
    return Measured(
        ndcg=np.reshape(ndcg, (*shape, -1)),
        long_tail_share=np.reshape(shares, shape),
        coverage=np.reshape(coverages, shape),
        first_shift=logged("margin_shift", 1),
        last_shift=logged("margin_shift", last),
        distinct_users=logged("distinct_users", last),
    )


class Gain(NamedTuple):
    """What a setting gains over BPR continued on the same batches.

    Attributes:
        interval: Of the mean difference in NDCG, by `statistics.over_seeds_and_users`.
        p: Of sign flips over seeds, Holm's correction for all settings of all cells.
        smallest_p: The smallest that so many seeds can reach after that correction: above .05, the test cannot tell.
        shift, tail: Mean margin shift of the first epoch; the long tail's share less the control's.
    """

    cell: Cell
    setting: Setting
    interval: statistics.Interval
    p: float
    smallest_p: float
    shift: float
    tail: float


def gains(found: Mapping[Cell, Measured], settings: Sequence[Setting], *, seed: int = 0) -> list[Gain]:
    """Every setting but the control against the control of its cell. The tests declared: one a setting and cell."""
    made, pairs = [], []
    place = list(settings).index(CONTROL)
    for cell, measured in found.items():
        for number, setting in enumerate(settings):
            if setting == CONTROL:
                continue
            pairs.append((measured.ndcg[number], measured.ndcg[place]))
            tail = float((measured.long_tail_share[number] - measured.long_tail_share[place]).mean())
            made.append((cell, setting, float(measured.first_shift[number].mean()), tail))
    tests = statistics.declared(pairs, seed=seed)
    return [
        Gain(cell, setting, *test, shift=shift, tail=tail)
        for (cell, setting, shift, tail), test in zip(made, tests, strict=True)
    ]


def predictors(found: Sequence[Gain]) -> dict[str, float]:
    """Spearman's rank correlation of the gain with what might predict it, over settings and cells; NaN where one does
    not vary.
    """
    import scipy.stats

    outcome = [gain.interval.mean for gain in found]
    by: dict[str, list[Any]] = {
        "epsilon": [gain.setting.epsilon for gain in found],
        "epsilon x weight": [gain.setting.epsilon * gain.setting.adv_weight for gain in found],
        "margin shift": [-gain.shift for gain in found],
    }
    varies = lambda values: len(set(values)) > 1
    rank_correlation: Any = scipy.stats.spearmanr
    return {
        name: float(rank_correlation(values, outcome)[0]) if varies(values) and varies(outcome) else np.nan
        for name, values in by.items()
    }
