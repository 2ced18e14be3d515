"""Texts in parts: no text in two of them, the vocabulary of the training part alone, words in their order."""

import math

import numpy as np
import pytest
import texts_toy

from jaxrec import texts
from jaxrec.datasets.labelled_text import LabelledText
from jaxrec.types import InputError

SIZES = {"max_words": 6, "num_words": 100, "room": 2}


def in_words(corpus: texts.Corpus, part: texts.Part) -> list[str]:
    return [" ".join(corpus.vocabulary[word] for word in row[row >= 0]) for row in part.ids]


def test_digits_are_alike_and_single_letters_no_words():
    assert texts.words("WIN £1000 a day, it's 24/7!") == ["win", "0000", "day", "it", "00"]


def test_equal_texts_are_kept_once_and_every_seed_has_parts_of_one_size():
    data = texts_toy.draw(100)
    twice = LabelledText(data.texts + [text.upper() for text in data.texts], np.tile(data.labels, 2), data.classes)
    seen = []
    for seed in (0, 1):
        corpus = texts.corpus(twice, seed=seed, **SIZES)
        parts = corpus.train, corpus.valid, corpus.test
        assert [len(part.ids) for part in parts] == [60, 20, 20]
        assert [int(part.labels.sum()) for part in parts] == [15, 5, 5]
        known = [text for part in parts for text in in_words(corpus, part)]
        assert sorted(known) == sorted(data.texts), "all words are in the vocabulary, so texts are as they were"
        seen.append(in_words(corpus, corpus.test))
    assert seen[0] != seen[1]
    np.testing.assert_array_equal(texts.corpus(twice, seed=1, **SIZES).test.ids, corpus.test.ids)


def test_the_vocabulary_is_what_most_training_texts_have_and_other_words_are_passed_over():
    data = texts_toy.draw(100)
    data = data._replace(texts=[f"{text} once{'x' * place}" for place, text in enumerate(data.texts)])
    corpus = texts.corpus(data, seed=0, max_words=7, num_words=5, room=2)
    assert corpus.vocabulary == sorted(corpus.vocabulary)
    assert len(corpus.vocabulary) == 5
    train = corpus.train.ids
    has = [np.any(train == word, axis=1).sum() for word in range(5)]
    expected = [math.log((1 + 60) / (1 + num)) + 1 for num in has]
    np.testing.assert_allclose(corpus.idf, expected, rtol=1e-6)
    np.testing.assert_allclose(corpus.frequency, [(train == word).sum() / (train >= 0).sum() for word in range(5)])
    assert not any(word.startswith("once") for word in corpus.vocabulary)
    empty = train < 0
    assert np.all(empty[:, :2]), "room for two words"
    assert np.all(np.diff(empty.astype(int), axis=1) <= 0), "empty places are in front"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (texts_toy.draw(36), r"at least 10 different texts of each of two classes, got \[27, 9\]"),
        (LabelledText(["a1 b1"] * 60, np.arange(60) % 2, ("ham", "spam")), r"got \[1, 0\]"),
        (
            LabelledText(["x" * (2 + place) for place in range(60)], (np.arange(60) % 2).astype(np.int32), ("a", "b")),
            "words that two training texts share",
        ),
    ],
)
def test_too_few_texts_or_words_are_refused(data, message):
    data = data._replace(labels=data.labels.astype(np.int32))
    with pytest.raises(InputError, match=message):
        texts.corpus(data, seed=0, **SIZES)
