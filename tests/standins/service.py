"""An HTTP service of a stand-in: a process of its own on 127.0.0.1, whose requests can be made to fail.

    url = service.running("s3")                                  one for the test session, started when it is asked for
    service.fail(url, Fault("status", method="PUT", status=503)) the next PUT is answered with 503 and does nothing

A stand-in is a module `tests.standins.NAME.app` with a function `app(url) -> Callable[[Request], Reply]`. It sees whole
requests only: what breaks off on its way is discarded, as services do.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import http.server
import importlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

CONTROL = "/.faults"


@dataclasses.dataclass
class Request:
    """A request; names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    cut: bool = False
    """The body is a part of what was announced, and nobody waits for an answer."""


@dataclasses.dataclass
class Reply:
    status: int
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""


@dataclasses.dataclass
class Fault:
    """What goes wrong with the next request of a method whose path and query contain a text.

    Kinds: "status" (nothing is done and the status is the answer), "status after" (it is done, and the status is the
    answer all the same), "reset" (nothing is done, no answer), "cut" (half of the body arrives, no answer), "lost" (it
    is done, no answer), "truncated" (half of the answer's body), "slow" (the answer's body comes after some seconds),
    "without" (headers are ignored, always).
    """

    kind: str
    method: str = ""
    contains: str = ""
    status: int = 503
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: str = ""
    seconds: float = 0.0
    times: int = 1
    after: int = 0
    """Requests of this kind that go well before."""


@functools.cache
def running(name: str) -> str:
    """The URL of a stand-in, which ends with this process."""
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.standins.service", name],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
    )
    atexit.register(process.kill)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("http://127.0.0.1:"), f"the stand-in {name} did not start"
    return line


def fail(url: str, *faults: Fault) -> None:
    """Let requests go wrong from now on; those that were told before are forgotten."""
    _ask(url, [dataclasses.asdict(fault) for fault in faults])


def requests(url: str) -> list[str]:
    """`METHOD path?query content-range` of the requests since the last `fail`."""
    return _ask(url, None)["requests"]


def unused(url: str) -> int:
    """How many faults have not happened yet."""
    return _ask(url, None)["left"]


def _ask(url: str, body: Any) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + CONTROL, data), timeout=20) as reply:
        return json.load(reply)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    app: Callable[[Request], Reply]
    faults: ClassVar[list[Fault]] = []
    seen: ClassVar[list[str]] = []
    lock = threading.Lock()

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self._body()
        if body is None:
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        request = Request(self.command, path, query, {k.lower(): v for k, v in self.headers.items()}, body)
        if path == CONTROL:
            self._send(self._control(request))
            return
        fault = self._fault(request)
        kind = fault.kind if fault else ""
        if kind == "cut":
            request = dataclasses.replace(request, body=body[: len(body) // 2], cut=True)
        reply = Reply(0) if kind in ("status", "reset") else type(self).app(request)
        if fault and kind.startswith("status"):
            reply = Reply(fault.status, dict(fault.headers), fault.body.encode())
        if kind in ("reset", "cut", "lost"):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(reply, half=kind == "truncated", pause=fault.seconds if fault and kind == "slow" else 0.0)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815

    def _body(self) -> bytes | None:
        """The whole body, or None when it broke off."""
        try:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                return body if len(body) == length else None
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body
        except (OSError, ValueError):
            return None

    def _control(self, request: Request) -> Reply:
        cls = type(self)
        with cls.lock:
            if request.method == "POST":
                cls.faults[:] = [Fault(**each) for each in json.loads(request.body)]
                cls.seen.clear()
            told = {"requests": cls.seen, "left": sum(each.times for each in cls.faults)}
            return Reply(200, {}, json.dumps(told).encode())

    def _fault(self, request: Request) -> Fault | None:
        cls, line = type(self), f"{request.path}?{request.query}"
        with cls.lock:
            cls.seen.append(f"{request.method} {line} {request.headers.get('content-range', '')}".rstrip())
            for fault in cls.faults:
                if fault.method not in ("", request.method) or fault.contains not in line or not fault.times:
                    continue
                if fault.kind == "without":
                    for each in fault.headers:
                        request.headers.pop(each, None)
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def _send(self, reply: Reply, *, half: bool = False, pause: float = 0.0) -> None:
        body = b"" if self.command == "HEAD" else reply.body
        with contextlib.suppress(OSError):
            self.send_response(reply.status)
            headers = {name: value for name, value in reply.headers.items() if name.lower() != "content-length"}
            length = reply.headers.get("Content-Length", len(reply.body))
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.flush()
            time.sleep(pause)
            self.wfile.write(body[: len(body) // 2] if half else body)
            self.wfile.flush()
        if half:
            self.close_connection = True


def main(name: str) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    url = f"http://127.0.0.1:{server.server_port}"
    Handler.app = staticmethod(importlib.import_module(f"tests.standins.{name}.app").app(url))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(url + "\n")
    sys.stdout.flush()
    sys.stdin.read()  # until the test process ends


if __name__ == "__main__":
    main(sys.argv[1])
