"""Google Cloud Storage: the requests of its JSON API that outlast makes, and the token endpoint of a service account.

README.md here says which page of Google's documentation each request was held against.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import re
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.standins.gcs import ACCOUNT, BUCKET, TOKEN
from tests.standins.service import Reply, Request

AUDIENCES = ["https://oauth2.googleapis.com/token"]
PAGE = 7
QUANTUM = 256 * 1024
CONDITIONS = ("ifGenerationMatch", "ifMetagenerationMatch")


class Refused(Exception):
    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.message = status, reason, message or reason


@dataclass
class Held:
    name: str
    body: bytes
    generation: int
    metageneration: int = 1
    updated: float = field(default_factory=time.time)
    metadata: dict[str, str] = field(default_factory=dict)

    def resource(self) -> dict[str, Any]:
        return {
            "kind": "storage#object",
            "name": self.name,
            "bucket": BUCKET,
            "size": str(len(self.body)),
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "md5Hash": base64.b64encode(hashlib.md5(self.body).digest()).decode(),
            "updated": dt.datetime.fromtimestamp(self.updated, dt.UTC).isoformat().replace("+00:00", "Z"),
            **({"metadata": self.metadata} if self.metadata else {}),
        }


@dataclass
class Upload:
    about: dict[str, Any]
    asked: dict[str, str]
    size: int | None
    body: bytearray = field(default_factory=bytearray)
    made: dict[str, Any] | None = None


class Storage:
    def __init__(self, url: str) -> None:
        self.url, self.lock = url, threading.Lock()
        self.objects: dict[str, Held] = {}
        self.uploads: dict[str, Upload] = {}
        self.keys: list[Any] = []
        self.clock = 1_700_000_000_000_000

    def __call__(self, request: Request) -> Reply:
        with self.lock:
            try:
                return self.reply(request)
            except Refused as error:
                about = {"domain": "global", "reason": error.reason, "message": error.message}
                body = {"error": {"code": error.status, "message": error.message, "errors": [about]}}
                return _json(body, error.status)

    def reply(self, request: Request) -> Reply:
        asked = dict(urllib.parse.parse_qsl(request.query, keep_blank_values=True, strict_parsing=bool(request.query)))
        if request.path == "/token":
            return self.token(request)
        if request.path == "/.key":
            self.keys.append(request.body)
            return Reply(200)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "required", "Login Required")
        upload = re.fullmatch(rf"/upload/storage/v1/b/{BUCKET}/o", request.path)
        if upload and request.method == "POST":
            return self.begin(request, asked)
        if upload and request.method == "PUT":
            if asked.get("upload_id") not in self.uploads:
                raise Refused(404, "notFound", "The upload is not there, or its week is over; begin another one.")
            return self.go_on(request, self.uploads[asked["upload_id"]])
        there = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/([^/]+))?", request.path)
        if there is None:
            raise Refused(400, "invalid", f"the stand-in does not know {request.method} {request.path}")
        if there[1] != BUCKET:
            raise Refused(404, "notFound", "The specified bucket does not exist.")
        if there[2] is None and request.method == "GET":
            return self.list(asked)
        name = urllib.parse.unquote(there[2] or "", errors="strict")
        found = self.objects.get(name)
        if found is None or asked.get("generation", str(found.generation)) != str(found.generation):
            raise Refused(404, "notFound", f"No such object: {BUCKET}/{name}")
        self.check(asked, found)
        if request.method == "GET":
            return self.media(request, found) if asked.get("alt") == "media" else _resource(found, asked)
        if request.method == "PATCH":
            found.metadata |= json.loads(request.body)["metadata"]
            found.metageneration, found.updated = found.metageneration + 1, time.time()
            return _resource(found, asked)
        if request.method == "DELETE":
            del self.objects[name]
            return Reply(204)
        raise Refused(400, "invalid", f"the stand-in does not know {request.method} of an object")

    def token(self, request: Request) -> Reply:
        from google.auth import jwt

        asked = dict(urllib.parse.parse_qsl(request.body.decode()))
        assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer", asked
        for key in self.keys:
            try:
                claims = jwt.decode(asked["assertion"], certs=key, audience=AUDIENCES)
            except ValueError:
                continue
            assert claims["iss"] == ACCOUNT, claims
            assert re.search(r"devstorage\.(read_write|full_control)\b", claims["scope"]), claims
            return _json({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
        return _json({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, 400)

    def check(self, asked: dict[str, str], found: Held | None) -> None:
        """Preconditions."""
        if more := [each for each in asked if each.startswith("if") and each not in CONDITIONS]:
            raise Refused(400, "invalid", f"the stand-in does not know {more[0]}")
        generation = found.generation if found else 0
        if "ifGenerationMatch" in asked and int(asked["ifGenerationMatch"]) != generation:
            raise Refused(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        metageneration = found.metageneration if found else 0
        if "ifMetagenerationMatch" in asked and int(asked["ifMetagenerationMatch"]) != metageneration:
            raise Refused(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")

    def begin(self, request: Request, asked: dict[str, str]) -> Reply:
        kind = request.headers.get("content-type", "")
        if asked.get("uploadType") == "multipart":
            about, body = _related(kind, request.body)
            return _json(self.insert(about, asked, body))
        if asked.get("uploadType") != "resumable" or not kind.startswith("application/json"):
            raise Refused(400, "invalid", "uploadType")
        about = json.loads(request.body)
        self.check(asked, self.objects.get(_name(about, asked)))
        size = request.headers.get("x-upload-content-length")
        identity = uuid.uuid4().hex
        self.uploads[identity] = Upload(about, asked, None if size is None else int(size))
        location = f"{self.url}{request.path}?uploadType=resumable&upload_id={identity}"
        return Reply(200, {"Location": location, "X-GUploader-UploadID": identity})

    def go_on(self, request: Request, upload: Upload) -> Reply:
        said = request.headers.get("content-range", f"bytes 0-{len(request.body) - 1}/{len(request.body)}")
        whole = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", said)
        if whole is None:
            raise Refused(400, "badRequest", "Failed to parse Content-Range header.")
        if upload.made is not None:
            return _json(upload.made)
        total = None if whole[3] == "*" else int(whole[3])
        if whole[1] is not None:
            first, last = int(whole[1]), int(whole[2])
            if request.cut and first <= len(upload.body):
                came = request.body[: len(request.body) // QUANTUM * QUANTUM]
                upload.body += came[len(upload.body) - first :]
                return Reply(0)
            if first > len(upload.body) or last - first + 1 != len(request.body):
                raise Refused(400, "badRequest", f"Invalid request. {said} with {len(request.body)} bytes.")
            if last + 1 != total and len(request.body) % QUANTUM:
                raise Refused(400, "badRequest", "The number of bytes uploaded is required to be a multiple of 262144.")
            upload.body += request.body[len(upload.body) - first :]  # what is there stays, whatever comes for it
        if total is not None and upload.size not in (None, total):
            raise Refused(400, "badRequest", "Upload has another size than was said.")
        if total is not None and len(upload.body) == total:
            upload.made = self.insert(upload.about, upload.asked, bytes(upload.body))
            return _json(upload.made)
        there = {"Range": f"bytes=0-{len(upload.body) - 1}"} if upload.body else {}
        return Reply(308, there)

    def insert(self, about: dict[str, Any], asked: dict[str, str], body: bytes) -> dict[str, Any]:
        name = _name(about, asked)
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        if about.get("md5Hash", digest) != digest:
            raise Refused(400, "invalid", f'Provided MD5 hash "{about["md5Hash"]}" doesn\'t match calculated MD5 hash.')
        self.check(asked, self.objects.get(name))
        self.clock += 17
        self.objects[name] = Held(name, body, self.clock)
        return self.objects[name].resource()

    def list(self, asked: dict[str, str]) -> Reply:
        after = base64.b64decode(asked.get("pageToken", "")).decode()
        names = sorted(name for name in self.objects if name.startswith(asked.get("prefix", "")) and name > after)
        page = names[: min(PAGE, int(asked.get("maxResults", 1000)))]
        body: dict[str, Any] = {}
        if page:
            body["items"] = [self.objects[name].resource() for name in page]
        if len(names) > len(page):
            body["nextPageToken"] = base64.b64encode(page[-1].encode()).decode()
        return _json(body)

    def media(self, request: Request, found: Held) -> Reply:
        headers = {
            "x-goog-generation": str(found.generation),
            "x-goog-hash": f"md5={found.resource()['md5Hash']}",
            "Content-Type": "application/octet-stream",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted is None:
            return Reply(200, headers, found.body)
        first, size = int(wanted[1]), len(found.body)
        last = min(int(wanted[2]) if wanted[2] else size - 1, size - 1)
        if first >= size:
            return Reply(416, {"Content-Range": f"bytes */{size}"}, b"The requested range cannot be satisfied.")
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return Reply(206, headers, found.body[first : last + 1])


def _name(about: dict[str, Any], asked: dict[str, str]) -> str:
    name = str(asked.get("name", about.get("name", "")))
    if not name or len(name.encode()) > 1024 or "\r" in name or "\n" in name:
        raise Refused(400, "invalid", "Required parameter or invalid: name")
    return name


def _related(kind: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The two parts of multipart/related."""
    boundary = re.fullmatch(r"multipart/related; ?boundary=\"?([\w'()+,./:=? -]+)\"?", kind)
    if boundary is None:
        raise Refused(400, "badContent", f"Content-Type {kind}")
    mark = b"--" + boundary[1].encode()
    if not body.startswith(mark + b"\r\n") or not body.rstrip(b"\r\n").endswith(b"\r\n" + mark + b"--"):
        raise Refused(400, "badContent", "Missing end boundary in multipart body.")
    first, _, rest = body.removeprefix(mark + b"\r\n").partition(b"\r\n" + mark + b"\r\n")
    head, _, about = first.partition(b"\r\n\r\n")
    assert b"application/json" in head.lower(), head
    media = rest.partition(b"\r\n\r\n")[2]
    return json.loads(about), media[: media.rindex(b"\r\n" + mark + b"--")]


def _resource(found: Held, asked: dict[str, str]) -> Reply:
    about = found.resource()
    wanted = asked.get("fields")
    return _json(about if wanted is None else {name: about[name] for name in wanted.split(",") if name in about})


def _json(body: Any, status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(body).encode())


def app(url: str) -> Callable[[Request], Reply]:
    return Storage(url)
