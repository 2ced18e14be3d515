"""Measurements on disk, so that a study that was stopped goes on at the next model."""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrec import evaluate, files
from jaxrec.robustness import Measurement
from jaxrec.types import InputError

Path = str | os.PathLike[str]
ARRAYS = ("ranks", "lists", "target_scores")  # fields of a measurement that are kept as arrays


def write(path: Path, measured: Sequence[Measurement]) -> None:
    """Keeps the measurements of one model under one protocol as .npz, whole or not at all."""
    first = measured[0].ranks
    arrays: dict[str, Any] = {"users": first.users, "num_candidates": first.num_candidates}
    about = []
    for place, each in enumerate(measured):
        arrays |= {f"ranks-{place}": each.ranks.ranks, f"lists-{place}": each.lists}
        arrays[f"scores-{place}"] = each.target_scores
        names = [field.name for field in dataclasses.fields(each) if field.name not in ARRAYS]
        about.append({name: getattr(each, name) for name in names})
    text = json.dumps({"left_out": first.num_left_out, "measurements": about})
    with files.whole(path) as file:
        np.savez_compressed(file, about=np.array(text), **arrays)


def read(path: Path) -> list[Measurement]:
    """The measurements that `write` kept.

    Raises:
        InputError: If the file is not one of them.
    """
    try:
        with pathlib.Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            ranks = evaluate.Ranks(file["users"], np.empty(0), file["num_candidates"], about["left_out"])
            return [
                Measurement(
                    **fields,
                    ranks=ranks._replace(ranks=file[f"ranks-{place}"]),
                    lists=file[f"lists-{place}"],
                    target_scores=file[f"scores-{place}"],
                )
                for place, fields in enumerate(about["measurements"])
            ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"Expected measurements in {path}, got {error!r}: remove it to measure again.") from None
