"""Downloads: whole and right, or not there at all. The server is our own, on the loopback."""

import hashlib
import http.server
import threading
import time

import pytest

from jaxrec.datasets import download
from jaxrec.types import InputError

CONTENT = bytes(range(256)) * 1000
CHECKSUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: /whole, /unsized (no length), /cut (half of it), /silent (nothing), or 404."""

    def do_GET(self):
        if self.path == "/silent":
            self.server.released.wait(20)
            return
        if self.path not in ("/whole", "/unsized", "/cut"):
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        half = len(CONTENT) // 2
        self.wfile.write(CONTENT[:half])
        self.wfile.flush()
        self.server.halfway()
        if self.path != "/cut":
            self.wfile.write(CONTENT[half:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.released = threading.Event()
        server.halfway = lambda: None
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join(10)


def test_a_download_has_its_name_only_when_it_is_whole(server, tmp_path):
    path = tmp_path / "new" / "data.bin"
    seen = []

    def look():
        deadline = time.monotonic() + 10
        while not (path.parent.exists() and any(path.parent.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.extend(file.name for file in path.parent.iterdir())

    server.halfway = look
    download.fetch(f"{server.url}/whole", path, checksum=CHECKSUM)
    assert path.read_bytes() == CONTENT
    assert [name.startswith("data.bin.") and name.endswith(".part") for name in seen] == [True]
    assert list(path.parent.iterdir()) == [path]


def test_a_server_that_tells_no_length_is_fine(server, tmp_path, capfd):
    download.fetch(f"{server.url}/unsized", tmp_path / "data.bin", checksum=CHECKSUM)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "unsized" in printed.err  # the progress bar


def test_a_failed_download_leaves_what_was_there(server, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"old")
    half = len(CONTENT) // 2
    wrong = "md5:" + "0" * 32
    for name, checksum, message in (
        ("whole", wrong, f"data.bin from .*/whole: expected md5 0{{32}}, got {hashlib.md5(CONTENT).hexdigest()}"),
        ("cut", CHECKSUM, f"/cut: .* the connection was cut after {half} of {len(CONTENT)} bytes"),
        ("other", CHECKSUM, "/other: expected to download it .* Not Found"),
    ):
        with pytest.raises(InputError, match=message):
            download.fetch(f"{server.url}/{name}", path, checksum=checksum)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_a_server_that_does_not_answer_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"/silent: .* no answer within 0.2 s"):
        download.fetch(f"{server.url}/silent", tmp_path / "data.bin", checksum=CHECKSUM)
    assert time.monotonic() - began < 5
    assert not list(tmp_path.iterdir())


def test_a_closed_port_and_a_folder_that_cannot_be_are_one_message(server, tmp_path):
    closed = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    closed.server_close()
    with pytest.raises(InputError, match="Connection refused"):
        download.fetch(f"http://127.0.0.1:{closed.server_port}/whole", tmp_path / "data.bin", checksum=CHECKSUM)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"File exists|Not a directory"):
        download.fetch(f"{server.url}/whole", tmp_path / "file" / "data.bin", checksum=CHECKSUM)
