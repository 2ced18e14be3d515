"""Texts that are filtered: two classes, the second to be stopped, and what is not there is said."""

import numpy as np
import pandas as pd
import pytest
import texts_toy

from jaxrec.datasets import filters
from jaxrec.types import InputError


def test_spam_is_found_in_the_folder_of_its_name(tmp_path):
    drawn = texts_toy.draw(8)
    found = filters.load("sms-spam", texts_toy.write(tmp_path, num=8))
    assert found.texts == drawn.texts
    np.testing.assert_array_equal(found.labels, drawn.labels)


def test_reviews_of_three_stars_are_left_out_and_those_below_are_complaints(tmp_path, monkeypatch):
    frame = pd.DataFrame({"Rating": [1, 2, 3, 4, 5], "Review Text": ["a", "b", "c", "d", "e"]})
    frame.to_parquet(tmp_path / "WomensClothingE-CommerceReviews.parquet")
    monkeypatch.setenv("JAXREC_DATA", str(tmp_path))
    found = filters.load("clothing-reviews")
    assert found.texts == ["a", "b", "d", "e"]
    assert [found.classes[label] for label in found.labels] == ["complaint", "complaint", "praise", "praise"]


@pytest.mark.parametrize(
    ("name", "message"), [("mails", "one of sms-spam"), ("clothing-reviews", "WomensClothing.* set --data-dir")]
)
def test_what_is_not_known_or_not_there_is_said(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        filters.load(name, tmp_path)


def test_texts_are_drawn_with_their_labels_by_the_seed():
    data = texts_toy.draw(40)
    label_of = dict(zip(data.texts, data.labels.tolist(), strict=True))
    first, again, other = (filters.drawn(data, num=10, seed=seed) for seed in (0, 0, 1))
    assert first.texts == again.texts != other.texts
    assert first.labels.tolist() == [label_of[text] for text in first.texts]
    assert filters.drawn(data, num=40, seed=0) is data


def test_real_data_have_their_published_counts(data_dir):
    assert np.bincount(filters.load("sms-spam", data_dir).labels).tolist() == [4827, 747]
    assert np.bincount(filters.load("clothing-reviews", data_dir).labels).tolist() == [4908 + 12540, 821 + 1549]
