"""A git server over HTTP on 127.0.0.1: git's own http-backend behind a handler that wants a token and injects faults.

What it does itself is what git's documentation says of a smart HTTP server (gitprotocol-http): 401 with
WWW-Authenticate for a missing or wrong token. All else is answered by git.
"""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "canary-t0ken"


class Standin(ThreadingHTTPServer):
    """The server of one folder of bare repositories.

    Attributes:
        faults: path's ending and method -> a status to answer with; or "drop" (the connection ends after the request
            was carried out), "cut" (before). Used up one by one.
        requests: method, and path and query, of each.
        users: what each said of its user.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.faults: list[tuple[str, int | str]] = []
        self.requests: list[tuple[str, str]] = []
        self.users: list[str] = []
        self._answering = threading.Semaphore(64)

    def process_request_thread(self, request: object, address: object) -> None:
        with self._answering:
            super().process_request_thread(request, address)  # type: ignore[arg-type]

    def settle(self) -> None:
        """Wait until every request that has come in is answered, whether or not its client still lives."""
        for _ in range(64):
            self._answering.acquire()
        self._answering.release(64)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Standin

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        body = self._body()
        self.server.requests.append((self.command, self.path))
        self.server.users.append(self.headers.get("Authorization", ""))
        wanted = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            self._say(401, {"WWW-Authenticate": 'Basic realm="git"'})
            return
        fault = next((each for each in self.server.faults if each[0] in self.path), None)
        if fault:
            self.server.faults.remove(fault)
        if fault and isinstance(fault[1], int):
            self._say(fault[1], {"Retry-After": "1"})
            return
        if fault and fault[1] == "cut":
            self.connection.close()
            return
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            env={
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.root), "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "x",
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "HOME": str(self.server.root),
            },
        )  # fmt: skip
        if fault:
            self.connection.close()
            return
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self._say(int(headers.pop("Status", "200")[:3]), headers, rest)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _say(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def served(root: Path) -> Iterator[Standin]:
    """Serve a folder while the block runs."""
    server = Standin(root)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
