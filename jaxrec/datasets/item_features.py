"""Features of items from a csv file: a header `item,f0,f1,...`, then a row of numbers for each item."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from jaxrec.datasets import reading, stored

ITEM_COLUMNS = ("item", "item_id")


class ItemFeatures(NamedTuple):
    """`item_ids` int64 [I], the ids of the file, each once; `features` float32 [I, F], finite."""

    item_ids: np.ndarray
    features: np.ndarray


def load(path: str | os.PathLike[str], *, item_ids: np.ndarray | None = None) -> ItemFeatures:
    """Reads the features.

    Args:
        path: The file, plain, .gz or .xz.
        item_ids: The items whose features are wanted, in this order; None for all of the file, in its order.

    Raises:
        InputError: If the file is not there, any field is not what it should be (a number that float32 cannot hold
            too), an item is there twice or has no features, or there are fewer than two items.
    """
    text = stored.open_text(path, b",")
    header = reading.header(text)
    if header[0] not in ITEM_COLUMNS or len(header) < 2:
        raise reading.error(path, "a header item,f0,f1,... with at least one feature", ",".join(header)[:60])
    columns = reading.table(text, header, after_header=True)
    ids = reading.keys(columns.pop(header[0])._replace(name="item"))
    features = np.stack(
        [reading.numbers(column, -reading.LARGEST_FLOAT32, reading.LARGEST_FLOAT32) for column in columns.values()],
        axis=1,
    )
    if len(ids) < 2:
        raise reading.error(path, "at least two items", f"{len(ids)}", 2)
    if item_ids is None:
        return ItemFeatures(ids, features.astype(np.float32))
    order = np.argsort(ids)
    places = order[np.minimum(np.searchsorted(ids, item_ids, sorter=order), len(ids) - 1)]
    missing = np.flatnonzero(ids[places] != item_ids)
    if len(missing):
        some = f"none for {len(missing)} of {len(item_ids)} items, such as {item_ids[missing[0]]}"
        raise reading.error(path, "features of every item", some, len(ids) + 1)
    return ItemFeatures(np.asarray(item_ids), features[places].astype(np.float32))
