"""The strict reader: what is written is read, and what is odd is found."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec import types
from jaxrec.datasets import reading

ids = st.integers(0, 2**63 - 1)
decimals = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(ids, decimals, ids, st.text(string.ascii_letters + "é()' ", min_size=1)), min_size=1, max_size=20
    ),
    separator=st.sampled_from([",", "\t", "::", "|"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    ends=st.booleans(),
)
def test_what_is_written_is_read(rows, separator, newline, ends):
    lines = [separator.join((str(user), repr(rating), str(time), title)) for user, rating, time, title in rows]
    data = (newline.join(lines) + newline * ends).encode()
    columns = reading.table(reading.text("x", data, separator.encode()), ["user", "rating", "time", "title"])
    read = (
        reading.integers(columns["user"]).tolist(),
        reading.numbers(columns["rating"]).tolist(),
        reading.integers(columns["time"]).tolist(),
        reading.strings(columns["title"]),
    )
    assert list(zip(*read, strict=True)) == rows


@settings(max_examples=200, deadline=None)
@given(field=st.text("0123456789_+-. eE", min_size=1, max_size=22))
def test_integers_are_plain_digits_and_numbers_are_decimals(field):
    column = reading.table(reading.text("x", f"7,{field},1\n".encode(), b","), ["a", "b", "c"])["b"]
    is_id = field.isdigit() and str(int(field)) == field and int(field) < 2**63
    if is_id:
        assert reading.integers(column).tolist() == [int(field)]
        assert reading.numbers(column).tolist() == [float(field)]
    else:
        with pytest.raises(types.InputError, match=r"^x:1:2: expected b as a whole number"):
            reading.integers(column)
    try:
        read = reading.numbers(column).tolist()
    except types.InputError:
        return
    assert read == [float(field)]
    assert not set(field) & set("_ ")


def test_lists_tell_the_width_of_every_line():
    column, widths = reading.lists(reading.text("x", b"1 2 3\n4\n5 6", b" "), "id")
    assert reading.integers(column).tolist() == [1, 2, 3, 4, 5, 6]
    assert widths.tolist() == [3, 1, 2]


def test_a_place_counts_lines_and_fields_from_one():
    data = b"a::b\n1::2\n3::\x004\n"
    with pytest.raises(types.InputError, match=r"^x:3:2: expected plain text, got a NUL byte"):
        reading.text("x", data, b"::")
    columns = reading.table(reading.text("x", b"1::2\n3::word: ::\n".replace(b" ::", b""), b"::"), ["a", "b"])
    with pytest.raises(types.InputError, match=r"^x:2:2: expected b as a whole number .* got 'word:'$"):
        reading.integers(columns["b"])


def test_times_in_milliseconds_stay_and_whole_decimals_count():
    column = reading.table(reading.text("x", b"1592000000123\n978300760.0\n0\n", b","), ["time"])["time"]
    assert reading.times(column).tolist() == [1592000000123, 978300760, 0]
    largest = reading.table(reading.text("x", f"{2**63 - 1}\n".encode(), b","), ["time"])["time"]
    assert reading.times(largest).tolist() == [2**63 - 1]


@pytest.mark.parametrize("last", [b"881250", b"5"])
def test_a_last_line_cut_within_its_time_is_found(last):
    for data, cut in (
        (b"1,881250949\n2," + last, True),
        (b"1,881250949\n2," + last + b"\n", False),
        (b"1,7\n2," + last, False),
    ):
        column = reading.table(reading.text("x", data, b","), ["id", "time"])["time"]
        if cut:
            with pytest.raises(types.InputError, match=r"^x:2:2: .*seems to be cut"):
                reading.times(column)
        else:
            assert reading.times(column)[1] == int(last)


def test_a_large_table_is_read_exactly():
    rng = np.random.default_rng(0)
    rows = rng.integers(1, [6041, 3953, 6, 10**9], size=(100_000, 4))
    data = "\n".join("::".join(map(str, row)) for row in rows.tolist()).encode()
    columns = reading.table(reading.text("x", data, b"::"), ["user", "item", "rating", "timestamp"])
    for n, name in ((0, "user"), (1, "item"), (3, "timestamp")):
        np.testing.assert_array_equal(reading.integers(columns[name]), rows[:, n])
    np.testing.assert_array_equal(reading.numbers(columns["rating"], 1, 5), rows[:, 2])
