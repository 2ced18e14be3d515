"""What would it recommend? The best items for one user by a trained model of a run, with titles, scores and reasons.

Of any table of models (experiments.*_table with models that rank), or of experiments.ml1m_apr. The user is known by the
id in the data file. Left out are the items that the model knows of the user, from training and validation; an item held
out for the test can be recommended, and is marked. --why asks the model what each item rests on: the user's items
without which its score falls most (EASE, kNN, autoencoders), or else those with the most similar vectors; and given
features by gradient x input, for models that have some.

A user whom nothing is known of gets what the model scores without history; one who has everything gets an empty list.

Run:      python -m experiments.recommend --run runs/ml1m_sequential_table/NAME --user 42 --why
"""

import dataclasses
import pathlib
import re
import typing

from jaxrec import command, errors, files, runtime
from jaxrec.studies import table_runs


@dataclasses.dataclass(frozen=True)
class Config:
    run: pathlib.Path  # run directory of a table of models, or of experiments.ml1m_apr
    user: int  # id of the data file
    k: int = 10  # length of the list
    model: str | None = None  # a row of the table, or bpr or apr (default: the first that was measured; bpr)
    seed: int | None = None  # which of its trainings (default: the run's first)
    why: bool = False  # what each item rests on
    experiment: str | None = None  # that made the run (default: as its results.json says)
    json: pathlib.Path | None = None  # file to write the list to as well
    data_dir: pathlib.Path | None = None  # where the data of the run lie now (default: as in the run)
    data: pathlib.Path | None = None  # where the run's own csv lies now (default: as in the run)


NUM_REASONS = 3  # shown of each item
APR = "ml1m_apr"


class Opened(typing.NamedTuple):
    """A trained model: `known` it knows, `held_out` it does not; `titles` are those of the items, or their ids."""

    experiment: str
    name: str
    seed: int
    dataset: str
    model: typing.Any
    params: typing.Any
    known: typing.Any
    held_out: typing.Any
    titles: list[str]


def main(config: Config) -> None:
    command.check(config, {"k": command.POSITIVE, "seed": command.NON_NEGATIVE})
    table_runs.read_config(config.run)
    experiment = table_runs.experiment_of(config.run, named=config.experiment, besides=(APR,))
    cells = {} if experiment == APR else measured(config, experiment)
    runtime.prepare()
    from jaxrec import display

    opened = of_apr(config) if experiment == APR else of_table(config, experiment, cells)
    user = row_of(opened, config.user)
    found = recommended(opened, user, config)
    show(opened, found, config)
    if config.json is not None:
        files.write_json(config.json, found)
        display.say(f"Written: {config.json}")


def measured(config: Config, experiment: str) -> dict[str, list[int]]:
    """{stem of a row: seeds} that a run of a table has measured, of the model that is asked for, or of all."""
    cells: dict[str, list[int]] = {}
    for path in sorted((config.run / "measured").glob("*.npz")):
        if match := re.fullmatch(r"(.+)-(\d+)", path.stem):
            cells.setdefault(match[1], []).append(int(match[2]))
    if not cells:
        raise errors.InputError(
            f"Expected a measured model in {config.run}, got none: {experiment} has not come to one."
        )
    if config.model is None:
        return cells
    stem = files.stem(config.model)
    if stem not in cells:
        raise errors.InputError(f"Expected --model of those measured, {', '.join(cells)}; got {config.model}.")
    if config.seed is not None and config.seed not in cells[stem]:
        seeds = ", ".join(map(str, sorted(cells[stem])))
        raise errors.InputError(f"Expected --seed of those of {config.model} measured, {seeds}; got {config.seed}.")
    return {stem: cells[stem]}


def of_table(config: Config, experiment: str, cells: dict[str, list[int]]) -> Opened:
    """A row of a table, trained."""
    import jax

    from jaxrec import audit
    from jaxrec.datasets import titles
    from jaxrec.studies import model_table

    moved = {name: value for name in ("data_dir", "data") if (value := getattr(config, name)) is not None}
    _, _, settings, data, on, rows = table_runs.open_run(config.run, experiment, moved=moved)
    row = next((row for row in rows if files.stem(row.name) in cells), None)
    if row is None:
        raise errors.InputError(f"Expected a row of {experiment} measured in {config.run}, got {', '.join(cells)}.")
    seed = settings.seed if config.seed is None else config.seed
    if seed not in cells[files.stem(row.name)]:
        raise errors.InputError(f"Expected {row.name}, seed {seed}, to be measured in {config.run}; it is not.")
    (row,) = model_table.chosen(config.run, [row], on, settings.seed)
    params = jax.device_put(model_table.trained(config.run, row, on, seed, settings.seed))
    found = {} if getattr(settings, "data", None) else titles.find(data.name, settings.data_dir)
    names = audit.names(data.split.train, found)["items"]
    return Opened(experiment, row.name, seed, data.title, row.model, params, on.both, data.split.test, names)


def of_apr(config: Config) -> Opened:
    """BPR or APR of a run of experiments.ml1m_apr."""
    stage = (config.model or "bpr").lower()
    if stage not in ("bpr", "apr"):
        raise errors.InputError(f"Expected --model bpr or apr for a run of {APR}, got {config.model}.")
    from jaxrec import splits, victims

    loaded = victims.of_run(config.run, stage=stage, seed=config.seed, data_dir=config.data_dir)
    model, params, split = loaded.victim[:3]
    seed = config.seed if config.seed is not None else table_runs.read_config(config.run)["config"]["seed"]
    known = splits.joined(split.train, split.valid)
    titles = list(loaded.victim.items)
    return Opened(APR, stage.upper(), seed, loaded.dataset, model, params, known, split.test, titles)


def row_of(opened: Opened, user: int) -> int:
    """The row of a user's id."""
    import numpy as np

    ids = np.arange(opened.known.num_users) if opened.known.user_ids is None else opened.known.user_ids
    rows = np.flatnonzero(ids == user)
    if not len(rows):
        span = f"{len(ids):,} users with ids from {ids.min()} to {ids.max()}"
        raise errors.InputError(f"Expected --user one of the {span} in {opened.dataset}, got --user {user}.")
    return int(rows[0])


def recommended(opened: Opened, user: int, config: Config) -> dict[str, typing.Any]:
    """The list as plain values."""
    import jax.numpy as jnp
    import numpy as np

    from jaxrec import recommendations

    known = np.unique(opened.known.items[opened.known.users == user])
    best = recommendations.best(opened.model, opened.params, jnp.array([user]), jnp.asarray(known)[None], config.k)
    items, scores = (np.asarray(part[0]) for part in best)
    items, scores = items[items >= 0], scores[items >= 0]
    held_out = set(opened.held_out.items[opened.held_out.users == user].tolist())
    ids = np.arange(opened.known.num_items) if opened.known.item_ids is None else opened.known.item_ids
    name = lambda item: {"id": ids[item].item(), "title": opened.titles[item]}
    made = [
        {**name(item), "score": float(score), "held_out": item in held_out}
        for item, score in zip(items.tolist(), scores, strict=True)
    ]
    found = {"experiment": opened.experiment, "model": opened.name, "seed": opened.seed, "dataset": opened.dataset}
    found |= {"user": config.user, "known_items": len(known), "items": made, "why": None}
    if config.why and len(items):
        explain(opened, user, items, known, found, name)
    return found


def explain(opened: Opened, user: int, items, known, found: dict[str, typing.Any], name) -> None:
    """Adds what each item rests on: `because` and `features`."""
    import numpy as np

    from jaxrec import recommendations

    model, params = opened.model, opened.params
    sizes = {"num_users": opened.known.num_users, "num_items": opened.known.num_items}
    reasons = recommendations.by_history(model, params, user, items, known)
    features = recommendations.by_features(model, params, user, items, **sizes)
    found["why"] = reasons.kind if reasons else "no profiles and no item vectors in this model"
    for place, item in enumerate(found["items"]):
        if reasons:
            weights = reasons.weights[place]
            strongest = recommendations.strongest(weights, NUM_REASONS).tolist()
            item["because"] = [{**name(known[h]), "weight": float(weights[h])} for h in strongest]
        influence = {f"{part}[{f}]": float(v) for part, rows in features.items() for f, v in enumerate(rows[place])}
        item["features"] = dict(sorted(influence.items(), key=lambda pair: -np.abs(pair[1]))[:NUM_REASONS])


def show(opened: Opened, found: dict[str, typing.Any], config: Config) -> None:
    """Prints the list as a table, on stdout."""
    from jaxrec import display

    who = f"user {found['user']} of {found['dataset']}"
    if not found["known_items"]:
        display.say(f"Nothing is known of {who}: this is what {opened.name} scores without history.")
    if len(found["items"]) < config.k:
        left = opened.known.num_items - found["known_items"]
        display.say(f"{left} of {opened.known.num_items} items are left for {who}: {len(found['items'])} recommended.")
    display.recommendations(f"{opened.name}, seed {opened.seed}, for {who}", found)


if __name__ == "__main__":
    command.run(main, Config)
