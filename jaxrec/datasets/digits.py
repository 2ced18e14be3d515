"""Digits to classify: MNIST, or else Fashion-MNIST, or else scikit-learn's small digits, which need no file.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998,
doi:10.1109/5.726791; Xiao, Rasul and Vollgraf, "Fashion-MNIST", arXiv:1708.07747; Alpaydin and Kaynak, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository (the test set, as scikit-learn has it).
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import numpy as np
import sklearn.datasets

from jaxrec.datasets import idx, stored
from jaxrec.types import InputError

MNIST = "MNIST"
_COUNTS = {  # images of each class to train on: the two sets have the same file names
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949): MNIST,
    (6000,) * 10: "Fashion-MNIST",
}
_FOLDERS = ("", "mnist", "MNIST", "fashion-mnist", "FashionMNIST")
_NUM_TEST = 360  # of scikit-learn's 1,797


class Digits(NamedTuple):
    """Images to train on and to test on, what they are, and where they lie; `path` is None for scikit-learn's."""

    train: idx.LabelledImages
    test: idx.LabelledImages
    name: str
    path: pathlib.Path | None


def load(data_dir: str | os.PathLike[str] | None = None) -> Digits:
    """Loads the digits: from `data_dir` if given, and nothing else; or $JAXREC_DATA; or those of scikit-learn.

    Args:
        data_dir: A folder with train-images-idx3-ubyte and its three sisters, plain, .gz or .xz, or with a folder
            mnist/ or fashion-mnist/ of them. Which of the two they are is told by the labels; others are taken under
            the name of their folder.

    Returns:
        The digits; of scikit-learn's 8 x 8 images the last 360 are for the test.

    Raises:
        InputError: If `data_dir` holds none, or a file of those that are chosen is missing or malformed.
    """
    root = data_dir or os.environ.get("JAXREC_DATA")
    places = [] if not root else [pathlib.Path(root) / folder for folder in _FOLDERS]
    folder = next((place for place in places if stored.find(place, "train-images-idx3-ubyte")), None)
    if folder is not None:
        train, test = _part(folder, "train"), _part(folder, "t10k")
        if train.images.shape[1:] != test.images.shape[1:]:
            raise InputError(f"{folder}: expected test images of {train.images.shape[1:]}, got {test.images.shape[1:]}")
        return Digits(train, test, _name(folder, train.labels), folder)
    if data_dir is not None:
        raise InputError(f"Expected a folder with train-images-idx3-ubyte (also in mnist/), got {data_dir}.")
    return _of_scikit_learn()


def _part(folder: pathlib.Path, part: str) -> idx.LabelledImages:
    """The images and labels to train on, or to test on."""
    files = (stored.need(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    loaded = idx.load(*files)
    if not len(loaded.labels) or loaded.labels.max() > 9:
        got = f"{loaded.labels.max()}" if len(loaded.labels) else "no image"
        raise InputError(f"{folder}: expected images of the classes 0 to 9 in {part}-labels, got {got}")
    return loaded


def _name(folder: pathlib.Path, labels: np.ndarray) -> str:
    """What the images are, by how many there are of each class."""
    return _COUNTS.get(tuple(np.bincount(labels, minlength=10).tolist()), f"images of {folder.resolve().name}")


def _of_scikit_learn() -> Digits:
    """The small digits, from 17 shades of grey to bytes."""
    shades, classes = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    images, labels = np.round(shades * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), classes.astype(np.uint8)
    train, test = (
        idx.LabelledImages(images[part], labels[part]) for part in (slice(-_NUM_TEST), slice(-_NUM_TEST, None))
    )
    return Digits(train, test, "scikit-learn's 8 x 8 digits", None)
