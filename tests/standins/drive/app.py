"""Google Drive: the requests of its API v3 that outlast makes, and the token endpoint of an OAuth client.

README.md here says which page of Google's documentation each request was held against.
"""

from __future__ import annotations

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

from tests.standins.drive import CLIENT, FOLDER, REFRESH, SECRET
from tests.standins.service import Reply, Request

FILES = "/drive/v3/files"
PAGE = 7
QUANTUM = 256 * 1024
WHOLE = 5 * 2**20
LIVES = 3600
QUERY = re.compile(r"'((?:[^'\\]|\\['\\])*)' in parents and trashed = false(?: and name = '((?:[^'\\]|\\['\\])*)')?")


class Refused(Exception):
    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.message = status, reason, message or reason


@dataclass
class Held:
    id: str
    name: str
    body: bytes
    created: str
    modified: str
    folder: str = FOLDER
    made: float = 0.0
    trashed: bool = False

    def resource(self) -> dict[str, Any]:
        return {
            "kind": "drive#file",
            "id": self.id,
            "name": self.name,
            "mimeType": "application/octet-stream",
            "parents": [self.folder],
            "size": str(len(self.body)),
            "md5Checksum": hashlib.md5(self.body).hexdigest(),
            "sha256Checksum": hashlib.sha256(self.body).hexdigest(),
            "createdTime": self.created,
            "modifiedTime": self.modified,
            "trashed": self.trashed,
        }


@dataclass
class Upload:
    about: dict[str, Any]
    asked: dict[str, str]
    size: int | None
    body: bytearray = field(default_factory=bytearray)
    made: dict[str, Any] | None = None


class Drive:
    def __init__(self, url: str) -> None:
        self.url, self.lock = url, threading.Lock()
        self.files: dict[str, Held] = {}
        self.ids: set[str] = set()
        self.uploads: dict[str, Upload] = {}
        self.tokens: dict[str, float] = {}
        self.named = self.listed = 0.0  # seconds for which a search by name, and one for a folder, know no new file

    def __call__(self, request: Request) -> Reply:
        with self.lock:
            try:
                return self.reply(request)
            except Refused as error:
                about = {"domain": "global", "reason": error.reason, "message": error.message}
                body = {"error": {"code": error.status, "message": error.message, "errors": [about]}}
                return _json(body, error.status)

    def reply(self, request: Request) -> Reply:
        asked = dict(urllib.parse.parse_qsl(request.query, keep_blank_values=True))
        if (request.method, request.path) == ("POST", "/token"):
            return self.token(request)
        if request.path == "/.search":
            self.named, self.listed = json.loads(request.body)
            return _json({})
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or self.tokens.get(token, 0) < time.monotonic() or "access_token" in asked:
            raise Refused(401, "authError", "Invalid Credentials")
        match request.method, request.path:
            case "GET", "/drive/v3/files/generateIds":
                made = [uuid.uuid4().hex for _ in range(int(asked.get("count", 10)))]
                self.ids |= set(made)
                return _json({"kind": "drive#generatedIds", "space": "drive", "ids": made})
            case "GET", "/drive/v3/files":
                return self.list(asked)
            case "POST", "/upload/drive/v3/files":
                return self.begin(request, asked)
            case "PUT", "/upload/drive/v3/files" if asked.get("upload_id") in self.uploads:
                return self.go_on(request, self.uploads[asked["upload_id"]])
        found = re.fullmatch(rf"{FILES}/([\w-]+)", request.path)
        held = self.files.get(found[1]) if found else None
        if found is None:
            raise Refused(404, "notFound", f"the stand-in does not know {request.method} {request.path}")
        if held is None:
            raise Refused(404, "notFound", f"File not found: {found[1]}.")
        if request.method == "PATCH":
            about = json.loads(request.body)
            if about == {"trashed": True}:
                held.trashed = True
                return _resource(held, asked)
            if set(about) != {"modifiedTime"} or not re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", about["modifiedTime"]):
                raise Refused(400, "invalid", "modifiedTime")
            held.modified = about["modifiedTime"]
            return _resource(held, asked)
        if request.method != "GET":
            raise Refused(404, "notFound", f"the stand-in does not know {request.method} of a file")
        return _media(request, held) if asked.get("alt") == "media" else _resource(held, asked)

    def token(self, request: Request) -> Reply:
        asked = dict(urllib.parse.parse_qsl(request.body.decode()))
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return _json({"error": "invalid_request"}, 400)
        if (asked.get("client_id"), asked.get("client_secret")) != (CLIENT, SECRET):
            return _json({"error": "invalid_client", "error_description": "The OAuth client was not found."}, 401)
        if asked.get("grant_type") != "refresh_token":
            return _json({"error": "unsupported_grant_type"}, 400)
        if asked.get("refresh_token") != REFRESH:
            said = "Token has been expired or revoked."
            return _json({"error": "invalid_grant", "error_description": said}, 400)
        token = f"ya29.{uuid.uuid4().hex}"
        self.tokens[token] = time.monotonic() + LIVES
        scope = "https://www.googleapis.com/auth/drive.file"
        return _json({"access_token": token, "expires_in": LIVES, "token_type": "Bearer", "scope": scope})

    def list(self, asked: dict[str, str]) -> Reply:
        query = QUERY.fullmatch(asked.get("q", ""))
        if query is None:
            raise Refused(400, "invalid", "Invalid Value")
        folder, name = (None if each is None else re.sub(r"\\(.)", r"\1", each) for each in query.groups())
        if not _is_folder(folder):
            raise Refused(404, "notFound", f"File not found: {folder}.")
        found = sorted(self.files.values(), key=lambda each: each.id)  # no order is promised
        before = time.monotonic() - (self.listed if name is None else self.named)
        found = [each for each in found if each.folder == folder and name in (None, each.name)]
        found = [each for each in found if each.made <= before and not each.trashed]
        start = int(asked.get("pageToken") or 0)
        size = min(PAGE, int(asked.get("pageSize", 100)))
        fields = re.fullmatch(r"nextPageToken,files\(([\w,]+)\)", asked.get("fields", ""))
        wanted = fields[1].split(",") if fields else ["kind", "id", "name", "mimeType"]
        page = [each.resource() for each in found[start : start + size]]
        body: dict[str, Any] = {"files": [{key: each[key] for key in wanted} for each in page]}
        if start + size < len(found):
            body["nextPageToken"] = str(start + size)
        return _json(body)

    def begin(self, request: Request, asked: dict[str, str]) -> Reply:
        kind = request.headers.get("content-type", "")
        if asked.get("uploadType") == "multipart":
            about, body = _related(kind, request.body)
            if len(body) > WHOLE:
                raise Refused(413, "uploadTooLarge")
            return _json(self.insert(about, asked, body))
        if asked.get("uploadType") != "resumable" or not kind.startswith("application/json"):
            raise Refused(400, "invalid", "uploadType")
        about = json.loads(request.body)
        self.check(about)
        size = request.headers.get("x-upload-content-length")
        identity = uuid.uuid4().hex
        self.uploads[identity] = Upload(about, asked, None if size is None else int(size))
        return Reply(200, {"Location": f"{self.url}{request.path}?uploadType=resumable&upload_id={identity}"})

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

    def check(self, about: dict[str, Any]) -> None:
        if len(about.get("parents", ())) != 1 or not _is_folder(about["parents"][0]):
            raise Refused(404, "notFound", f"File not found: {about.get('parents')}.")
        if not about.get("name"):
            raise Refused(400, "invalid", "name")
        if "id" in about and about["id"] not in self.ids:
            raise Refused(400, "invalid", "The provided file ID is not usable.")
        if about.get("id") in self.files:
            raise Refused(409, "fileIdInUse", "A file already exists with the provided ID.")

    def insert(self, about: dict[str, Any], asked: dict[str, str], body: bytes) -> dict[str, Any]:
        """Make a file. Another one of the same name does not matter."""
        self.check(about)
        identity = about.get("id") or uuid.uuid4().hex
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.files[identity] = Held(identity, about["name"], body, now, now, about["parents"][0], time.monotonic())
        return _chosen(self.files[identity], asked)


def _is_folder(identity: str | None) -> bool:
    """A folder of this client, or one of its numbered ones."""
    return re.fullmatch(rf"{FOLDER}(-\w+)?", identity or "") is not None


def _media(request: Request, held: Held) -> Reply:
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if wanted is None:
        return Reply(200, {"Content-Type": "application/octet-stream"}, held.body)
    first, size = int(wanted[1]), len(held.body)
    last = min(int(wanted[2]) if wanted[2] else size - 1, size - 1)
    if first >= size:
        return Reply(416, {"Content-Range": f"bytes */{size}"}, b"Request range not satisfiable")
    return Reply(206, {"Content-Range": f"bytes {first}-{last}/{size}"}, held.body[first : last + 1])


def _related(kind: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The two parts of multipart/related."""
    boundary = re.fullmatch(r"multipart/related; ?boundary=\"?([\w'()+,./:=? -]+)\"?", kind)
    mark = b"--" + (boundary[1].encode() if boundary else b"")
    if boundary is None or not body.startswith(mark + b"\r\n") or not body.endswith(b"\r\n" + mark + b"--\r\n"):
        raise Refused(400, "badContent", "Malformed multipart body.")
    first, _, rest = body.removeprefix(mark + b"\r\n").partition(b"\r\n" + mark + b"\r\n")
    head, _, about = first.partition(b"\r\n\r\n")
    if b"application/json" not in head.lower():
        raise Refused(400, "badContent", "The first part is no JSON.")
    media = rest.partition(b"\r\n\r\n")[2]
    return json.loads(about), media[: media.rindex(b"\r\n" + mark + b"--")]


def _chosen(held: Held, asked: dict[str, str]) -> dict[str, Any]:
    wanted = asked.get("fields", "kind,id,name,mimeType").split(",")
    return {key: value for key, value in held.resource().items() if key in wanted}


def _resource(held: Held, asked: dict[str, str]) -> Reply:
    return _json(_chosen(held, asked))


def _json(body: Any, status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(body).encode())


def app(url: str) -> Callable[[Request], Reply]:
    return Drive(url)
