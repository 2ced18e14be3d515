"""Images and their labels in the IDX format of MNIST (LeCun et al., Proc. IEEE 1998, doi:10.1109/5.726791).

A file is a magic number (two zero bytes, the type of its elements, the number of axes), the length of each axis as a
big-endian uint32, and the elements. Images have three axes, labels one, and both hold unsigned bytes.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from jaxrec.datasets import stored
from jaxrec.types import InputError

_UNSIGNED_BYTE = 0x08


class LabelledImages(NamedTuple):
    """`images` is uint8 [N, height, width], `labels` uint8 [N]."""

    images: np.ndarray
    labels: np.ndarray


def load(images: str | os.PathLike[str], labels: str | os.PathLike[str]) -> LabelledImages:
    """Reads a file of images and the file of their labels, plain, .gz or .xz.

    Raises:
        InputError: If a file is not there, is not of that format, is longer or shorter than its header says, or if
            there are not as many labels as images.
    """
    loaded = LabelledImages(_elements(images, num_axes=3), _elements(labels, num_axes=1))
    if len(loaded.images) != len(loaded.labels):
        raise InputError(f"{labels}: expected {len(loaded.images)} labels, one an image, got {len(loaded.labels)}")
    return loaded


def _elements(path: str | os.PathLike[str], *, num_axes: int) -> np.ndarray:
    """The array in a file."""
    data = stored.content(path)
    magic, start = bytes([0, 0, _UNSIGNED_BYTE, num_axes]), 4 + 4 * num_axes
    if not data.startswith(magic):
        raise InputError(
            f"{path}: expected an IDX file of unsigned bytes with {num_axes} axes, which starts with the bytes "
            f"{magic.hex(' ')} (compressed files are named .gz or .xz), got {data[:4].hex(' ') or 'nothing'}"
        )
    if len(data) < start:
        raise InputError(f"{path}: expected a header of {start} bytes, got {len(data)}")
    shape = tuple(int(length) for length in np.frombuffer(data[4:start], ">u4"))
    expected = start + int(np.prod(shape, dtype=object))  # exact: three large uint32 overflow an int64
    if len(data) != expected:
        raise InputError(f"{path}: expected {expected} bytes for the shape {shape} of its header, got {len(data)}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
