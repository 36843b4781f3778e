"""Broken downloads continue where they stopped, and a server is not believed about what it continues."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import outlast
from outlast_recipes.common import partial
from outlast_recipes.common.downloading import TRIES, File, download
from tests import messages

OLD = random.Random(1).randbytes(1_000_000)
NEW = random.Random(2).randbytes(1_000_000)
CUT = 300_000


class Server(ThreadingHTTPServer):
    """Serves `content` with a strong ETag and ranges, as a server should, but for what `wrong` changes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = OLD
        self.cuts = [10**9]  # bytes after which each reply is cut off; the last one goes on
        self.asked: list[tuple[str | None, str | None]] = []  # Range and If-Range
        self.wrong: Callable[[Handler], bool] = lambda _: False
        self.mark: Callable[[bytes], dict[str, str]] = lambda content: {
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        }

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/d"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked.append((self.headers["Range"], self.headers["If-Range"]))
        if server.wrong(self):
            return
        content, marks = server.content, server.mark(server.content)
        first = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if first and self.headers["If-Range"] in marks.values():
            start = int(first[1])
            if start >= len(content):
                self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            marks["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.reply(206, content[start:], marks)
        else:
            self.reply(200, content, marks)

    def reply(self, status: int, content: bytes, headers: dict[str, str], length: int | None = None) -> None:
        cuts = self.server.cuts
        cut = cuts.pop(0) if len(cuts) > 1 else cuts[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, content: bytes = OLD, *, size: bool = True, **more: int) -> list[float]:
    """Fetch the file; returns the pauses."""
    pauses: list[float] = []
    file = File("f.bin", len(content) if size else None, hashlib.sha256(content).hexdigest())
    assert download(server.address, [file], folder, lambda *_: None, pause=pauses.append, **more) == 1
    assert (folder / "f.bin").read_bytes() == content
    assert [path.name for path in folder.iterdir()] == ["f.bin"]
    return pauses


def break_off(server: Server, folder: Path, *, size: bool = True) -> None:
    """A command that gets the first 300,000 bytes and no more."""
    before, server.wrong = server.wrong, lambda handler: server.asked[1:] != [] and not handler.reply(503, b"", {})
    server.cuts = [CUT, 10**9]
    with pytest.raises(outlast.DataError, match="what came of this one is continued"):
        fetch(server, folder, size=size)
    server.wrong, server.asked = before, []
    server.cuts = [10**9]
    assert sum(path.stat().st_size for path in folder.glob(".incoming-????????????????")) == CUT


@pytest.mark.parametrize("size", [True, False])
def test_cut_after_cut_it_goes_on_where_it_was(server: Server, tmp_path: Path, size: bool) -> None:
    server.cuts = [CUT, CUT, CUT, 10**9]
    assert fetch(server, tmp_path, size=size) == [1.0, 1.0, 1.0], "a try that brings something is not counted"
    mark = server.mark(OLD)["ETag"]
    assert server.asked == [(None, None), *((f"bytes={n * CUT}-", mark) for n in (1, 2, 3))]


def test_the_next_command_continues(server: Server, tmp_path: Path) -> None:
    break_off(server, tmp_path)
    assert fetch(server, tmp_path) == []
    assert server.asked == [(f"bytes={CUT}-", server.mark(OLD)["ETag"])]


def test_names_of_headers_may_have_small_letters(server: Server, tmp_path: Path) -> None:
    server.mark = lambda _: {"etag": '"one"'}
    break_off(server, tmp_path)
    fetch(server, tmp_path)
    assert server.asked == [(f"bytes={CUT}-", '"one"')]


def test_a_file_that_has_changed_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    break_off(server, tmp_path)
    (tmp_path / f".incoming-{hashlib.sha256(NEW).hexdigest()[:16]}").write_bytes(OLD[:CUT])
    (tmp_path / f".incoming-{hashlib.sha256(NEW).hexdigest()[:16]}.json").write_text(
        json.dumps({"url": f"{server.address}/f.bin", "mark": server.mark(OLD)["ETag"]})
    )
    for path in tmp_path.glob(f".incoming-{hashlib.sha256(OLD).hexdigest()[:16]}*"):
        path.unlink()
    server.content = NEW
    fetch(server, tmp_path, NEW)
    assert server.asked == [(f"bytes={CUT}-", server.mark(OLD)["ETag"])], "If-Range made it send all, at once"


def test_pieces_of_different_files_are_noticed_and_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.mark = lambda _: {"ETag": '"always the same"'}
    server.cuts, server.content = [CUT, 10**9], NEW
    changed = lambda _: setattr(server, "content", OLD if len(server.asked) > 1 else NEW)  # noqa: E731
    server.wrong = lambda handler: bool(changed(handler))
    fetch(server, tmp_path)
    assert [asked[0] for asked in server.asked] == [None, f"bytes={CUT}-", None]


def test_pieces_that_never_fit_are_fetched_anew_once(server: Server, tmp_path: Path) -> None:
    server.mark = lambda _: {"ETag": '"always the same"'}
    server.cuts = [CUT, 10**9] * 10
    changed = lambda _: setattr(server, "content", OLD if len(server.asked) % 2 else NEW)  # noqa: E731
    server.wrong = lambda handler: bool(changed(handler))
    with pytest.raises(outlast.DataError, match="has another content"):
        fetch(server, tmp_path)
    assert [asked[0] for asked in server.asked] == [None, f"bytes={CUT}-"] * 2
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_ignores_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    break_off(server, tmp_path)
    server.wrong = lambda handler: not handler.reply(200, OLD, server.mark(OLD))
    fetch(server, tmp_path)


def test_a_server_without_marks_is_not_asked_for_a_range(server: Server, tmp_path: Path) -> None:
    server.mark = lambda _: {"ETag": 'W/"weak"'}
    break_off(server, tmp_path)
    fetch(server, tmp_path)
    assert server.asked == [(None, None)]


def test_another_range_than_the_one_asked_for_is_not_taken(server: Server, tmp_path: Path) -> None:
    break_off(server, tmp_path)
    server.wrong = lambda handler: (
        len(server.asked) == 1 and not handler.reply(206, OLD[5:], {"Content-Range": "bytes 5-999999/1000000"})
    )
    assert fetch(server, tmp_path) == [2.0]
    assert server.asked[1] == (None, None)


@pytest.mark.parametrize("words", ["", "bytes */*", "bytes 300000-", "items 300000-999999/1000000", "bytes x-y/z"])
def test_a_range_without_a_place_is_not_taken(server: Server, tmp_path: Path, words: str) -> None:
    break_off(server, tmp_path)
    server.wrong = lambda handler: (
        len(server.asked) == 1 and not handler.reply(206, OLD[CUT:], {"Content-Range": words})
    )
    fetch(server, tmp_path)


@pytest.mark.parametrize("size", [True, False])
@pytest.mark.parametrize("length", [10, 2_000_000])
def test_a_length_that_is_a_lie_does_no_harm(server: Server, tmp_path: Path, length: int, size: bool) -> None:
    server.wrong = lambda handler: (
        len(server.asked) == 1 and not handler.reply(200, OLD, server.mark(OLD), length=length)
    )
    if length == 10 and not size:  # nothing says that there is more, but for the hash
        with messages.raises(
            outlast.DataError, "download/other-content-unsized", found=hashlib.sha256(OLD[:10]).hexdigest()[:12]
        ):
            fetch(server, tmp_path, size=size)
        return
    fetch(server, tmp_path, size=size)


def test_a_part_that_is_already_whole_needs_no_more(server: Server, tmp_path: Path) -> None:
    server.wrong = lambda handler: (
        len(server.asked) == 1 and not handler.reply(200, OLD, server.mark(OLD), length=1_500_000)
    )
    fetch(server, tmp_path, size=False)
    assert server.asked[1][0] == "bytes=1000000-"


def test_a_server_that_only_cuts_is_given_up(server: Server, tmp_path: Path) -> None:
    server.wrong = lambda handler: not handler.reply(200, OLD[:1000], {}, length=len(OLD))
    with pytest.raises(outlast.DataError, match=f"not received in {TRIES} tries"):
        fetch(server, tmp_path)


def test_more_than_is_allowed_is_not_kept(server: Server, tmp_path: Path) -> None:
    with messages.raises(outlast.DataError, "download/more-than-most", most="500,000"):
        fetch(server, tmp_path, size=False, most=500_000)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    break_off(server, tmp_path)
    (facts,) = tmp_path.glob(".incoming-*.json")
    facts.write_text(json.dumps({"url": "http://127.0.0.1:1/d/f.bin", "mark": server.mark(OLD)["ETag"]}))
    fetch(server, tmp_path)
    assert server.asked == [(None, None)]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"url": 1, "mark": 2}'])
def test_damaged_facts_are_ignored(server: Server, tmp_path: Path, text: str) -> None:
    break_off(server, tmp_path)
    (facts,) = tmp_path.glob(".incoming-*.json")
    facts.write_text(text)
    fetch(server, tmp_path)


def test_a_damaged_part_is_noticed(server: Server, tmp_path: Path) -> None:
    break_off(server, tmp_path)
    (part,) = tmp_path.glob(".incoming-????????????????")
    part.write_bytes(NEW[:CUT])
    fetch(server, tmp_path)
    assert [asked[0] for asked in server.asked] == [f"bytes={CUT}-", None]


def test_links_in_place_of_a_part_are_not_followed(server: Server, tmp_path: Path) -> None:
    folder, outside = tmp_path / "d", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(b"mine")
    name = f".incoming-{hashlib.sha256(OLD).hexdigest()[:16]}"
    for each in (name, f"{name}.json"):
        (folder / each).symlink_to(outside)
    fetch(server, folder)
    assert outside.read_bytes() == b"mine"


def test_a_link_that_is_put_there_at_the_last_moment_is_not_followed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, outside, real = tmp_path / "d", tmp_path / "outside", os.open
    outside.write_bytes(b"mine")

    def opened(path: Any, *words: Any) -> int:
        if Path(path).name.startswith(".incoming-"):
            Path(path).symlink_to(outside)
        return real(path, *words)

    monkeypatch.setattr(partial.os, "open", opened)
    with pytest.raises(outlast.DataError, match=r"f\.bin cannot be written"):
        fetch(server, folder)
    assert outside.read_bytes() == b"mine"
    assert server.asked == []


def test_two_commands_at_once_do_not_mix(server: Server, tmp_path: Path) -> None:
    import fcntl

    place = tmp_path / f".incoming-{hashlib.sha256(OLD).hexdigest()[:16]}"
    with place.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with messages.raises(outlast.DataError, "download/another-process"):
            fetch(server, tmp_path)
    fetch(server, tmp_path)


class Full:
    """A file on a disk without room."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, _: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_is_told_and_not_tried_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdopen
    monkeypatch.setattr(partial.os, "fdopen", lambda *words: Full(real(*words)))
    with pytest.raises(outlast.DataError, match="No space left on device"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []
