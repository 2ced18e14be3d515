"""Short texts with a class each, for classifiers that are attacked word by word.

The SMS Spam Collection (Almeida et al., DocEng 2011, doi:10.1145/2034691.2034742), the statements of LIAR (Wang, ACL
2017, arXiv:1705.00648), and the reviews of the Women's E-Commerce Clothing data (Agarap, 2018, arXiv:1805.03687).
"""

from __future__ import annotations

import io
import os
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrec.datasets import reading, stored
from jaxrec.types import InputError

SPAM_CLASSES = ("ham", "spam")
LIAR_CLASSES = ("pants-fire", "false", "barely-true", "half-true", "mostly-true", "true")  # by rising truth
RATING_CLASSES = ("1", "2", "3", "4", "5")

_LIAR_COLUMNS = (
    *("id", "label", "statement", "subjects", "speaker", "job", "state", "party"),
    *("barely-true count", "false count", "half-true count", "mostly-true count", "pants-fire count", "context"),
)


class LabelledText(NamedTuple):
    """`texts` [N]; `labels` int32 [N], places in `classes`, their names."""

    texts: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]


def load_sms_spam(path: str | os.PathLike[str]) -> LabelledText:
    """Reads `SMSSpamCollection`: a label (ham or spam) and a message a line; a first line `Label...` is passed over.

    Raises:
        InputError: If the file is not there or any of its fields is not what it should be.
    """
    text = stored.open_text(path, b"\t")
    columns = reading.table(text, ["label", "message"], after_header=text.data.startswith(b"Label\t"))
    return _labelled(columns["message"], columns["label"], SPAM_CLASSES)


def load_liar(path: str | os.PathLike[str]) -> LabelledText:
    """Reads one of LIAR's three files (`train.tsv`, `valid.tsv`, `test.tsv`): the statements and how true they are.

    Raises:
        InputError: If the file is not there or any of these fields is not what it should be.
    """
    columns = reading.table(stored.open_text(path, b"\t"), _LIAR_COLUMNS)
    return _labelled(columns["statement"], columns["label"], LIAR_CLASSES)


def load_clothing_reviews(path: str | os.PathLike[str]) -> LabelledText:
    """Reads the parquet file of clothing reviews: the text of each review and its rating, 1 to 5.

    Reviews that have a rating and no text are left out.

    Raises:
        InputError: If pyarrow is missing, the file is not there or no parquet file, has no columns `Review Text` and
            `Rating`, or a rating is not one of 1, 2, 3, 4, 5.
    """
    data = stored.content(path)
    try:
        frame = pd.read_parquet(io.BytesIO(data), columns=["Review Text", "Rating"])
    except ImportError as problem:
        raise InputError(f"{path}: expected pyarrow to be installed, which reads parquet, got none") from problem
    except (ValueError, OSError) as problem:  # what pyarrow raises is one of them
        expected = "a whole parquet file with the columns 'Review Text' and 'Rating'"
        raise InputError(f"{path}: expected {expected}, got: {str(problem).splitlines()[0]}") from problem
    ratings = frame["Rating"].to_numpy()
    wrong = np.flatnonzero(~np.isin(ratings, [1, 2, 3, 4, 5]))
    if len(wrong):
        got = f"{ratings[wrong[0]]} in row {wrong[0] + 1}"
        raise InputError(f"{path}: expected a Rating of 1, 2, 3, 4 or 5, got {got}")
    there = frame["Review Text"].notna().to_numpy()
    texts = frame["Review Text"].to_numpy()[there].tolist()
    return LabelledText(texts, ratings[there].astype(np.int32) - 1, RATING_CLASSES)


def _labelled(texts: reading.Column, labels: reading.Column, classes: tuple[str, ...]) -> LabelledText:
    """The texts with their labels as places in `classes`."""
    places = pd.Index(classes).get_indexer(reading.strings(labels))
    reading.refuse(labels, places < 0, f"one of {', '.join(classes)}")
    return LabelledText(reading.strings(texts), places.astype(np.int32), classes)
