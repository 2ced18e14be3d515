"""Tells what a data file holds, or where it is wrong.

On success: one JSON line {"rows": ..., "users": ..., "items": ...} and status 0.
Otherwise: one message with file, line and column on stderr, and status 2.

It knows these files, plain, .gz or .xz:
  *.data     user, item, rating, timestamp between tabs (MovieLens-100K)
  *.dat      ratings, movies or users with '::' between the fields (MovieLens-1M), or user, item, rating between tabs
  *.csv      a header with user and item columns; or features of items: item,f0,f1,...
  *.tsv, *.inter, *.parquet   likewise, with user and item columns

Run:  python -m jaxrec.datasets.check FILE
"""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import tyro

from jaxrec import command


@dataclasses.dataclass(frozen=True)
class Config:
    file: Annotated[str, tyro.conf.Positional]  # the data file
    rating_scale: tuple[float, float] = (0.5, 5.0)  # least and largest rating of a .csv, .tsv, .inter or .parquet file


def main(config: Config) -> None:
    """Prints the counts of one file."""
    from jaxrec.datasets import kinds  # imports jax and pandas, which --help does without

    print(json.dumps(kinds.count(config.file, rating_scale=config.rating_scale)._asdict()))


if __name__ == "__main__":
    command.run(main, Config)
