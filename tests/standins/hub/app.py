"""The Hugging Face Hub: the requests that huggingface_hub and outlast make to read and to commit.

README.md here says what each request was held against.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import fnmatch
import hashlib
import json
import re
import threading
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.standins.hub import REPOSITORY, TOKEN
from tests.standins.service import Reply, Request

PAGE = 7
PATHS = 1000
REGULAR = 10 * 2**20
PART = 20 * 2**20
LARGE = ("*.bin", "*.safetensors", "*.pt", "*.npz", "*.zip")


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Held:
    """A file of a commit; `lfs` is the SHA-256 of a large one."""

    body: bytes
    oid: str
    lfs: str
    commit: str
    date: str
    title: str = ""


@dataclass
class Repository:
    prefix: str
    history: dict[str, dict[str, Held]] = field(default_factory=dict)
    head: str = ""

    def commit(self, files: dict[str, Held], commit: str = "") -> str:
        self.head = commit or uuid.uuid4().hex + "00000000"
        self.history[self.head] = files
        return self.head

    def at(self, revision: str) -> dict[str, Held]:
        revision = self.head if revision == "main" else revision
        if revision not in self.history:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.history[revision]


class Hub:
    def __init__(self, url: str) -> None:
        self.url, self.lock = url, threading.Lock()
        self.content = url.replace("127.0.0.1", "localhost")  # another host, which must not see the token
        self.repositories = {("models", REPOSITORY): Repository(""), ("datasets", REPOSITORY): Repository("datasets/")}
        for each in self.repositories.values():
            each.commit({".gitattributes": _regular(b"*.bin filter=lfs\n", "0" * 40)}, "0" * 40)
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}

    def __call__(self, request: Request) -> Reply:
        with self.lock:
            try:
                return self.reply(request)
            except Refused as error:
                headers = {"X-Error-Message": error.message.encode("latin-1", "replace").decode("latin-1")}
                if error.code:
                    headers["X-Error-Code"] = error.code
                return _json({"error": error.message}, error.status, headers)

    def reply(self, request: Request) -> Reply:
        asked = dict(urllib.parse.parse_qsl(request.query, keep_blank_values=True))
        if found := re.fullmatch(r"/\.content/([0-9a-f]{64})", request.path):
            return self.blob(request, found[1], asked)
        if request.path == "/.complete" and "X-Amz-Signature" in asked:  # the client sends it no token
            return self.complete(request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            known = "authorization" in request.headers
            raise Refused(
                401, "Invalid credentials in Authorization header" if known else "Invalid username or password."
            )
        if request.path == "/api/validate-yaml" and request.method == "POST":
            return _json({"errors": [], "warnings": []})
        if found := re.fullmatch(
            r"/api/resolve-cache/(models|datasets)/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", request.path
        ):
            held = self.repository(found[1], found[2]).at(found[3])[urllib.parse.unquote(found[4])]
            return Reply(200, {"ETag": f'"{held.oid}"'}, held.body)
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", request.path):
            self.repository("datasets" if found[1] else "models", found[2])
            return self.batch(request)
        if request.path == "/.verify":
            return self.verify(request)
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", request.path):
            return self.resolve(
                "datasets" if found[1] else "models", found[2], found[3], urllib.parse.unquote(found[4])
            )
        found = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/([\w-]+)/([^/]+)(?:/([^/]+))?", request.path)
        if found is None:
            raise Refused(404, f"Sorry, we can't find the page you are looking for: {request.path}")
        return self.about(request, asked, self.repository(found[1], found[2]), *found.groups()[2:])

    def repository(self, kind: str, name: str) -> Repository:
        try:
            return self.repositories[kind, name]
        except KeyError:
            raise Refused(404, "Repository not found", "RepoNotFound") from None

    def about(
        self, request: Request, asked: dict[str, str], there: Repository, what: str, revision: str, path: str | None
    ) -> Reply:
        match request.method, what, path:
            case "GET", "revision", None:
                there.at(revision)
                return _json({"id": REPOSITORY, "sha": there.head if revision == "main" else revision})
            case "POST", "paths-info", None:
                about = json.loads(request.body)
                if len(about["paths"]) > PATHS:
                    raise Refused(413, "too many parameters")
                files = there.at(revision)
                found = [_info(files, each, about.get("expand")) for each in about["paths"]]
                return _json([each for each in found if each])
            case "GET", "tree", _:
                return self.tree(asked, there.at(revision), urllib.parse.unquote(path or ""), request.path)
            case "POST", "preupload", None:
                files = there.at(revision)
                return _json({"files": [_mode(files, each) for each in json.loads(request.body)["files"]]})
            case "POST", "commit", None:
                if revision != "main":
                    raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
                return self.commit(request, there)
        raise Refused(404, f"the stand-in does not know {request.method} {request.path}")

    def tree(self, asked: dict[str, str], files: dict[str, Held], folder: str, path: str) -> Reply:
        below = f"{folder}/" if folder else ""
        names = sorted({each for name in files for each in _with_folders(name) if each.startswith(below)})
        if not names:
            raise Refused(404, f"{folder} does not exist on main", "EntryNotFound")
        if asked.get("recursive") != "true":
            names = [name for name in names if "/" not in name[len(below) :]]
        start = int(base64.b64decode(asked.get("cursor", "")) or 0)
        page = [_info(files, name, asked.get("expand") == "true") for name in names[start : start + PAGE]]
        headers = {}
        if start + PAGE < len(names):
            more = asked | {"cursor": base64.b64encode(str(start + PAGE).encode()).decode()}
            headers["Link"] = f'<{self.url}{path}?{urllib.parse.urlencode(more)}>; rel="next"'
        return _json(page, 200, headers)

    def commit(self, request: Request, there: Repository) -> Reply:
        if request.headers.get("content-type") != "application/x-ndjson":
            raise Refused(400, "Invalid content type")
        lines = [json.loads(line) for line in request.body.splitlines()]
        if not lines or lines[0]["key"] != "header" or not lines[0]["value"].get("summary"):
            raise Refused(400, "The first line must be the header, with a summary")
        if lines[0]["value"].get("parentCommit", there.head) != there.head:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        commit = uuid.uuid4().hex + "00000000"
        files = dict(there.at("main"))
        for line in lines[1:]:
            path = line["value"]["path"]
            if not path or any(each in ("", ".", "..", ".git") for each in path.split("/")):
                raise Refused(400, f"Invalid path: {path}")
            if line["key"] == "deletedFile":
                if path not in files:
                    raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                del files[path]
                continue
            if any(each in files for each in list(_with_folders(path))[1:]) or _is_folder(files, path):
                raise Refused(400, f"{path} is a file and a folder")
            made = self.made(line["key"], line["value"], commit)
            files[path] = dataclasses.replace(made, title=lines[0]["value"]["summary"])
        if files == there.at("main"):
            raise Refused(400, "Empty commit")
        there.commit(files, commit)
        url = f"{self.url}/{there.prefix}{REPOSITORY}/commit/{commit}"
        return _json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def made(self, key: str, value: dict[str, Any], commit: str) -> Held:
        if key == "file":
            body = base64.b64decode(value["content"], validate=True)
            if value["encoding"] != "base64" or len(body) > REGULAR:
                raise Refused(413, "Files of more than 10 MB must be uploaded as LFS")
            return _regular(body, commit)
        if key != "lfsFile" or value["algo"] != "sha256":
            raise Refused(400, f"Unknown operation: {key}")
        oid = value["oid"]
        if oid not in self.blobs or value.get("size", len(self.blobs[oid])) != len(self.blobs[oid]):
            raise Refused(400, f"LFS pointer pointed to a file that does not exist: {oid}")
        body = self.blobs[oid]
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(body)}\n"
        return Held(body, _git(pointer.encode()), oid, commit, _now())

    def batch(self, request: Request) -> Reply:
        if "vnd.git-lfs+json" not in request.headers.get("accept", ""):
            raise Refused(406, "Not Acceptable")
        objects = []
        for each in json.loads(request.body)["objects"]:
            oid, size = each["oid"], each["size"]
            about: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
            if oid not in self.blobs:
                upload: dict[str, Any] = {"href": f"{self.content}/.content/{oid}?X-Amz-Signature=s"}
                if size > PART:
                    count = -(-size // PART)
                    upload = {"href": f"{self.url}/.complete?X-Amz-Signature=s", "header": {"chunk_size": str(PART)}}
                    for number in range(1, count + 1):
                        url = f"{self.content}/.content/{oid}?partNumber={number}&X-Amz-Signature=s"
                        upload["header"][str(number)] = url
                about["actions"] = {"upload": upload, "verify": {"href": f"{self.url}/.verify"}}
            objects.append(about)
        return _json({"transfer": "basic", "objects": objects})

    def complete(self, request: Request) -> Reply:
        about = json.loads(request.body)
        parts = [self.parts.get((about["oid"], each["partNumber"]), b"") for each in about["parts"]]
        for each, part in zip(about["parts"], parts, strict=True):
            if each["etag"] != f'"{hashlib.md5(part).hexdigest()}"':
                raise Refused(400, "InvalidPart")
        self.keep(about["oid"], b"".join(parts))
        return _json({})

    def verify(self, request: Request) -> Reply:
        about = json.loads(request.body)
        if len(self.blobs.get(about["oid"], b"")) != about["size"] or about["oid"] not in self.blobs:
            raise Refused(404, "The object does not exist")
        return _json({})

    def keep(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refused(400, "The provided 'x-amz-checksum-sha256' does not match what was computed.")
        self.blobs[oid] = body

    def blob(self, request: Request, oid: str, asked: dict[str, str]) -> Reply:
        """The store of large files, which takes signed URLs and no token."""
        if "authorization" in request.headers or "X-Amz-Signature" not in asked:
            raise Refused(400, "Only one auth mechanism allowed")
        if request.method == "PUT":
            if "partNumber" in asked:
                self.parts[oid, int(asked["partNumber"])] = request.body
            else:
                self.keep(oid, request.body)
            return Reply(200, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})
        body = self.blobs[oid]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted is None:
            return Reply(200, {"Accept-Ranges": "bytes", "ETag": '"of the store"'}, body)
        first = int(wanted[1])
        last = min(int(wanted[2]) if wanted[2] else len(body) - 1, len(body) - 1)
        if first >= len(body):
            return Reply(416, {"Content-Range": f"bytes */{len(body)}"})
        return Reply(206, {"Content-Range": f"bytes {first}-{last}/{len(body)}"}, body[first : last + 1])

    def resolve(self, kind: str, name: str, revision: str, path: str) -> Reply:
        there = self.repository(kind, name)
        files = there.at(revision)
        if path not in files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        held, head = files[path], there.head if revision == "main" else revision
        headers = {"X-Repo-Commit": head, "ETag": f'"{held.oid}"'}
        if not held.lfs:
            location = f"/api/resolve-cache/{kind}/{name}/{head}/{urllib.parse.quote(path)}?content"
            return Reply(307, headers | {"Location": location})
        location = f"{self.content}/.content/{held.lfs}?X-Amz-Signature=s"
        linked = {"X-Linked-Size": str(len(held.body)), "X-Linked-Etag": f'"{held.lfs}"'}
        return Reply(302, headers | linked | {"Location": location})


def _mode(files: dict[str, Held], about: dict[str, Any]) -> dict[str, Any]:
    """How a file is to be uploaded."""
    path, sample = about["path"], base64.b64decode(about["sample"])
    try:
        text = b"\0" not in sample and sample.decode() is not None
    except UnicodeDecodeError as error:
        text = error.end == len(sample)  # a character was cut
    large = about["size"] > REGULAR or not text or any(fnmatch.fnmatch(path, each) for each in LARGE)
    ignored = files[".gitignore"].body.decode().split() if ".gitignore" in files else []
    return {
        "path": path,
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": any(fnmatch.fnmatch(path.rpartition("/")[2], each) for each in ignored),
        **({"oid": files[path].oid} if path in files else {}),
    }


def _info(files: dict[str, Held], path: str, expand: Any) -> dict[str, Any] | None:
    held = files.get(path)
    if held is None and not _is_folder(files, path):
        return None
    last = held or max(
        (each for name, each in files.items() if name.startswith(f"{path}/")), key=lambda each: each.date
    )
    about: dict[str, Any] = {"type": "file" if held else "directory", "path": path, "size": 0, "oid": "1" * 40}
    if held:
        about |= {"size": len(held.body), "oid": held.oid}
        if held.lfs:
            about["lfs"] = {"oid": held.lfs, "size": len(held.body), "pointerSize": 134}
    if expand:
        about["lastCommit"] = {"id": last.commit, "title": last.title, "date": last.date}
    return about


def _is_folder(files: dict[str, Held], path: str) -> bool:
    return any(name.startswith(f"{path}/") for name in files)


def _with_folders(path: str) -> list[str]:
    """A path and all folders it is in."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _git(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _regular(body: bytes, commit: str) -> Held:
    return Held(body, _git(body), "", commit, _now())


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    head = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Reply(status, head, json.dumps(body).encode())


def app(url: str) -> Callable[[Request], Reply]:
    return Hub(url)
