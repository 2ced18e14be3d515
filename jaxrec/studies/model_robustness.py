"""Every model of a table under the same adversary: how far do its lists and its ranking stand perturbed tables?

Models differ in their losses and in what they train on, so the adversary raises what all of them have: the softmax
cross-entropy of *the model's own clean lists* over the whole catalogue, scores in units of their spread. It knows the
model, whatever that is given, and no held-out item. All tables of rows are perturbed, each row inside a ball whose
radius is a share of its table's mean row norm, in the canonical gauge where the model has one.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import (
    adversaries,
    bench,
    evaluate,
    files,
    measurements,
    provenance,
    records,
    robustness,
    splits,
    statistics,
    summaries,
    surfaces,
)
from jaxrec.robustness import Measurement
from jaxrec.studies import attack_tables, model_table, study
from jaxrec.types import Interactions, Model, Params

ADVERSARY = adversaries.softmax()  # one value: `robustness.measure` compiles for each anew
ORACLE = "white box: model, its clean lists; full softmax"
WORST = "worst of white box"  # the one perturbation that raised the loss most
OVERLAP = "list_overlap"
GAP = "list_gap"


def some_users(held_out: Interactions, num: int, *, seed: int) -> tuple[Interactions, np.ndarray]:
    """The held-out items of `num` random users (all where there are fewer), and those users, ascending."""
    users = np.unique(held_out.users)
    chosen = np.sort(np.random.default_rng(seed).permutation(users)[:num]).astype(np.int32)
    return held_out.take(np.isin(held_out.users, chosen)), chosen


def protocol(
    model: Model, params: Params, on: bench.Bench, *, num_users: int, seed: int, valid: bool = False
) -> robustness.Protocol:
    """Full ranking of some users' test items (or validation items), and the adversary who knows their clean lists."""
    both, held_out = (on.split.train, on.split.valid) if valid else (on.both, on.split.test)
    held_out, users = some_users(held_out, num_users, seed=seed)
    listing = evaluate.prepare_lists([both], users=users)
    length = min(10, both.num_items)
    lists = np.asarray(evaluate.lists(model, params, listing, length))
    filled = lists >= 0
    listed = Interactions(
        np.repeat(users, filled.sum(axis=1)), lists[filled], num_users=both.num_users, num_items=both.num_items
    )
    batch = {"users": listed.users, "pos": listed.items, "neg": listed.items, "where": np.ones(len(listed), bool)}
    return robustness.Protocol(
        ranking=evaluate.prepare([both], held_out),
        listing=listing,
        list_length=length,
        known=adversaries.Known(
            {name: jnp.asarray(column) for name, column in batch.items()},
            evaluate.prepare_lists([listed], users=users, chunk_size=256).chunks,
        ),
    )


def list_gap(model: Model, params: Params, listing: evaluate.ListPlan, *, length: int, depth: int = 100) -> np.ndarray:
    """How far a list stands above what would take its place, in the unit that a relative epsilon moves scores by:

        (mean score of the first `length` items - mean of those after them) / (|slope| mean |item's row|)

    down to the place `depth`, for each listed user, in the canonical gauge, of a model that has one. The slope is the
    gradient of a score by the item's row: the user's row where a score is their product, with a 1 beside it where items
    have biases. A perturbation of item rows at epsilon changes a score by at most epsilon |slope| mean |item's row|,
    and one of user rows as well by as much again in a typical case.

    Returns:
        float64 [U]; 0 for a user who has no more than `length` unknown items, or whose slope is 0.

    Raises:
        ValueError: If the model has no canonical gauge, or the catalogue no more than `length` items.
    """
    depth = min(depth, listing.num_items)
    if model.canonical is None or model.score_rows is None or depth <= length:
        raise ValueError(f"Expected a model with a canonical gauge and more than {length} items.")
    params = jax.jit(model.canonical)(params)
    lists, users = np.asarray(evaluate.lists(model, params, listing, depth)), np.asarray(listing.users)
    scores = np.asarray(jax.jit(model.score)(params, users[:, None], np.maximum(lists, 0)), np.float64)
    user, item = params["tables"]["user"], params["tables"]["item"]
    score_rows = model.score_rows
    by_item = jax.grad(lambda item, user: jnp.sum(score_rows(params, user, item)))
    slopes = jax.vmap(by_item, (None, 0))(item[0], user[users])
    unit = np.linalg.norm(slopes, axis=1) * np.linalg.norm(item, axis=1).mean()
    filled = lists[:, length:] >= 0
    rest = np.where(filled, scores[:, length:], 0).sum(axis=1) / np.maximum(filled.sum(axis=1), 1)
    gap = scores[:, :length].mean(axis=1) - rest
    return np.where(filled.any(axis=1) & (unit > 0), gap / np.where(unit > 0, unit, 1), 0)


def run(
    folder: pathlib.Path,
    source: pathlib.Path,
    rows: Sequence[model_table.Row],
    on: bench.Bench,
    attacks: Mapping[str, robustness.MakeAttack],
    epsilons: Sequence[float],
    *,
    seed: int,
    num_users: int,
    report: Callable[[str], None],
) -> dict[str, list[Measurement]]:
    """Measures the rows of a run, {name: measurements}; what was measured is read from its file.

    Args:
        folder: Where measurements are kept.
        source: The run directory of the table, which has trained the rows for `seed`, its first.
        attacks: {name: epsilon -> attack}, the first of them the noise, the others raising the loss.
        report: Called with a row's name before it is measured.
    """
    (folder / "measured").mkdir(exist_ok=True)
    found = {}
    for row in rows:
        path = folder / "measured" / f"{files.stem(row.name)}.npz"
        has_gap = row.model.canonical is not None and min(10, on.both.num_items) < on.both.num_items
        if not path.exists() or (has_gap and not _gap_path(folder, row).exists()):
            report(row.name)
            params = model_table.trained(source, row, on, seed, seed)
            ranked = protocol(row.model, params, on, num_users=num_users, seed=seed)
            if has_gap:
                gap = list_gap(row.model, params, ranked.listing, length=ranked.list_length)
                np.save(_gap_path(folder, row), gap)
            measured = robustness.measure(
                row.model,
                params,
                ranked,
                attacks,
                {"relative": epsilons},
                surface=surfaces.tables(*sorted(params["tables"])),
                key=jax.random.key(seed),
                adversary=ADVERSARY,
                oracle=ORACLE,
            )
            measurements.write(path, measured)
        found[row.name] = measurements.read(path)
    return found


def list_gaps(folder: pathlib.Path, rows: Sequence[model_table.Row]) -> dict[str, np.ndarray]:
    """{name: `list_gap` of each user} of the rows that `run` measured in this folder and that have one."""
    return {row.name: np.load(path) for row in rows if (path := _gap_path(folder, row)).exists()}


def _gap_path(folder: pathlib.Path, row: model_table.Row) -> pathlib.Path:
    return folder / "measured" / f"{files.stem(row.name)}.gap.npy"


def overlap(measured: Measurement, clean: Measurement) -> np.ndarray:
    """The share of each user's clean list that is in the perturbed one, [U]; 1 for an empty list."""
    same = (clean.lists[:, :, None] == measured.lists[:, None, :]) & (clean.lists >= 0)[:, :, None]
    length = (clean.lists >= 0).sum(axis=1)
    return np.where(length > 0, same.sum(axis=(1, 2)) / np.maximum(length, 1), 1.0)


def records_of(
    found: Mapping[str, Sequence[Measurement]],
    rows: Sequence[model_table.Row],
    data: study.Data,
    gaps: Mapping[str, np.ndarray],
    *,
    seed: int,
    white_box: Sequence[str],
) -> list[records.Record]:
    """For each model and budget: what `summaries.records_of` has, and the share of the clean lists that stays.

    Of a clean model that has one, the mean of its `gaps` too. Beside each attack of `white_box` the one of them that
    raised the loss most (`WORST`). Intervals are over users.
    """
    made = []
    for row in rows:
        clean, *_ = measured = list(found[row.name])
        measured += attack_tables.strongest(measured, white_box, title=WORST)
        common: dict[str, Any] = {
            "experiment": "embedding_robustness", "model": row.name, "defence": None, "dataset": data.title,
            "split": data.split_title, "protocol": robustness.PROTOCOL, "training": row.training, "step": None,
            "chosen_by": model_table.chosen_by(row), "device": provenance.device(), "commit": provenance.commit(),
            "fingerprint": data.fingerprint["sha256"],
        }  # fmt: skip
        of_row = summaries.records_of(
            [measured],
            seeds=[seed],
            cutoffs=[10],
            tail=splits.tail_items(data.split.train),
            surface="all tables of rows",
            gauge=row.model.gauge,
            **common,
        )
        made += of_row
        of_ndcg = [record for record in of_row if record.metric == "ndcg"]
        for record, each in zip(of_ndcg, measured, strict=True):
            kept = statistics.summary(overlap(each, clean))
            shared = {"metric": OVERLAP, "value": kept.mean, "interval": kept.interval}
            made.append(dataclasses.replace(record, **shared))
        if row.name in gaps:
            gap = statistics.summary(gaps[row.name])
            made.append(dataclasses.replace(of_ndcg[0], metric=GAP, value=gap.mean, interval=gap.interval))
    return made
