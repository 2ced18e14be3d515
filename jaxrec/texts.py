"""Texts as filters read them: words of a vocabulary that training texts know, in parts that share no text."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import numpy as np
import sklearn.feature_extraction.text
import sklearn.model_selection

from jaxrec.datasets.labelled_text import LabelledText
from jaxrec.types import InputError

SHARES = {"valid": 0.2, "test": 0.2}
FEWEST = 10  # different texts of each class
_WORD = re.compile(r"\w\w+")


class Part(NamedTuple):
    """Texts of a part.

    Attributes:
        ids: int32 [N, L], words as places in the vocabulary in the order of the text, -1 in empty places, in front.
        labels: int32 [N], 1 for what a filter is to stop.
    """

    ids: np.ndarray
    labels: np.ndarray


class Corpus(NamedTuple):
    """Texts to train on, to choose by and to test on.

    Attributes:
        train, valid, test: Its parts.
        vocabulary: [V] words, those that most training texts have, at least two; in order of the alphabet.
        idf: float32 [V], scikit-learn's smooth inverse document frequency, of the training texts.
        frequency: float32 [V], the share of each word among the known words of the training texts; they sum to 1.
    """

    train: Part
    valid: Part
    test: Part
    vocabulary: list[str]
    idf: np.ndarray
    frequency: np.ndarray


def words(text: str) -> list[str]:
    """The words of two or more letters or digits, in lower case and with all digits as 0: £1000 and £2500 are one."""
    return _WORD.findall(re.sub(r"\d", "0", text.lower()))


def corpus(data: LabelledText, *, seed: int, max_words: int, num_words: int, room: int) -> Corpus:
    """Cuts texts of two classes into parts by a seed, stratified, and reads them by the training part's vocabulary.

    Of texts that are the same word for word, as `words` has them, the first is kept alone: no text of a part is in
    another, and all seeds have parts of the same sizes. Words that the vocabulary lacks are passed over.

    Args:
        seed: Of the split.
        max_words: Words that are read of each text: the first.
        num_words: The vocabulary's words, at most.
        room: Empty places before the longest text, for words that are put in.

    Raises:
        InputError: If there are fewer than ten different texts of either class, or no word is in two training texts.
    """
    of_text = [words(text)[:max_words] for text in data.texts]
    first = np.unique([" ".join(found) for found in of_text], return_index=True)[1]
    parts = _parts(np.sort(first), data.labels, seed)
    counter = sklearn.feature_extraction.text.TfidfVectorizer(
        analyzer=list,  # type: ignore[arg-type]  # of words already
        min_df=2,
        max_features=num_words,
    )
    try:
        counter.fit([of_text[row] for row in parts["train"]])
    except ValueError as problem:  # no word is left
        raise InputError(f"Expected words that two training texts share, got none: {problem}") from None
    places = {word: int(place) for word, place in counter.vocabulary_.items()}
    found = {
        name: Part(_ids([of_text[row] for row in rows], places, max_words + room), data.labels[rows])
        for name, rows in parts.items()
    }
    known = found["train"].ids
    counts = np.bincount(known[known >= 0], minlength=len(places))
    return Corpus(
        **found,
        vocabulary=sorted(places),
        idf=np.asarray(counter.idf_, np.float32),
        frequency=(counts / counts.sum()).astype(np.float32),
    )


def _parts(rows: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """{part: some of the rows}, with the same share of either label."""
    counts = np.bincount(labels[rows], minlength=2)
    if len(counts) > 2 or counts.min() < FEWEST:
        raise InputError(f"Expected at least {FEWEST} different texts of each of two classes, got {counts.tolist()}.")
    cut = functools.partial(sklearn.model_selection.train_test_split, random_state=seed)
    rest, test = cut(rows, stratify=labels[rows], test_size=SHARES["test"])
    train, valid = cut(rest, stratify=labels[rest], test_size=SHARES["valid"] / (1 - SHARES["test"]))
    return {"train": np.asarray(train), "valid": np.asarray(valid), "test": np.asarray(test)}


def _ids(of_text: list[list[str]], places: dict[str, int], length: int) -> np.ndarray:
    """int32 [N, length], the known words of each text at its end."""
    ids = np.full((len(of_text), length), -1, np.int32)
    for row, found in zip(ids, of_text, strict=True):
        known = [places[word] for word in found if word in places]
        row[length - len(known) :] = known
    return ids
