"""IDX files: what the header says is what is read, or the file is refused."""

import gzip

import numpy as np
import pytest

from jaxrec.datasets import idx
from jaxrec.types import InputError

PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 2]) + PIXELS.tobytes()
LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 200])


def write(folder, images=IMAGES, labels=LABELS):
    paths = folder / "images", folder / "labels"
    for path, data in zip(paths, (images, labels), strict=True):
        path.write_bytes(data)
    return paths


def test_images_and_labels_are_read_plain_and_gz(tmp_path):
    paths = write(tmp_path)
    zipped = [path.with_suffix(".gz") for path in paths]
    for path, to in zip(paths, zipped, strict=True):
        to.write_bytes(gzip.compress(path.read_bytes()))
    for images, labels in (paths, zipped):
        loaded = idx.load(images, labels)
        np.testing.assert_array_equal(loaded.images, PIXELS)
        assert loaded.labels.tolist() == [7, 200]
        assert loaded.images.dtype == loaded.labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:-1], LABELS, r"images: expected 28 bytes for the shape \(2, 3, 2\) of its header, got 27"),
        (IMAGES + b"\0", LABELS, "images: expected 28 bytes .* got 29"),
        (IMAGES[:4] + b"\xff" * 12, LABELS, "images: expected 79228162458924105385300197391 bytes"),
        (IMAGES[:9], LABELS, "images: expected a header of 16 bytes, got 9"),
        (b"", LABELS, "images: expected an IDX file .* got nothing"),
        (gzip.compress(IMAGES, mtime=0), LABELS, "images: expected an IDX file .* got 1f 8b 08"),
        (LABELS, LABELS, "images: expected an IDX file of unsigned bytes with 3 axes.* got 00 00 08 01"),
        (b"\0\0\x0d" + IMAGES[3:], LABELS, "images: expected an IDX file of unsigned bytes .* got 00 00 0d 03"),
        (IMAGES, IMAGES, "labels: expected an IDX file of unsigned bytes with 1 axes"),
        (IMAGES, bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]), "labels: expected 2 labels, one an image, got 1"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, images, labels, message):
    with pytest.raises(InputError, match=message):
        idx.load(*write(tmp_path, images, labels))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        idx.load(tmp_path / "nowhere", tmp_path / "nowhere")


def test_mnist(data_dir):
    folder = data_dir / "mnist"
    counts = {"train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], "t10k": None}
    for part, expected in counts.items():
        loaded = idx.load(folder / f"{part}-images-idx3-ubyte.gz", folder / f"{part}-labels-idx1-ubyte.gz")
        assert loaded.images.shape == (60_000 if part == "train" else 10_000, 28, 28)
        if expected:
            assert np.bincount(loaded.labels).tolist() == expected
