"""Files that are there whole or not at all, and logs that a checkpoint can cut back to where it was."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO

from jaxrec import errors


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stem(name: str) -> str:
    """A name, such as that of a row of a table, as that of a file; a stem is its own."""
    return "".join(c if c.isalnum() or c in ".+_" else "_" for c in name.lower())


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write bytes into that is there whole or not at all: a temporary one beside it, synced, then renamed."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes text in UTF-8, its lines as they are, by `whole`."""
    with whole(path) as file:
        file.write(text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """As `write_text`; a NaN or an infinity is a ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=_plain) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """What `write_json` kept.

    Raises:
        InputError: If the file cannot be read, or is no JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise errors.InputError(f"Expected JSON in {path}, got {error}. Remove it to make it anew.") from None


def read_npz(path: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, Any]:
    """The arrays of an .npz by name; of a list of names those alone.

    Raises:
        InputError: If the file cannot be read, or has not all of them.
    """
    import zipfile
    import zlib

    import numpy as np

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as read:
            return {name: read[name] for name in (read.files if names is None else names)}
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise errors.InputError(f"Expected arrays in {path}, got {error!r}. Remove it to make them anew.") from None


def as_json(value: Any) -> Any:
    """A value as a JSON file gives it back."""
    return json.loads(json.dumps(value, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    """The JSON of what is an array, or a path."""
    return value.tolist() if hasattr(value, "tolist") else str(os.fspath(value))


class Log:
    """A file of one JSON object a line, appended to, flushed at each line.

    A run that goes on from a checkpoint first drops what was written after it, and so ends with the same bytes. Half a
    line at the end, as a full disk or a power failure leaves it, is dropped when the file is opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self._file = io.FileIO(self.path, "ab")  # without a buffer
        if (written := self.path.read_bytes()) and not written.endswith(b"\n"):
            self._file.truncate(written.rfind(b"\n") + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends a line, its keys in the order given, its floats such that they read back the same.

        Raises:
            ValueError: If a number is NaN or infinite.
            InputError: If it cannot be written whole, such as on a full disk.
        """
        data = json.dumps(line, allow_nan=False, default=_plain).encode() + b"\n"
        try:
            written = self._file.write(data)
        except OSError as error:
            raise errors.InputError(f"Could not write to {self.path}: {error.strerror}.") from None
        if written != len(data):
            raise errors.InputError(f"Could not write to {self.path}: {written} of {len(data)} bytes went in.")

    def position(self) -> int:
        """The length in bytes, all of them on the disk: what a checkpoint keeps."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def truncate(self, position: int) -> None:
        """Drops everything after `position`.

        Raises:
            InputError: If the file is shorter than that: lines that a checkpoint counts on are gone.
        """
        if (size := self.position()) < position:
            raise errors.InputError(
                f"Expected at least {position} bytes in {self.path}, as its checkpoint says, found {size}."
            )
        self._file.truncate(position)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
