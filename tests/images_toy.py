"""A folder of IDX files with drawn digits of 4 x 4 pixels: the columns that are bright tell the class."""

import pathlib

import numpy as np


def draw(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [N, 4, 4] of four classes, labels [N]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.uint8) % 4
    images = rng.integers(100, size=(num, 4, 4), dtype=np.uint8)
    images[np.arange(num), :, labels] += 100
    return images, labels


def write(folder: pathlib.Path, *, num_train: int = 40, num_test: int = 12) -> pathlib.Path:
    """The four files of MNIST, with these."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, num, seed in (("train", num_train, 0), ("t10k", num_test, 1)):
        write_part(folder, part, *draw(num, seed))
    return folder


def write_part(folder: pathlib.Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """The two files of a part."""
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
