"""Where the files of a data set lie, and their bytes: plain, .gz or .xz, in a folder or in a zip archive.

Archives are read and never unpacked; nothing here is written.
"""

from __future__ import annotations

import gzip
import lzma
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Sequence

from jaxrec.datasets import reading
from jaxrec.types import InputError

_DECOMPRESS = {".gz": gzip.decompress, ".xz": lzma.decompress}
_NOT_COMPRESSED = (OSError, EOFError, zlib.error, lzma.LZMAError)
_NOT_AN_ARCHIVE = (*_NOT_COMPRESSED, RuntimeError, zipfile.BadZipFile, struct.error, UnicodeDecodeError)


def content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, decompressed where its name ends in .gz or .xz.

    Raises:
        InputError: If there is no such file, or it cannot be read or decompressed.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise InputError(f"{path}: expected a file that can be read, got: {problem.strerror}") from problem
    decompress = _DECOMPRESS.get(path.suffix.lower())
    if decompress is None:
        return data
    try:
        return decompress(data)
    except _NOT_COMPRESSED as problem:
        raise reading.error(path, f"whole {path.suffix[1:]} data", f"what does not decompress: {problem}") from problem


def open_text(path: str | os.PathLike[str], separator: bytes) -> reading.Text:
    """`reading.text` of a file, plain, .gz or .xz."""
    return reading.text(os.fspath(path), content(path), separator)


def find(folder: str | os.PathLike[str], name: str) -> pathlib.Path | None:
    """The file `name` in `folder`, plain or else with .gz or .xz after its name; None if there is none."""
    candidates = [pathlib.Path(folder) / f"{name}{suffix}" for suffix in ("", *_DECOMPRESS)]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def need(folder: str | os.PathLike[str], name: str) -> pathlib.Path:
    """`find`, for a file that has to be there.

    Raises:
        InputError: If it is not.
    """
    path = find(folder, name)
    if path is None:
        raise InputError(f"{folder}: expected a folder with the file {name} (plain, .gz or .xz), got none in it")
    return path


def stem(path: str | os.PathLike[str]) -> str:
    """The name of a file without its folder and without .gz or .xz: what it would be called if it were plain."""
    name = pathlib.Path(path)
    return name.stem if name.suffix.lower() in _DECOMPRESS else name.name


def members(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, bytes]:
    """The bytes of those files of a zip archive that are called one of `names`, in whatever folder of it.

    Raises:
        InputError: If it is no whole zip archive, if any of its members would be unpacked outside of its folder, or if
            it has one of the files twice.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            for info in archive.infolist():
                name = pathlib.PurePosixPath(info.filename).name
                if name in found:
                    raise reading.error(path, f"one file {name}", "two of them")
                if name in names and not info.is_dir():
                    found[name] = archive.read(info)
    except _NOT_AN_ARCHIVE as problem:
        raise reading.error(path, "a whole zip archive", f"what does not unpack: {problem}") from problem
    return found


def _check_members(path: str | os.PathLike[str], archive: zipfile.ZipFile) -> None:
    """Raises an InputError if a member is a link or would be unpacked outside of the folder, absolute or by `..`."""
    for info in archive.infolist():
        name = info.orig_filename.replace("\\", "/")
        is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if name.startswith("/") or ":" in name or "\0" in name or ".." in name.split("/") or is_link:
            raise reading.error(
                path, "an archive whose members stay in its folder", f"the member {info.orig_filename!r}"
            )
