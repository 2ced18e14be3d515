"""Labelled texts: every row has a text and a known class, or its place is named."""

import numpy as np
import pandas as pd
import pytest

from jaxrec.datasets import labelled_text
from jaxrec.types import InputError


def test_spam_is_read_with_and_without_its_header(tmp_path):
    path = tmp_path / "spam"
    rows = 'ham\tIt\'s "fine", see you\nspam\tWIN a £1000 prize\n'
    for header in ("", "Label\tSMS\n"):
        path.write_text(header + rows, encoding="utf-8")
        loaded = labelled_text.load_sms_spam(path)
        assert loaded.texts == ['It\'s "fine", see you', "WIN a £1000 prize"]
        assert [loaded.classes[label] for label in loaded.labels] == ["ham", "spam"]
        assert loaded.labels.dtype == np.int32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ham\tone\nsham\ttwo\n", r"spam:2:1: expected label as one of ham, spam, got 'sham'"),
        (b"Label\tSMS\nham\tone\n\tthree\n", r"spam:3:1: "),
        (b"ham\tone\nham\n", r"spam:2:2: expected 2 columns"),
        (b"ham\tone\tmore\n", r"spam:1:3: expected 2 columns"),
        (b"ham\t\n", r"spam:1:2: expected message as some text"),
        (b"ham\t\xff\xfe\n", r"spam:1:2: expected message as text in utf-8"),
        (b"", r"spam:1:1: expected rows"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, content, message):
    path = tmp_path / "spam"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        labelled_text.load_sms_spam(path)


def test_liar_takes_the_statement_and_orders_classes_by_truth(tmp_path):
    path = tmp_path / "train.tsv"
    row = lambda label: "\t".join(["1.json", label, f"A {label} claim", *[""] * 5, *"01234", "an interview"])
    path.write_text("\n".join(map(row, ["true", "pants-fire"])) + "\n", encoding="utf-8")
    loaded = labelled_text.load_liar(path)
    assert loaded.texts == ["A true claim", "A pants-fire claim"]
    assert loaded.labels.tolist() == [5, 0]
    path.write_text(row("mostly true"), encoding="utf-8")
    with pytest.raises(InputError, match=r"train.tsv:1:2: expected label as one of pants-fire, .* got 'mostly true'"):
        labelled_text.load_liar(path)


def test_reviews_without_a_text_are_left_out(tmp_path):
    path = tmp_path / "reviews.parquet"
    pd.DataFrame({"Rating": [5, 1, 3], "Review Text": ["Lovely", None, "So so"]}).to_parquet(path)
    loaded = labelled_text.load_clothing_reviews(path)
    assert loaded.texts == ["Lovely", "So so"]
    assert [loaded.classes[label] for label in loaded.labels] == ["5", "3"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"Rating": [5, 6], "Review Text": ["a", "b"]}, "expected a Rating of 1, 2, 3, 4 or 5, got 6 in row 2"),
        ({"Rating": [None, 2.0], "Review Text": ["a", "b"]}, "expected a Rating .* got nan in row 1"),
        ({"Stars": [5], "Review Text": ["a"]}, "expected a whole parquet file with the columns"),
    ],
)
def test_a_wrong_table_of_reviews_is_refused(tmp_path, frame, message):
    path = tmp_path / "reviews.parquet"
    pd.DataFrame(frame).to_parquet(path)
    with pytest.raises(InputError, match=message):
        labelled_text.load_clothing_reviews(path)


def test_a_cut_parquet_file_is_refused(tmp_path):
    path = tmp_path / "reviews.parquet"
    pd.DataFrame({"Rating": [5], "Review Text": ["a"]}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"reviews.parquet: expected a whole parquet file"):
        labelled_text.load_clothing_reviews(path)


def test_real_texts_have_their_published_counts(data_dir):
    spam = labelled_text.load_sms_spam(data_dir / "sms-spam" / "SMSSpamCollection.xz")
    assert np.bincount(spam.labels).tolist() == [4827, 747]
    for part, size in {"train": 10_269, "valid": 1_284, "test": 1_283}.items():
        assert len(labelled_text.load_liar(data_dir / "liar" / f"{part}.tsv.xz").texts) == size
    (parquet,) = (data_dir / "womens-clothing-reviews").glob("*.parquet")
    reviews = labelled_text.load_clothing_reviews(parquet)
    assert len(reviews.texts) == len(reviews.labels) == 23_486 - 845
    assert np.bincount(reviews.labels).tolist() == [821, 1549, 2823, 4908, 12540]
