"""outlast board: who may read, what is sent when something changes, and that nothing is written."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import messages
from tests.report.trained import PNG, train

from outlast.errors import UsageError
from outlast.folder.layout import RunFolder
from outlast.report import board as module
from outlast.report.board import Board, Runs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> RunFolder:
    monkeypatch.setattr(module, "_PAUSE", 0.05)
    monkeypatch.setattr(module, "_BEAT", 0.3)
    folder = train(tmp_path)
    folder.artifacts.mkdir(exist_ok=True)
    (folder.artifacts / "x.png").write_bytes(PNG)
    return folder


@pytest.fixture
def board(folder: RunFolder) -> Iterator[Board]:
    served = Board(folder.path.parent)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    served.stop()
    thread.join()


def ask(board: Board, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", board.port, timeout=10)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def cookie(board: Board) -> str:
    return ask(board, f"/?token={board.token}").headers["Set-Cookie"].partition(";")[0]


def test_the_token_becomes_a_cookie_and_leaves_the_address(board: Board) -> None:
    answer = ask(board, f"/?token={board.token}&runs=r")
    assert (answer.status, answer.headers["Location"]) == (303, "/?runs=r")
    given = answer.headers["Set-Cookie"]
    assert "HttpOnly" in given
    assert "SameSite=Strict" in given
    answer = ask(board, "/?runs=r", Cookie=given.partition(";")[0])
    text = answer.read().decode()
    assert answer.status == 200
    assert board.token not in text
    assert "connect-src &#x27;self&#x27;" in text or "connect-src 'self'" in text
    assert "data:image/png;base64" in text
    assert (answer.headers["X-Frame-Options"], answer.headers["Referrer-Policy"]) == ("DENY", "no-referrer")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Python" not in answer.headers["Server"]


@pytest.mark.parametrize("path", ["/", "/events", "/?token=", "/?token=x", "/nothing", "/?token=%ff"])
def test_without_the_token_nothing_is_read(board: Board, path: str) -> None:
    for headers in ({}, {"Cookie": f"outlast-{board.port}=x"}, {"Cookie": "a=\x7f;;="}):
        answer = ask(board, path, **headers)
        assert answer.status == 403
        messages.said(answer.read().decode(), "report/board-needs-the-token")


def test_a_page_of_another_name_reads_nothing(board: Board) -> None:
    known = cookie(board)
    for host in ("evil.example", "evil.example:80", "127.0.0.1", f"127.0.0.1:{board.port + 1}", ""):
        answer = ask(board, f"/?token={board.token}", Host=host, Cookie=known)
        assert (answer.status, answer.headers["Set-Cookie"]) == (403, None)
    assert ask(board, "/", Host=f"localhost:{board.port}", Cookie=known).status == 200
    assert ask(board, "/none", Cookie=known).status == 404
    assert ask(board, "/", "POST", Cookie=known).status == 501


def test_only_this_machine_is_listened_to_and_the_token_is_compared_whole(board: Board, monkeypatch) -> None:
    assert board.server_address[0] == "127.0.0.1"
    assert len(board.token) >= 32
    compared = []
    real = module.hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    assert ask(board, f"/?token={board.token[:-1]}").status == 403
    assert compared == [(board.token[:-1].encode(), board.token.encode())]
    assert Board(Path("none")).token != board.token


class Events:
    """The events of a page, one JSON at a time."""

    def __init__(self, board: Board, path: str = "/events?runs=r", given: str = "") -> None:
        self.answer = ask(board, path, Cookie=given or cookie(board))
        assert self.answer.headers["Content-Type"] == "text/event-stream"

    def next(self) -> dict:
        while not (line := self.answer.readline()).startswith(b"data:"):
            assert line
        return json.loads(line[5:])

    def beat(self) -> None:
        while not (line := self.answer.readline()).startswith(b":"):
            assert line


def loss_of(news: dict) -> list:
    return news["runs"][0]["curves"][0]["steps"] if news["runs"] else []


def test_only_what_changed_is_sent_and_only_new_lines_are_read(board: Board, folder: RunFolder, monkeypatch) -> None:
    events = Events(board)
    first = events.next()
    assert (first["ids"], first["others"], loss_of(first)) == (["r"], [], list(range(1, 31)))
    read = []
    real = module.Curves.more

    def more(curves, journal):
        before = curves.read_to
        grown = real(curves, journal)
        if grown:
            read.append((before, curves.read_to))
        return grown

    monkeypatch.setattr(module.Curves, "more", more)
    size = folder.journal.stat().st_size
    with folder.journal.open("a") as file:
        file.write('{"step": 31, "loss": 0.5}\n')
    assert loss_of(events.next())[-1] == 31
    assert read == [(size, size + 26)]
    events.beat()
    train(folder.path.parent, "b", total=2)
    news = events.next()
    while not any(run["id"] == "b" and run["status"] == "finished" for run in news["others"]):
        news = events.next()
    assert news["runs"] == []  # of r, nothing changed
    folder.journal.write_text('{"step": 1, "loss": 7.0}\n' * 1 + '{"step": 2, "loss": 3.0}\n' * 60)  # another history
    assert events.next()["runs"][0]["metrics"][0]["highest"]["value"] == 7


def test_a_resume_from_an_earlier_step_replaces_the_curve(folder: RunFolder) -> None:
    runs = Runs(folder.path.parent)
    runs.look()
    assert runs.contents([])["runs"][0]["metrics"][0]["latest"]["step"] == 30
    lines = folder.journal.read_text().splitlines(keepends=True)
    folder.journal.write_text("".join(lines[:10]) + '{"step": 11, "loss": 0.125}\n' * 40)
    time.sleep(0.06)
    runs.look()
    (run,) = runs.contents(["r"])["runs"]
    assert run["metrics"][0]["latest"] == {"step": 11, "value": 0.125}


def test_nothing_is_written_and_a_folder_may_come_later(board: Board, folder: RunFolder, tmp_path: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    known = cookie(board)
    assert ask(board, "/", Cookie=known).status == 200
    Events(board).next()
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    runs = Runs(tmp_path / "later")
    runs.look()
    assert runs.contents([])["runs"] == []


def test_too_many_connections_are_refused(folder: RunFolder, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 2)
    served = Board(folder.path.parent)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        given = cookie(served)
        for _ in range(2):  # both places, once the connection that asked for the cookie has given its own back
            assert served.room.acquire(timeout=5)
        served.room.release(2)
        kept = [Events(served, given=given) for _ in range(2)]
        for each in kept:
            each.next()
        assert ask(served, "/", Cookie="x").status == 503
    finally:
        served.stop()
        thread.join()


def test_a_request_that_never_ends_is_ended(board: Board, monkeypatch) -> None:
    monkeypatch.setattr(module._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", board.port), timeout=5) as connection:
        connection.sendall(b"GET / HT")
        assert connection.recv(100) == b""


def test_the_verb_prints_an_address_and_ends_with_ctrl_c(folder: RunFolder) -> None:
    words = [sys.executable, "-m", "outlast", "board", "--root", str(folder.path.parent)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = process.stdout.readline().split()[1]
    host, _, rest = address.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request("GET", f"/{rest}")
    assert connection.getresponse().status == 303
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")  # the address, and the token in it, is not logged
    messages.said(out.strip(), "report/board-stopped")


def test_a_port_that_is_taken(board: Board) -> None:
    with messages.raises(UsageError, "report/board-port-is-taken", port=board.port):
        Board(Path("runs"), board.port)
