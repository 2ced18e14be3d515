"""A table of small models on a user's own file, as an experiment: `experiments.recommend` and tests read it."""

import dataclasses
import pathlib

import optax

from jaxrec import bench, objectives
from jaxrec.models import ease, mf
from jaxrec.studies import model_table, study


@dataclasses.dataclass(frozen=True)
class Config:
    data: pathlib.Path
    rows: tuple[str, ...] = ()
    seed: int = 3
    num_seeds: int = 1
    data_dir: pathlib.Path | None = None
    run_dir: pathlib.Path | None = None


def parts(config):
    data = study.own_file(config.data, seed=config.seed)
    sizes = {"num_users": data.split.train.num_users, "num_items": data.split.train.num_items}
    factors = mf.model(**sizes, dimension=4, init_scale=0.1)
    fit = model_table.by_steps(
        factors,
        objectives.pairwise(model=factors),
        optax.adagrad(0.5),
        num_epochs=4,
        batch_size=32,
        validate_every=2,
    )
    options = {f"L2 {l2:g}": ease.model(**sizes, l2=l2) for l2 in (1.0, 10.0)}
    rows = [
        model_table.Row("MF / BPR", factors, "BPR", fit),
        model_table.Row("EASE", options["L2 1"], "solved", seeds=1, options=options),
    ]
    return data, bench.leave_one_out(data.split, cutoffs=(5,), list_length=5), rows
