"""Malformed files of every kind, each refused in one line that names file, line and column, and odd ones that load."""

import gzip
import io
import logging
import lzma
import pathlib
import random

import pandas as pd
import pytest

from jaxrec import types
from jaxrec.datasets import kinds

DATA = b"1\t10\t5\t881250949\n1\t20\t3\t881250950\n2\t10\t4\t881250951\n"
RATINGS = DATA.replace(b"\t", b"::")
CSV = b"user_id,item_id,rating,timestamp\n" + DATA.replace(b"\t", b",")
TSV = CSV.replace(b",", b"\t")
INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + DATA
FEATURES = b"item,f0,f1\n10,0.5,-1\n20,1e-3,2.25\n"
MOVIES = "1::Toy Story (1995)::Animation\n2::Misérables, Les (1995)::Drama\n".encode("latin-1")
USERS = b"1::F::1::10::48067\n2::M::56::16::70072\n"
FILES = {
    "u.data": DATA,
    "ratings.dat": RATINGS,
    "x.csv": CSV,
    "x.tsv": TSV,
    "x.inter": INTER,
    "features.csv": FEATURES,
    "movies.dat": MOVIES,
    "users.dat": USERS,
    "set_train.dat": b"0\t10\t5.0\n0\t20\t3.0\n1\t10\t4.0\n",
}

# The second row, its second field: where each of these malformed ids stands.
BAD_IDS = {
    "word": b"abc",
    "float": b"20.0",
    "nan": b"NaN",
    "empty": b"",
    "negative": b"-20",
    "plus": b"+20",
    "space before": b" 20",
    "space after": b"20 ",
    "leading zero": b"020",
    "underscored": b"2_0",
    "exponent": b"2e1",
    "hexadecimal": b"0x14",
    "quoted": b"'20'",
    "arabic digits": "\N{ARABIC-INDIC DIGIT TWO}\N{ARABIC-INDIC DIGIT ZERO}".encode(),
    "full-width digits": "\N{FULLWIDTH DIGIT TWO}\N{FULLWIDTH DIGIT ZERO}".encode(),
    "no-break space": "20\N{NO-BREAK SPACE}".encode(),
    "byte-order mark inside": "\N{ZERO WIDTH NO-BREAK SPACE}20".encode(),
    "not utf-8": b"\xff20",
    "beyond int64": b"9223372036854775808",
    "beyond uint64": b"18446744073709551617",
    "far beyond": b"1" + b"0" * 400,
}
BAD_RATINGS = {
    "empty": b"",
    "nan": b"nan",
    "infinite": b"inf",
    "too large": b"6",
    "too small": b"0",
    "negative": b"-1",
    "word": b"good",
    "float overflow": b"1e999",
    "decimal comma": b"3,5",
    "underscored": b"1_0",
    "no digit after the point": b"3.",
}
BAD_TIMES = {"negative": b"-5", "word": b"2015-01-01", "empty": b"", "fraction": b"881250950.5", "nan": b"NaN"}


def refused(tmp_path: pathlib.Path, name: str, content: bytes, *places: str) -> str:
    """The message about a file, after its line and column have been looked at."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(types.InputError) as raised:
        kinds.count(str(path))
    message = str(raised.value)
    assert message.splitlines() == [message]
    assert len(message) < 400 + len(str(path))
    assert message.startswith(tuple(f"{path}:{place}: expected " for place in places)), message
    return message


def table(kind: str) -> tuple[bytes, int]:
    """A valid interactions file and the line of its second row."""
    return FILES[kind], 2 if kind in ("u.data", "ratings.dat") else 3


TABLES = ("u.data", "ratings.dat", "x.csv", "x.tsv", "x.inter")


@pytest.mark.parametrize("name", FILES)
def test_valid_files_load(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    rows, users, items = kinds.count(str(tmp_path / name))
    expected = {"features.csv": (2, 0, 2), "movies.dat": (2, 0, 2), "users.dat": (2, 2, 0)}
    assert (rows, users, items) == expected.get(name, (3, 2, 2))


@pytest.mark.parametrize("field", BAD_IDS.values(), ids=BAD_IDS)
@pytest.mark.parametrize("kind", TABLES)
def test_bad_ids_are_placed(tmp_path, kind, field):
    content, line = table(kind)
    message = refused(tmp_path, kind, content.replace(b"20", field, 1), f"{line}:2")
    assert "item as a whole number from 0 to 9223372036854775807 in plain digits" in message


@pytest.mark.parametrize("field", BAD_RATINGS.values(), ids=BAD_RATINGS)
@pytest.mark.parametrize("kind", TABLES)
def test_bad_ratings_are_placed(tmp_path, kind, field):
    content, line = table(kind)
    if kind == "x.csv" and b"," in field:
        pytest.skip("here a comma separates")
    message = refused(tmp_path, kind, content.replace(b"3", field, 1), f"{line}:3")
    assert "rating as a number from " in message


@pytest.mark.parametrize("field", BAD_TIMES.values(), ids=BAD_TIMES)
@pytest.mark.parametrize("kind", TABLES)
def test_bad_times_are_placed(tmp_path, kind, field):
    content, line = table(kind)
    message = refused(tmp_path, kind, content.replace(b"881250950", field, 1), f"{line}:4")
    assert "timestamp as " in message


@pytest.mark.parametrize("kind", TABLES)
def test_rows_of_another_width_are_placed(tmp_path, kind):
    content, line = table(kind)
    lines = content.splitlines(keepends=True)
    separator = {"u.data": b"\t", "ratings.dat": b"::", "x.csv": b","}.get(kind, b"\t")
    second = lines[line - 1]

    def changed(new: bytes) -> bytes:
        return b"".join([*lines[: line - 1], new, *lines[line:]])

    missing = separator.join(second.split(separator)[:3]) + b"\n"
    extra = second[:-1] + separator + b"1\n"
    blank = b"\n" + second
    assert "got 3 in" in refused(tmp_path, kind, changed(missing), f"{line}:4")
    assert "got 5 in" in refused(tmp_path, kind, changed(extra), f"{line}:5")
    assert "got a blank line" in refused(tmp_path, kind, changed(blank), f"{line}:1")
    assert "got 1 in '  '" in refused(tmp_path, kind, changed(b"  \n" + second), f"{line}:1", f"{line}:2")
    assert "got 1 in" in refused(tmp_path, kind, changed(second.replace(separator, b";")), f"{line}:1")
    assert "got 3 in" in refused(
        tmp_path, kind, changed(second.replace(separator, b"|", 2).replace(b"|", separator, 1)), f"{line}:2"
    )
    cut = content[: content.rindex(separator)]
    assert "got 3 in" in refused(tmp_path, kind, cut, f"{line + 1}:4")
    assert "the last line seems to be cut" in refused(tmp_path, kind, content[:-5], f"{line + 1}:4")


@pytest.mark.parametrize("name", FILES)
def test_what_is_not_plain_text_is_refused(tmp_path, name):
    content = FILES[name]
    for disguised, what in (
        (gzip.compress(content), "gzip"),
        (lzma.compress(content), "xz"),
        (b"PK\x03\x04zip", "zip"),
    ):
        assert f"got {what} bytes" in refused(tmp_path, name, disguised, "1:1")
    text = content.decode("latin-1")
    assert "got UTF-16 bytes" in refused(tmp_path, name, text.encode("utf-16"), "1:1")
    assert "got a NUL byte" in refused(tmp_path, name, text.encode("utf-16-le"), "1:1")
    lines = content.splitlines(keepends=True)
    for character in (b"\0", b"\x1b", b"\x1f", b"\r"):
        changed = lines[0] + lines[1][:1] + character + lines[1][1:] + b"".join(lines[2:])
        refused(tmp_path, name, changed, "2:1")
    assert "got an empty file" in refused(tmp_path, name, b"", "1:1")
    refused(tmp_path, name, b"\n\n", "1:1")


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.inter"])
def test_quotes_are_refused(tmp_path, name):
    assert "got a quote" in refused(tmp_path, name, FILES[name].replace(b"20", b'"20"', 1), "3:2")
    assert "got a quote" in refused(tmp_path, name, FILES[name].replace(b"item", b'"item', 1), "1:2")


HEADERS = {
    "no header": ("x.csv", DATA.replace(b"\t", b","), "1:1", "a header with a column user_id"),
    "header alone": ("x.csv", CSV.splitlines()[0], "2:1", "rows after the header"),
    "no user": ("x.csv", CSV.replace(b"user_id", b"who"), "1:1", "a column user_id"),
    "no item": ("x.csv", CSV.replace(b"item_id", b"what"), "1:1", "a column item_id"),
    "two items": ("x.csv", CSV.replace(b"timestamp", b"movieId"), "1:1", "one item column"),
    "a name twice": ("x.csv", CSV.replace(b"timestamp", b"rating"), "1:4", "every column name once"),
    "padded name": ("x.csv", CSV.replace(b"item_id", b" item_id"), "1:2", "without quotes and spaces"),
    "empty name": ("x.csv", CSV.replace(b"item_id", b""), "1:2", "a column name"),
    "tabs in csv": ("x.csv", TSV, "1:1", "a header with a column user_id"),
    "no type": ("x.inter", TSV, "1:1", "name:type"),
    "unknown type": ("x.inter", INTER.replace(b"rating:float", b"rating:int"), "1:3", "name:type"),
    "wrong type": ("x.inter", INTER.replace(b"item_id:token", b"item_id:float"), "1:2", "the item column of type"),
    "one item": ("u.data", DATA.replace(b"20", b"10"), "1:1", "at least two items, got 1 in 3 rows"),
    "one item in csv": ("x.csv", CSV.replace(b"20", b"10"), "1:1", "at least two items, got 1 in 3 rows"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "place", "fragment"), HEADERS.values(), ids=HEADERS)
def test_headers_and_too_few_items(tmp_path, name, content, place, fragment):
    assert fragment in refused(tmp_path, name, content, place)


SIDE_FILES = {
    "nan": ("features.csv", FEATURES.replace(b"2.25", b"nan"), "3:3", "f1 as a number from -3.402823466e+38"),
    "infinite": ("features.csv", FEATURES.replace(b"2.25", b"-inf"), "3:3", "f1 as"),
    "float32 overflow": ("features.csv", FEATURES.replace(b"2.25", b"3.5e38"), "3:3", "got '3.5e38'"),
    "empty": ("features.csv", FEATURES.replace(b"2.25", b""), "3:3", "got nothing"),
    "no features of an item": ("features.csv", FEATURES.replace(b"20,1e-3,2.25", b"20"), "3:2", "3 columns"),
    "no features at all": ("features.csv", b"item\n10\n20\n", "1:1", "with at least one feature"),
    "an item twice": ("features.csv", FEATURES.replace(b"20,", b"10,"), "3:1", "an id that no line above has"),
    "an item as a word": ("features.csv", FEATURES.replace(b"20,", b"b,"), "3:1", "item as a whole number"),
    "one item": ("features.csv", b"item,f0\n10,1\n", "2:1", "at least two items"),
    "movie without genres": ("movies.dat", MOVIES.replace(b"::Drama", b"::"), "2:3", "genres as some text"),
    "movie without a field": ("movies.dat", MOVIES.replace(b"::Drama", b""), "2:3", "3 columns separated by '::'"),
    "movie as a word": ("movies.dat", MOVIES.replace(b"2::", b"two::"), "2:1", "movie as a whole number"),
    "movie twice": ("movies.dat", MOVIES.replace(b"2::", b"1::"), "2:1", "an id that no line above has"),
    "age as a word": ("users.dat", USERS.replace(b"56", b"old"), "2:3", "age as a whole number"),
    "tabs for colons": ("ratings.dat", DATA, "1:1", "4 columns separated by '::'"),
    "single colons": ("ratings.dat", DATA.replace(b"\t", b":"), "1:1", "4 columns separated by '::'"),
    "word among tabs": ("set.dat", FILES["set_train.dat"].replace(b"20", b"x"), "2:2", "item as"),
}


@pytest.mark.parametrize(("name", "content", "place", "fragment"), SIDE_FILES.values(), ids=SIDE_FILES)
def test_features_movies_and_users(tmp_path, name, content, place, fragment):
    assert fragment in refused(tmp_path, name, content, place)


@pytest.mark.parametrize("name", FILES)
def test_harmless_oddities_load(tmp_path, name):
    content = FILES[name]
    odd = {
        "plain": content,
        "windows": content.replace(b"\n", b"\r\n"),
        "byte-order mark": b"\xef\xbb\xbf" + content,
        "no final newline": content.rstrip(b"\n"),
        "empty lines at the end": content + b"\r\n\n",
    }
    counts = set()
    for variant in odd.values():
        (tmp_path / name).write_bytes(variant)
        counts.add(kinds.count(str(tmp_path / name)))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    (tmp_path / f"{name}.xz").write_bytes(lzma.compress(content))
    counts |= {kinds.count(str(tmp_path / f"{name}.gz")), kinds.count(str(tmp_path / f"{name}.xz"))}
    assert len(counts) == 1


def test_files_that_are_not_there_or_not_what_they_are_called(tmp_path):
    for name, content in (("u.data.gz", DATA), ("u.data.xz", DATA), ("u.data.gz", gzip.compress(DATA)[:-9])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(types.InputError, match=r":1:1: expected whole (gz|xz) data"):
            kinds.count(str(tmp_path / name))
    for name in ("absent.data", "."):
        with pytest.raises(types.InputError, match=r"expected a"):
            kinds.count(str(tmp_path / name))
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(types.InputError, match=r"expected a \.data, \.dat, \.csv"):
        kinds.count(str(tmp_path / "x.pkl"))


def test_duplicates_load_with_a_warning_that_counts_them(tmp_path, caplog):
    path = tmp_path / "u.data"
    path.write_bytes(DATA + b"1\t10\t5\t881250949\n1\t20\t1\t881250960\n1\t20\t2\t881250955\n")
    with caplog.at_level(logging.WARNING):
        assert kinds.count(str(path)) == (3, 2, 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: dropped 1 rows that repeat an earlier row exactly, and 2 ratings of pairs that were rated again "
        "(the latest stays)."
    ]


def parquet(frame: pd.DataFrame) -> bytes:
    pytest.importorskip("pyarrow")
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


FRAME = pd.DataFrame(
    {"extra": ["a", "b"], "user_id": [1, 1], "item_id": [10, 2**40], "rating": [5.0, 3.5], "time": [7, 8]}
)
BAD_FRAMES = {
    "negative id": (FRAME.assign(item_id=[10, -20]), "2:3"),
    "word id": (FRAME.assign(item_id=["10", "abc"]), "2:3"),
    "missing id": (FRAME.assign(item_id=["10", None]), "2:3"),
    "float ids": (FRAME.assign(item_id=[10.0, 20.0]), "1:3"),
    "boolean ids": (FRAME.assign(item_id=[True, False]), "1:3"),
    "nan rating": (FRAME.assign(rating=[5.0, float("nan")]), "2:4"),
    "infinite rating": (FRAME.assign(rating=[5.0, float("inf")]), "2:4"),
    "rating off the scale": (FRAME.assign(rating=[5, 7]), "2:4"),
    "time with a fraction": (FRAME.assign(time=[7.0, 8.5]), "2:5"),
    "beyond int64": (FRAME.assign(item_id=pd.Series([1, 2**63], dtype="uint64")), "2:3"),
    "no user": (FRAME.drop(columns="user_id"), "1:1"),
    "no rows": (FRAME.head(0), "1:1"),
    "one item": (FRAME.assign(item_id=[10, 10], time=[7, 7]), "1:1"),
}


@pytest.mark.parametrize(("frame", "place"), BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_bad_parquet_is_placed(tmp_path, frame, place):
    assert "x.parquet" in refused(tmp_path, "x.parquet", parquet(frame), place)


def test_parquet_loads_and_broken_parquet_does_not(tmp_path):
    content = parquet(FRAME)
    for name, stored in (("x.parquet", content), ("x.parquet.xz", lzma.compress(content))):
        (tmp_path / name).write_bytes(stored)
        assert kinds.count(str(tmp_path / name)) == (2, 1, 2)
    for broken in (content[:-10], content[:40], b"user_id,item_id\n1,2\n", b""):
        refused(tmp_path, "x.parquet", broken, "1:1")


@pytest.mark.parametrize("name", [*FILES, "x.parquet", "x.csv.gz", "x.csv.xz"])
def test_mutated_files_load_or_are_refused_in_one_line(tmp_path, name):
    compress = {"x.csv.gz": gzip.compress, "x.csv.xz": lzma.compress}.get(name, bytes)
    content = parquet(FRAME) if name == "x.parquet" else compress(FILES[name.removesuffix(".gz").removesuffix(".xz")])
    rng = random.Random(0)
    messages = []
    for _ in range(150):
        mutated = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(len(mutated))
            new = rng.choice(
                [b"", bytes([rng.randrange(256)]), b"\n", b"\t", b",", b"::", b"-", b"9" * 20, b"\0", b"\r\n", b" "]
            )
            mutated[start : start + rng.randint(0, 2)] = new
        (tmp_path / name).write_bytes(mutated)
        try:
            kinds.count(str(tmp_path / name))
        except types.InputError as problem:
            messages.append(str(problem))
    assert len(messages) > 30
    assert all(len(message.splitlines()) == 1 for message in messages)
