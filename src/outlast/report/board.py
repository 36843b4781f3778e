"""The report of all runs of a folder, live in a browser on this machine. Nothing is written.

It listens on 127.0.0.1 only. A request needs the token of the address that was printed, and the name of this machine in
its Host header, so that no other web page and no other user can read it. The token comes once, becomes a cookie that
scripts cannot read, and is never logged.
"""

from __future__ import annotations

import hmac
import http.cookies
import http.server
import secrets
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.errors import OutlastError, UsageError
from outlast.folder.layout import RunFolder
from outlast.report import page
from outlast.report.pictures import inlined, pictures_in
from outlast.report.runs import RunInfo
from outlast.report.summary import differing, ranges_for, row, summary
from outlast.report.thinning import Curves
from outlast.report.watch import Watch

MOST_CONNECTIONS = 32
"""Requests at a time; further ones are refused."""

_PAUSE, _BEAT = 1.0, 15.0  # seconds between two looks at the folder, and between two signs of life
_KEPT = 4 * page.MOST_RUNS  # runs whose curves are kept
_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Runs:
    """What pages show of the runs of a folder; used by several threads."""

    def __init__(self, root: Path) -> None:
        self._watch = Watch(root)
        self._curves: dict[str, Curves] = {}
        self._lock = threading.Lock()
        self._looked = -_PAUSE

    def look(self) -> None:
        """Read what changed in the folder; at most once per pause, however many pages are open."""
        with self._lock:
            if time.monotonic() - self._looked >= _PAUSE:
                self._watch.look()
                self._looked = time.monotonic()

    def chosen(self, names: Sequence[str]) -> tuple[list[RunInfo], list[RunInfo]]:
        """The runs that a page shows in full (all named ones, or those that trained last), and the others."""
        with self._lock:
            infos = [self._watch.runs[name].info for name in sorted(self._watch.runs)]
        if not names:
            return page.in_full(infos)
        wanted = set(names[: page.MOST_RUNS])
        return [info for info in infos if info.id in wanted], [info for info in infos if info.id not in wanted]

    def contents(self, names: Sequence[str]) -> dict[str, Any]:
        """What a page shows now, without pictures."""
        infos, others = self.chosen(names)
        with self._lock:
            curves = [self._read(info) for info in infos]
            ranges = ranges_for(curves)
            runs = [summary(info, each, ranges=ranges) for info, each in zip(infos, curves, strict=True)]
        return {
            "title": ", ".join(names[:4]) if names else "all runs",
            "runs": runs,
            "others": [row(info) for info in others],
            "differs": differing(runs) if len(runs) > 1 else [],
            "left_out": page.left_out(self.left_out()),
        }

    def left_out(self) -> list[str]:
        """A sentence about each run of the folder that cannot be read."""
        with self._lock:
            return [self._watch.left_out[name] for name in sorted(self._watch.left_out)]

    def _read(self, info: RunInfo) -> Curves:
        """The curves of a run; only lines that were added are read. After a resume from before them, all are."""
        journal = RunFolder(info.folder).journal
        found = self._curves.pop(info.id, None)
        if found is None or found.renamed != info.renamed or not found.continues(journal):
            found = Curves(info.renamed)
        found.more(journal)
        self._curves[info.id] = found  # the last one is the newest
        while len(self._curves) > _KEPT:
            del self._curves[next(iter(self._curves))]
        return found


class Board(http.server.ThreadingHTTPServer):
    """The server; `serve_forever` serves, `address` is what a user opens.

    Args:
        root: the folder of run folders.
        port: the port; 0: any free one.

    Raises:
        UsageError: the port is not free.
    """

    daemon_threads = True

    def __init__(self, root: Path, port: int = 0) -> None:
        self.runs = Runs(root)
        self.token = secrets.token_urlsafe(24)
        self.ended = threading.Event()
        self.room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UsageError(
                f"outlast board cannot listen on port {port} of 127.0.0.1: {error.strerror}. Give another --port, or "
                "none for any free one."
            ) from error

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What a user opens; it holds the token."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def stop(self) -> None:
        """End all connections."""
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error, and a request is never printed."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Board
    protocol_version = "HTTP/1.1"
    timeout = 20.0
    server_version, sys_version = "outlast", ""

    def do_GET(self) -> None:
        """Answer a request for the page or for its events."""
        if not self.server.room.acquire(blocking=False):
            self._answer(503, "Too many connections. Close some pages.")
            return
        try:
            self._get()
        except OutlastError as error:
            self._answer(500, str(error))
        except (BrokenPipeError, ConnectionError, TimeoutError):
            self.close_connection = True
        finally:
            self.server.room.release()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in http.server
        """A request is not logged: its address may hold the token."""

    def _get(self) -> None:
        path, _, query = self.path.partition("?")
        asked = urllib.parse.parse_qs(query, max_num_fields=10) if len(query) < 20_000 else {}
        if self.headers.get("Host") not in (f"127.0.0.1:{self.server.port}", f"localhost:{self.server.port}"):
            self._answer(403, "This server answers only to 127.0.0.1.")
        elif path == "/" and "token" in asked and self._is_token(asked["token"][0]):
            rest = urllib.parse.urlencode({"runs": asked["runs"][0]}) if "runs" in asked else ""
            cookie = f"{self._cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            self._answer(303, "", {"Location": f"/?{rest}" if rest else "/", "Set-Cookie": cookie})
        elif not self._is_known():
            self._answer(403, "Open the address that `outlast board` printed; it holds a token.")
        elif path == "/":
            self._page(_names(asked))
        elif path == "/events":
            self._events(_names(asked))
        else:
            self._answer(404, "There is no such page.")

    @property
    def _cookie(self) -> str:
        return f"outlast-{self.server.port}"  # cookies are shared by all ports of a machine

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode())

    def _is_known(self) -> bool:
        try:
            found = http.cookies.SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie)
        except http.cookies.CookieError:
            return False
        return found is not None and self._is_token(found.value)

    def _page(self, names: Sequence[str]) -> None:
        self.server.runs.look()
        found = self.server.runs.contents(names)
        room = page.LARGEST
        infos, _ = self.server.runs.chosen(names)
        folders = {info.id: info.folder for info in infos}
        for run in found["runs"]:
            pictures = pictures_in(RunFolder(folders[run["id"]]).artifacts) if run["id"] in folders else []
            run["pictures"], run["pictures_left_out"] = inlined(pictures, room)
            room -= sum(len(picture["uri"]) for picture in run["pictures"])
        query = urllib.parse.urlencode({"runs": ",".join(names)}) if names else ""
        found |= {"made": "", "live": f"/events?{query}"}
        text = page.document(found, policy="; connect-src 'self'")
        self._answer(200, text, {"Content-Type": "text/html; charset=utf-8"})

    def _events(self, names: Sequence[str]) -> None:
        """Server-sent events: what changed, when it changes, until the browser or the board goes."""
        self.send_response(200)
        for name, value in (_HEADERS | {"Content-Type": "text/event-stream"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for text in self._changes(names):
            self.wfile.write(text.encode())
            self.wfile.flush()

    def _changes(self, names: Sequence[str]) -> Iterator[str]:
        sent: dict[str, str] = {}
        rest, told = "", time.monotonic()
        yield "retry: 2000\n\n"
        while not self.server.ended.is_set():
            self.server.runs.look()
            found = self.server.runs.contents(names)
            texts = {run["id"]: page.as_data(run) for run in found["runs"]}
            changed = [text for name, text in texts.items() if sent.get(name) != text]
            rest_of = {name: found[name] for name in ("others", "differs", "left_out")}
            others = page.as_data(rest_of | {"ids": list(texts)})
            if changed or others != rest:
                sent, rest, told = texts, others, time.monotonic()
                yield f'data: {others[:-1]},"runs":[{",".join(changed)}]}}\n\n'
            elif time.monotonic() - told >= _BEAT:
                told = time.monotonic()
                yield ": still here\n\n"
            self.server.ended.wait(_PAUSE)

    def _answer(self, code: int, body: str | bytes, headers: Mapping[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(code)
        plain = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(data))}
        for name, value in (_HEADERS | plain | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True


def _names(asked: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for name in asked.get("runs", [""])[0].split(",") if name][: page.MOST_RUNS]
