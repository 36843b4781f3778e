"""S3: moto, made as strict as the service where it is laxer.

| moto 5.2 | Amazon S3, User Guide and API Reference | what is added |
|---|---|---|
| takes a body with a wrong checksum | "Checking object integrity": BadDigest, 400 | compared before moto sees it |
| takes any access key | "Error responses": InvalidAccessKeyId, 403 | the one key that is known |
| takes a request without a signature | "Error responses": AccessDenied, 403 | refused |
| CopyObject ignores If-Match of the target | "CopyObject": If-Match, 412 | the target's ETag is compared |
| copies ignore x-amz-copy-source-if-match | "CopyObject", "UploadPartCopy": 412 | the source's ETag is compared |
| copies any range as a part | "UploadPartCopy": a range only of a source of more than 5 MB | 400 |
| lists 1000 names a page | "ListObjectsV2": up to 1000, possibly fewer | 7 a page, as a client must follow pages |
| If-None-Match and If-Match not atomic | "Conditional requests": one winner | one request at a time |
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import urllib.parse
import zlib
from collections.abc import Callable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app

from tests.standins.s3.keys import BUCKET, KEY
from tests.standins.service import Reply, Request

CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "content-md5": lambda body: hashlib.md5(body).digest(),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
}


def app(url: str) -> Callable[[Request], Reply]:
    moto_app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def reply(request: Request) -> Reply:
        refused = _refusal(request)
        if refused:
            return refused
        if "list-type=2" in request.query and "max-keys=" not in request.query:
            request.query += "&max-keys=7"
        with lock:
            return _refused_copy(moto_app, url, request) or _through(moto_app, url, request)

    made = _through(moto_app, url, Request("PUT", f"/{BUCKET}", "", {"authorization": _signed()}, b""))
    assert made.status == 200, made
    return reply


def _signed() -> str:
    return f"AWS4-HMAC-SHA256 Credential={KEY}/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def _refusal(request: Request) -> Reply | None:
    signed = request.headers.get("authorization", "")
    if not signed.startswith("AWS4-HMAC-SHA256 "):
        return _error(403, "AccessDenied")
    if f"Credential={KEY}/" not in signed:
        return _error(403, "InvalidAccessKeyId")
    for name, digest in CHECKSUMS.items():
        if name in request.headers and base64.b64decode(request.headers[name]) != digest(request.body):
            return _error(400, "BadDigest")
    return None


def _refused_copy(moto_app: Any, url: str, request: Request) -> Reply | None:
    if "x-amz-copy-source" not in request.headers or request.method != "PUT":
        return None

    def head(path: str) -> dict[str, str]:
        about = {"authorization": request.headers["authorization"]}
        return _through(moto_app, url, Request("HEAD", path, "", about, b"")).headers

    source = head("/" + request.headers["x-amz-copy-source"].lstrip("/"))
    if "x-amz-copy-source-range" in request.headers and int(source.get("Content-Length", 0)) <= 5 * 2**20:
        return _error(400, "InvalidRequest")
    wanted = request.headers.get("x-amz-copy-source-if-match")
    if wanted and source.get("ETag") != wanted:
        return _error(412, "PreconditionFailed")
    wanted = request.headers.get("if-match")
    if wanted and head(request.path).get("ETag") != wanted:
        return _error(412, "PreconditionFailed")
    return None


def _error(status: int, code: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return Reply(status, {"Content-Type": "application/xml"}, body.encode())


def _through(wsgi: Any, url: str, request: Request) -> Reply:
    """One request through moto's WSGI application."""
    host, _, port = url.removeprefix("http://").partition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": urllib.parse.unquote_to_bytes(request.path).decode("latin-1"),
        "RAW_URI": f"{request.path}?{request.query}" if request.query else request.path,
        "REQUEST_URI": f"{request.path}?{request.query}" if request.query else request.path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        if name not in ("content-length", "content-type", "transfer-encoding"):
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    environ.setdefault("HTTP_HOST", f"{host}:{port}")
    status: list[Any] = []

    def start(line: str, headers: list[tuple[str, str]], _: Any = None) -> None:
        status[:] = [int(line.split(maxsplit=1)[0]), dict(headers)]

    body = b"".join(wsgi(environ, start))
    return Reply(status[0], status[1], body)
