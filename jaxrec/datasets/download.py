"""Downloads that are whole or not there: a `.part` file, its checksum, and only then the name it was asked for."""

from __future__ import annotations

import hashlib
import http.client
import os
import pathlib
import queue
import threading
import urllib.error
import urllib.request

import rich.console
import rich.progress

from jaxrec.types import InputError

CONNECT_SECONDS = 5.0  # to find the server and have its answer begin
STALL_SECONDS = 30.0  # without a byte, once it has begun
_CHUNK = 1 << 16


def fetch(url: str, path: str | os.PathLike[str], *, checksum: str) -> None:
    """Downloads a file, with a progress bar on stderr.

    Args:
        url: Where it is.
        path: What it is to be called here; a file of this name is replaced. Until it is whole and right it has another
            name beside this one, which ends in `.part` and goes away on any failure.
        checksum: ALGORITHM:HEX, such as `sha256:...`.

    Raises:
        InputError: If the server cannot be reached, the connection is cut, the checksum is another one, or the file
            cannot be written.
    """
    path = pathlib.Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    algorithm, expected = checksum.split(":")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            got = _save(url, part, hashlib.new(algorithm, usedforsecurity=False))
            if got != expected:
                raise InputError(f"{path.name} from {url}: expected {algorithm} {expected}, got {got}")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as problem:
        reason = getattr(problem, "reason", problem)  # a URLError wraps what went wrong
        raise InputError(f"{url}: expected to download it to {path}, got: {reason}") from problem


def _save(url: str, part: pathlib.Path, digest) -> str:
    """Writes what the server sends and returns its digest."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with (
        _open(url) as response,
        part.open("wb") as file,
        rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as progress,
    ):
        total, received = response.length, 0
        task = progress.add_task(url.rsplit("/", 1)[-1], total=total)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            progress.update(task, completed=received)
    if total is not None and received < total:  # read(size) ends without an error when a connection is cut
        raise OSError(f"the connection was cut after {received} of {total} bytes")
    return digest.hexdigest()


def _open(url: str) -> http.client.HTTPResponse:
    """The server's answer, or an OSError within CONNECT_SECONDS.

    A thread asks, because a socket's timeout holds for each address of a server anew and not for looking up its name.
    """
    answers = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=STALL_SECONDS))
        except urllib.error.HTTPError as problem:
            problem.close()
            answers.put(problem)
        except Exception as problem:
            answers.put(problem)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {CONNECT_SECONDS:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
