"""The wire: HTTP on 127.0.0.1, as a server and as the proxy that the official client is pointed at; scripted faults."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.standins.kaggle.world import Knobs, Refused, World

HOSTS = ("localhost", "127.0.0.1", "api.kaggle.com", "")
ANONYMOUS = (
    "IntrospectToken",
    "GetUserSecretByLabelRequest",
    "GenerateAccessToken",
)  # what they show is in their bodies


@dataclass
class Fault:
    """Something that goes wrong with requests of one method.

    Attributes:
        method: such as "SaveKernel", "logs", "download", "upload".
        kind: an HTTP status as text; "drop" (the connection breaks before anything is done); "drop after" (it is done,
            and the answer is
            lost); "html" (a page with status 200); "cut" (half of the answer's body); "corrupt" (a flipped bit in it).
        times: how many requests.
        skip: requests that go well before.
        retry_after: seconds, for the header of that name.
    """

    method: str
    kind: str
    times: int = 1
    skip: int = 0
    retry_after: float | None = None


@dataclass(frozen=True)
class Redirect:
    """An answer that leads to a signed address."""

    url: str


class Server(ThreadingHTTPServer):
    """Silent about clients that went away, which is half of what the tests do."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Standin:
    """The server; a context manager.

    Args:
        folder: where sessions run.
        knobs: how it behaves.

    Attributes:
        world: what it holds.
        faults: consumed in order; add to it at any time.
        requests: (method, kind of authorization) of all requests so far.
        strays: requests for other hosts. They are refused, and a test should find none.
    """

    def __init__(self, folder: Path, knobs: Knobs | None = None) -> None:
        self.world = World(folder, knobs or Knobs(), lambda: self.url)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.strays: list[str] = []
        self._signed: dict[str, tuple[bytes | Path, float]] = {}
        self._server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"standin": self}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def client_environment(self, home: Path) -> dict[str, str]:
        """Variables that point the unmodified client here; besides these a client should be given PATH only."""
        return {
            "HOME": str(home),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.url,
            "NO_PROXY": "127.0.0.1",
        }

    def sign(self, content: bytes | Path) -> str:
        """A URL that gives this content to anybody, for a while."""
        token = secrets.token_urlsafe(16)
        self._signed[token] = (content, time.monotonic() + self.world.knobs.signed_seconds)
        return f"{self.url}/signed/{token}"

    def signed(self, token: str) -> bytes:
        content, until = self._signed.get(token, (b"", 0.0))
        if time.monotonic() > until:
            raise Refused(403, "ExpiredToken")
        return content.read_bytes() if isinstance(content, Path) else content

    def fault(self, method: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.times:
                if fault.skip:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for session in list(self.world.sessions()):
            session.cancelled.set()
        for session in list(self.world.sessions()):
            session.over.wait(10)
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    standin: Standin
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if not self._ours(parts.hostname or ""):
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        method = parts.path.rsplit("/", 1)[-1]
        self._answer(method, lambda: self._call(method, json.loads(body or b"{}")))

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if not self._ours(parts.hostname or ""):
            return
        if parts.path.startswith("/signed/") and "Authorization" in self.headers:
            self._send(400, b"Only one auth mechanism allowed")
        elif parts.path.startswith("/signed/"):
            self._answer("download", lambda: self.standin.signed(parts.path.removeprefix("/signed/")))
        elif "/kernels/logs/stream/" in parts.path:
            owner, slug = parts.path.split("/")[-2:]
            self._stream(owner, slug, parse_qs(parts.query).get("versionLabel", [""])[0])
        else:
            self._send(404, b"<html>not found</html>", "text/html")

    def do_PUT(self) -> None:
        """A resumable upload."""
        parts = urlsplit(self.path)
        if not self._ours(parts.hostname or ""):
            return
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        blob = self.standin.world.blobs.get(parts.path.removeprefix("/upload/"))
        fault = self.standin.fault("upload")
        if blob is None:
            self._send(404, b"")
            return
        if fault and fault.kind.isdigit():
            blob["data"] += data[: len(data) // 2]  # what had come through when it broke
            self._send(int(fault.kind), b"")
            return
        size, there = blob["size"], len(blob["data"])
        contents = self.headers.get("Content-Range") or f"bytes 0-{len(data) - 1}/{len(data)}"
        if contents != f"bytes */{size}":
            first = contents.removeprefix("bytes ").split("-")[0]
            start = int(first) if first.isdigit() else there + 1
            if start > there or contents != f"bytes {start}-{start + len(data) - 1}/{size}":
                self._send(400, b"")  # a hole, other bytes than were announced, or another size
                return
            blob["data"] += data[there - start :]  # what is there stays, whatever comes for it
        if len(blob["data"]) >= size:
            self._send(200, b"{}")
        else:
            self._send(308, b"", headers={"Range": f"bytes=0-{len(blob['data']) - 1}"} if blob["data"] else {})

    # methods -------------------------------------------------------------------------------------------------------

    def _call(self, method: str, request: dict[str, Any]) -> dict[str, Any] | bytes | Redirect:
        world = self.standin.world
        user = "" if method in ANONYMOUS else self._user()
        simple: dict[str, Callable[[], Any]] = {
            "SaveKernel": lambda: world.push(user, request),
            "GetAcceleratorQuotaStatistics": world.quota,
            "CancelKernelSession": lambda: world.cancel(user, int(request["kernelSessionId"])),
            "DeleteKernel": lambda: world.delete(user, request["userName"], request["kernelSlug"]),
            "CreateDataset": lambda: world.create_dataset(user, request),
            "CreateDatasetVersion": lambda: world.create_version(user, request),
            "GetDatasetStatus": lambda: world.dataset_status(user, request),
            "GetDataset": lambda: world.dataset_about(user, request),
            "GetDatasetMetadata": lambda: {"info": world.dataset_metadata(user, request)},
            "DeleteDataset": lambda: world.delete_dataset(user, request),
            "DownloadDataset": lambda: Redirect(self.standin.sign(world.dataset_file(user, request))),
            "IntrospectToken": lambda: self._introspect(request),
            "GenerateAccessToken": lambda: self._renewed(request),
            "StartBlobUpload": lambda: self._start_upload(request),
            "ListKernelSessionOutput": lambda: self._outputs(user, request),
            "GetKernelSessionStatus": lambda: self._status(user, request),
            "ListDatasetFiles": lambda: {
                "datasetFiles": [
                    {"name": name, "totalBytes": len(data)} for name, data in world.dataset_files(user, request).items()
                ]
            },
            "ListKernels": lambda: {
                "kernels": [
                    {"ref": f"{kernel.owner}/{kernel.slug}", "title": kernel.title, "author": kernel.owner}
                    for kernel in world.kernels.values()
                    if kernel.owner == user
                ]
            },
            "GetUserSecretByLabelRequest": lambda: self._secret(request),
        }
        if method not in simple:
            raise Refused(404, f"The stand-in has no {method}.")
        found: dict[str, Any] | Redirect = simple[method]() or {}
        return found

    def _introspect(self, request: dict[str, Any]) -> dict[str, Any]:
        user = self.standin.world.tokens.get(request.get("token", ""))
        if not user:
            raise Refused(401, "Unauthenticated")
        return {"active": True, "username": user, "userId": 1}

    def _renewed(self, request: dict[str, Any]) -> dict[str, Any]:
        user = self.standin.world.refresh_tokens.get(request.get("refreshToken", ""))
        if not user:
            raise Refused(401, "Unauthenticated")
        token = secrets.token_urlsafe(8)
        self.standin.world.tokens[token] = user
        return {"token": token, "expiresIn": 43200, "userName": user}

    def _start_upload(self, request: dict[str, Any]) -> dict[str, Any]:
        token = self.standin.world.start_blob(request)
        return {"token": token, "createUrl": f"{self.standin.url}/upload/{token}"}

    def _status(self, user: str, request: dict[str, Any]) -> dict[str, Any]:
        session = self.standin.world.session(
            user, request["userName"], request["kernelSlug"], request.get("versionLabel", "")
        )
        return {"status": session.status} | ({"failureMessage": session.failure} if session.failure else {})

    def _outputs(self, user: str, request: dict[str, Any]) -> dict[str, Any]:
        world = self.standin.world
        session = world.session(user, request["userName"], request["kernelSlug"], request.get("versionLabel", ""))
        if session.status in ("QUEUED", "RUNNING"):
            return {}
        size = min(int(request.get("pageSize") or 20), world.knobs.page)
        first = int(request.get("pageToken") or 0)
        names = sorted(session.files)
        page = [
            {"fileName": name, "url": self.standin.sign(session.files[name])} for name in names[first : first + size]
        ]
        more = {"nextPageToken": str(first + size)} if first + size < len(names) else {}
        log = {} if session.alive else {"log": json.dumps(session.log)}
        return {"files": page, **more, **log}

    def _secret(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.headers.get("X-Kaggle-Authorization") != "Bearer session-secret-token":
            raise Refused(401, "Unauthenticated")
        label = request.get("Label", "")
        if label not in self.standin.world.secrets:
            return {"wasSuccessful": False, "errors": ["No user secrets exist for kernel id and label " + label]}
        return {"wasSuccessful": True, "result": {"secret": self.standin.world.secrets[label], "secretType": 0}}

    def _stream(self, owner: str, slug: str, label: str) -> None:
        """Server-sent events from the first line while the session lives; afterwards the stored log."""
        try:
            session = self.standin.world.session(self._user(), owner, slug, label)
        except Refused as refusal:
            self._refuse(refusal)
            return
        self.standin.requests.append(("logs", owner))
        fault = self.standin.fault("logs")
        if fault and fault.kind.isdigit():
            self._refuse(Refused(int(fault.kind), "try again"), fault)
            return
        if not session.alive:
            self._send(200, json.dumps(session.log).encode(), "application/json")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        sent = 0
        while True:
            over = not session.alive
            for entry in session.log[sent:]:
                if fault and fault.kind == "cut" and sent >= 2:
                    return
                self._event(json.dumps(entry))
                sent += 1
            if over:
                with contextlib.suppress(OSError):  # whoever listens may leave at this line
                    self._event("END_OF_LOG")
                    self.wfile.write(b"0\r\n\r\n")
                return
            session.over.wait(0.05)

    def _event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    # plumbing ------------------------------------------------------------------------------------------------------

    def _ours(self, host: str) -> bool:
        if host in HOSTS:
            return True
        self.standin.strays.append(self.path)
        self._send(599, b"the stand-in forwards nothing")
        return False

    def _user(self) -> str:
        world, header = self.standin.world, self.headers.get("Authorization", "")
        kind, _, value = header.partition(" ")
        if kind == "Bearer" and value in world.tokens:
            return world.tokens[value]
        if kind == "Basic":
            user, _, key = base64.b64decode(value).decode().partition(":")
            if world.accounts.get(user) and world.accounts[user] == key:
                return user
        raise Refused(401, "Unauthenticated")

    def _answer(self, method: str, work: Callable[[], dict[str, Any] | bytes | Redirect]) -> None:
        self.standin.requests.append((method, self.headers.get("Authorization", "")[:6]))
        fault = self.standin.fault(method)
        if fault and fault.kind.isdigit():
            self._refuse(Refused(int(fault.kind), "try again later"), fault)
            return
        if fault and fault.kind == "html":
            self._send(200, b"<html><body>Please wait</body></html>", "text/html")
            return
        if fault and fault.kind == "drop":
            self._drop()
            return
        try:
            with self.standin.world.lock:
                found = work()
        except Refused as refusal:
            self._refuse(refusal)
            return
        if fault and fault.kind == "drop after":
            self._drop()
            return
        if isinstance(found, Redirect):
            self._send(302, b"", headers={"Location": found.url})
            return
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        if fault and fault.kind == "corrupt" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        kind = "application/octet-stream" if isinstance(found, bytes) else "application/json"
        self._send(200, data, kind, cut=fault is not None and fault.kind == "cut")

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _refuse(self, refusal: Refused, fault: Fault | None = None) -> None:
        error = {"code": refusal.status, "message": refusal.reason}
        body = error if self.standin.world.knobs.flat_errors else {"error": error}
        headers = {"Retry-After": str(fault.retry_after)} if fault and fault.retry_after is not None else {}
        self._send(refusal.status, json.dumps(body).encode(), "application/json", headers)

    def _send(
        self,
        status: int,
        data: bytes,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
        *,
        cut: bool = False,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._drop()
