"""Texts that somebody filters, and somebody else wants past the filter: spam messages, and complaints about clothes."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from jaxrec.datasets import labelled_text, stored
from jaxrec.datasets.labelled_text import LabelledText
from jaxrec.types import InputError

SPAM, REVIEWS = "sms-spam", "clothing-reviews"
NAMES = (SPAM, REVIEWS)
_FILES = {SPAM: "SMSSpamCollection", REVIEWS: "WomensClothingE-CommerceReviews.parquet"}
_FOLDERS = {SPAM: "sms-spam", REVIEWS: "womens-clothing-reviews"}


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> LabelledText:
    """Loads one of `NAMES` from `data_dir`, or a folder in it of the data set's name; by default from $JAXREC_DATA.

    Returns:
        Texts of two classes, of which the second is what the filter is to stop: spam; or reviews of one and two stars,
        set against those of four and five. Reviews of three stars are left out.

    Raises:
        InputError: If the name is not known, the file is not there, or it is malformed.
    """
    if name not in NAMES:
        raise InputError(f"Expected one of {', '.join(NAMES)}, got {name!r}.")
    root = pathlib.Path(data_dir or os.environ.get("JAXREC_DATA") or ".")
    places = (stored.find(folder, _FILES[name]) for folder in (root, root / _FOLDERS[name]))
    path = next((place for place in places if place is not None), None)
    if path is None:
        where = f"got {root}, which has none: set --data-dir"
        raise InputError(f"Expected a folder with {_FILES[name]} (also in {_FOLDERS[name]}/), {where}.")
    if name == SPAM:
        return labelled_text.load_sms_spam(path)
    reviews = labelled_text.load_clothing_reviews(path)
    stars = reviews.labels + 1
    decided = np.flatnonzero(stars != 3)
    texts = [reviews.texts[place] for place in decided]
    return LabelledText(texts, (stars[decided] < 3).astype(np.int32), ("praise", "complaint"))


def drawn(data: LabelledText, *, num: int, seed: int) -> LabelledText:
    """At most `num` of the texts, drawn by a seed, in their order."""
    if len(data.texts) <= num:
        return data
    rows = np.sort(np.random.default_rng(seed).choice(len(data.texts), num, replace=False))
    return LabelledText([data.texts[row] for row in rows], data.labels[rows], data.classes)
