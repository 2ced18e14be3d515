"""Drawn messages: a word in three tells spam from ham."""

import pathlib

import numpy as np

from jaxrec.datasets.labelled_text import LabelledText

HAM, SPAM, ANY = (tuple(f"{kind}{letter}" for letter in "abcdef") for kind in ("home", "prize", "and"))


def draw(num: int = 120, *, seed: int = 0, num_words: int = 6) -> LabelledText:
    """Texts of `num_words` words each; a quarter is spam, which has words of SPAM where ham has words of HAM."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(num) % 4 == 0).astype(np.int32)
    texts = [
        " ".join(rng.choice((SPAM if label else HAM) if rng.random() < 0.4 else ANY) for _ in range(num_words))
        for label in labels
    ]
    return LabelledText(texts, labels, ("ham", "spam"))


def write(folder: pathlib.Path, **settings: int) -> pathlib.Path:
    """A folder with these as the SMS Spam Collection."""
    data = draw(**settings)
    rows = [f"{data.classes[label]}\t{text}\n" for text, label in zip(data.texts, data.labels, strict=True)]
    (folder / "sms-spam").mkdir(parents=True)
    (folder / "sms-spam" / "SMSSpamCollection").write_text("".join(rows))
    return folder
