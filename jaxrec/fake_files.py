"""Crafted profiles on disk: an attack file is a result, with its SHA-256, and any victim can be attacked with it."""

import dataclasses
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrec import files, provenance
from jaxrec.types import InputError, Interactions

Path = str | os.PathLike[str]
COLUMNS = ("users", "items", "ratings", "timestamps")


def sha256(fakes: Interactions) -> str:
    """SHA-256 over the profiles: every column with its type and shape, and the numbers of users and items."""
    return provenance.fingerprint(dataclasses.replace(fakes, user_ids=None, item_ids=None))["sha256"]


def write(path: Path, fakes: Interactions, about: Mapping[str, Any]) -> str:
    """Keeps profiles as .npz, whole or not at all.

    Args:
        path: Ends in .npz.
        fakes: From a `Poison`.
        about: What JSON can hold: attack, budget, targets; under "of" the fingerprint of the data that it is for.

    Returns:
        Their SHA-256, which stands in the file too.
    """
    digest = sha256(fakes)
    sizes = {"num_users": fakes.num_users, "num_items": fakes.num_items}
    text = json.dumps({"sha256": digest, "about": dict(about), **sizes})
    columns = {name: getattr(fakes, name) for name in COLUMNS if getattr(fakes, name) is not None}
    with files.whole(path) as file:
        np.savez_compressed(file, header=np.array(text), **columns)
    return digest


def read(path: Path, *, of: Mapping[str, Any] | None = None) -> tuple[Interactions, dict[str, Any]]:
    """The profiles that `write` kept, and what was said about them, which is not in their SHA-256.

    Args:
        path: Of the file.
        of: `provenance.fingerprint` of the data that they are to be for; any by default.

    Raises:
        InputError: If the file is not one of them, its profiles do not have the SHA-256 that it names, or they are for
            other data.
    """
    try:
        with pathlib.Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            columns = {name: file[name] for name in COLUMNS if name in file}
            fakes = Interactions(num_users=header["num_users"], num_items=header["num_items"], **columns)
            digest, about = header["sha256"], header["about"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"Expected crafted profiles in {path}, got {error!r}.") from None
    if sha256(fakes) != digest:
        raise InputError(f"Expected profiles with SHA-256 {digest[:16]} in {path}, got {sha256(fakes)[:16]}.")
    if of is not None and about.get("of") != of:
        named = [str((one or {}).get("sha256", "none"))[:16] for one in (of, about.get("of"))]
        raise InputError(f"Expected profiles for data with SHA-256 {named[0]} in {path}, got such for {named[1]}.")
    return fakes, about
