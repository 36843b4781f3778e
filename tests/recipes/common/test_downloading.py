"""Downloads from a server on this machine: hashes, what is refused, and what stays."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import outlast
from outlast_recipes.common.downloading import TRIES, File, download
from tests import messages

CONTENTS = {"Some Folder/a.txt": b"one", "b.dot": b"two" * 1000}
FILES = [File(path, len(content), hashlib.sha256(content).hexdigest()) for path, content in CONTENTS.items()]


class Server(ThreadingHTTPServer):
    """Serves `CONTENTS` below /data/, but for what `replies` does for a path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.replies: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = urllib.parse.unquote(self.path).removeprefix("/data/")
        self.server.asked.append(path)
        self.server.replies.get(path, lambda self: send(self, CONTENTS[path]))(self)

    def log_message(self, *_: object) -> None:
        pass


def send(
    handler: BaseHTTPRequestHandler, content: bytes = b"", status: int = 200, length: int | None = None, **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: Server, folder: Path) -> tuple[int, list[tuple[int, int]], list[float]]:
    """Files fetched, progress, and pauses."""
    told: list[tuple[int, int]] = []
    pauses: list[float] = []
    number = download(server.address, FILES, folder, lambda *each: told.append(each), pause=pauses.append)
    return number, told, pauses


def left(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_files_are_fetched_once_with_progress(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path / "new") == (2, [(3, 3003), (3003, 3003)], [])
    assert left(tmp_path / "new") == CONTENTS
    assert get(server, tmp_path / "new")[0] == 0
    assert server.asked == list(CONTENTS)


def test_what_is_there_with_another_content_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "b.dot").write_bytes(b"my" * 1500)
    with messages.raises(outlast.DataError, "download/other-file", file="b.dot", size=3000, hash=FILES[1].sha256[:12]):
        get(server, tmp_path)
    assert left(tmp_path)["b.dot"] == b"my" * 1500
    assert server.asked == ["Some Folder/a.txt"]


@pytest.mark.parametrize("content", [b"not", b"one and more", b"onE"])
def test_another_content_is_not_kept(server: Server, tmp_path: Path, content: bytes) -> None:
    server.replies["Some Folder/a.txt"] = lambda handler: send(handler, content)
    size = "3" if len(content) == 3 else "more than 3"
    found = hashlib.sha256(content[:4]).hexdigest()[:12]
    with messages.raises(
        outlast.DataError, "download/other-content", size=size, found=found, expected=FILES[0].sha256[:12]
    ):
        get(server, tmp_path)
    assert left(tmp_path) == {}
    assert server.asked == ["Some Folder/a.txt"], "it is not asked for again"


def test_an_outage_is_tried_again(server: Server, tmp_path: Path) -> None:
    def unavailable(handler: BaseHTTPRequestHandler) -> None:
        server.replies["b.dot"] = broken
        send(handler, status=503)

    def broken(handler: BaseHTTPRequestHandler) -> None:
        del server.replies["b.dot"]
        send(handler, CONTENTS["b.dot"][:100], length=3000)
        handler.close_connection = True

    server.replies["b.dot"] = unavailable
    assert get(server, tmp_path)[2] == [2.0, 4.0]
    assert left(tmp_path) == CONTENTS
    assert server.asked.count("b.dot") == 3


def test_a_server_that_stays_away_is_told(server: Server, tmp_path: Path) -> None:
    server.replies["b.dot"] = lambda handler: send(handler, status=503)
    with messages.raises(outlast.DataError, "download/not-received", file="b.dot", tries=TRIES, status=503):
        get(server, tmp_path)
    assert left(tmp_path) == {"Some Folder/a.txt": b"one"}, "what came whole stays"


def test_a_refusal_is_told_at_once(server: Server, tmp_path: Path) -> None:
    server.replies["b.dot"] = lambda handler: send(handler, status=404)
    with messages.raises(outlast.DataError, "download/refused", file="b.dot", status=404):
        get(server, tmp_path)
    assert server.asked.count("b.dot") == 1


def test_what_a_server_says_is_one_line_and_short(server: Server, tmp_path: Path) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 404 No" + b"\tfile" * 1000 + b"\r\n\r\n")

    server.replies["b.dot"] = reply
    with pytest.raises(outlast.DataError, match="404 No file file") as found:
        get(server, tmp_path)
    assert "\t" not in str(found.value)
    assert len(str(found.value)) < 500


def test_a_link_is_not_written_through(server: Server, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/b.dot").symlink_to(elsewhere)
    with messages.raises(outlast.DataError, "download/no-file", size=3000, hash=FILES[1].sha256[:12]):
        get(server, tmp_path / "data")
    assert not elsewhere.exists()


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with messages.raises(outlast.DataError, "download/not-written"):
        download(server.address, FILES[1:], tmp_path / "file/data", lambda *_: None)


def test_a_disk_without_room_for_it_is_told_before_anything_is_asked(server: Server, tmp_path: Path) -> None:
    large = File("b.dot", 10**18, FILES[1].sha256)
    with messages.raises(outlast.DataError, "download/no-room", size=10**18):
        download(server.address, [large], tmp_path / "new", lambda *_: None)
    assert server.asked == []
    assert left(tmp_path) == {}


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/data",
        "https://",
        "https://user:secret@example.org/data",
        "http://127.0.0.1@example.org/",
        "file:///etc",
        "ftp://127.0.0.1/data",
        "https://example.org/data?key=1",
        "http://127.0.0.1:port/",
        "http://[::1",
        f"https://{'a' * 64}.org/data",
        "https://a..org/data",
    ],
)
def test_other_addresses_are_refused(tmp_path: Path, address: str) -> None:
    with messages.raises(outlast.DataError, "download/address", shown=repr(address.rpartition("@")[2])) as caught:
        download(address, FILES, tmp_path, lambda *_: None)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["../a", "/a", "a/../../b", ""])
def test_paths_stay_in_the_folder(server: Server, tmp_path: Path, path: str) -> None:
    with messages.raises(outlast.DataError, "download/path-leaves", path=repr(path)):
        download(server.address, [File(path, 1, "0" * 64)], tmp_path, lambda *_: None)
    assert server.asked == []
