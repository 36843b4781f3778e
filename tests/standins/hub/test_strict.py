"""What the stand-in refuses, as the service does: a laxer one would let wrong drivers pass."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable

import pytest

from tests.standins.hub import REPOSITORY, TOKEN
from tests.standins.hub.app import PATHS, Hub
from tests.standins.service import Reply, Request

API = f"/api/models/{REPOSITORY}"
Ask = Callable[..., Reply]


@pytest.fixture
def ask() -> Ask:
    hub = Hub("http://127.0.0.1:1")

    def ask(method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> Reply:
        sent = {"authorization": f"Bearer {TOKEN}"} | {name.replace("_", "-"): each for name, each in headers.items()}
        return hub(Request(method, path, query, {name: each for name, each in sent.items() if each}, body))

    return ask


def about(reply: Reply) -> dict:
    return json.loads(reply.body)


def head(ask: Ask) -> str:
    return about(ask("GET", f"{API}/revision/main"))["sha"]


def commit(ask: Ask, *lines: tuple[str, dict], parent: str = "", summary: str = "s") -> Reply:
    first = {"summary": summary, **({"parentCommit": parent} if parent else {})}
    rows = [{"key": key, "value": value} for key, value in (("header", first), *lines)]
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return ask("POST", f"{API}/commit/main", body=body, content_type="application/x-ndjson")


def small(path: str, data: bytes = b"x") -> tuple[str, dict]:
    return "file", {"path": path, "encoding": "base64", "content": base64.b64encode(data).decode()}


def paths(ask: Ask, *names: str, revision: str = "main") -> list[dict]:
    body = json.dumps({"paths": names, "expand": True}).encode()
    return json.loads(ask("POST", f"{API}/paths-info/{revision}", body=body).body)


def test_a_request_without_a_token(ask: Ask) -> None:
    for sent in ("", "Bearer wrong"):
        assert ask("GET", f"{API}/revision/main", authorization=sent).status == 401
    missing = ask("GET", "/api/models/owner/other/revision/main")
    assert (missing.status, missing.headers["X-Error-Code"]) == (404, "RepoNotFound")


def test_a_parent_that_is_not_the_head(ask: Ask) -> None:
    parent = head(ask)
    assert commit(ask, small("a"), parent=parent).status == 200
    assert commit(ask, small("b"), parent=parent).status == 412
    assert paths(ask, "a", "b") == paths(ask, "a")
    assert commit(ask, small("b")).status == 200, "without a parent it is taken, as there"


def test_a_commit_is_all_or_nothing(ask: Ask) -> None:
    before = head(ask)
    large = ("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": "0" * 64, "size": 1})
    for bad in (large, ("deletedFile", {"path": "none"}), small("../up"), small(".git/config")):
        assert commit(ask, small("a"), bad, parent=before).status in (400, 404)
    assert commit(ask, small("a"), summary="").status == 400
    assert commit(ask).status == 400
    assert head(ask) == before


def test_a_name_is_a_file_or_a_folder(ask: Ask) -> None:
    commit(ask, small("a"), small("b/c"))
    assert commit(ask, small("a/b")).status == 400
    assert commit(ask, small("b")).status == 400
    assert [(each["path"], each["type"]) for each in paths(ask, "a", "a/b", "b")] == [("a", "file"), ("b", "directory")]


def test_large_files_are_the_bytes_that_were_announced(ask: Ask) -> None:
    data = b"\0" * 100
    oid = hashlib.sha256(data).hexdigest()
    body = json.dumps({"objects": [{"oid": oid, "size": 100}]}).encode()
    path = f"/{REPOSITORY}.git/info/lfs/objects/batch"
    assert ask("POST", path, body=body).status == 406
    batch = ask("POST", path, body=body, accept="application/vnd.git-lfs+json")
    url = about(batch)["objects"][0]["actions"]["upload"]["href"]
    where, _, query = url.removeprefix("http://localhost:1").partition("?")
    assert ask("PUT", where, query, data).status == 400, "with a token"
    assert ask("PUT", where, query, b"other", authorization="").status == 400
    assert ask("PUT", where, "", data, authorization="").status == 400, "not signed"
    assert ask("PUT", where, query, data, authorization="").status == 200
    again = ask("POST", path, body=body, accept="application/vnd.git-lfs+json")
    assert "actions" not in about(again)["objects"][0]
    assert commit(ask, ("lfsFile", {"path": "w", "algo": "sha256", "oid": oid, "size": 99})).status == 400
    assert commit(ask, ("lfsFile", {"path": "w", "algo": "sha256", "oid": oid, "size": 100})).status == 200
    assert paths(ask, "w")[0]["lfs"]["oid"] == oid
    moved = ask("GET", f"/{REPOSITORY}/resolve/main/w")
    assert (moved.status, moved.headers["X-Linked-Etag"]) == (302, f'"{oid}"')
    assert moved.headers["Location"].startswith("http://localhost:1/")


def test_what_is_ignored_or_large(ask: Ask) -> None:
    commit(ask, small(".gitignore", b"*.log\n"))
    files = [
        {"path": path, "size": len(data), "sample": base64.b64encode(data).decode()}
        for path, data in {"a.log": b"text", "b.bin": b"text", "c": b"\0", "d": "é".encode()[:1]}.items()
    ]
    modes = about(ask("POST", f"{API}/preupload/main", body=json.dumps({"files": files}).encode()))["files"]
    assert [(each["uploadMode"], each["shouldIgnore"]) for each in modes] == [
        ("regular", True), ("lfs", False), ("lfs", False), ("regular", False),
    ]  # fmt: skip


def test_pages_and_history(ask: Ask) -> None:
    old = head(ask)
    commit(ask, *[small(f"f/n{number}") for number in range(9)])
    first = ask("GET", f"{API}/tree/main/f", "recursive=true&expand=true")
    assert [each["path"] for each in json.loads(first.body)] == [f"f/n{number}" for number in range(7)]
    query = first.headers["Link"].partition("?")[2].partition(">")[0]
    rest = ask("GET", f"{API}/tree/main/f", query)
    assert [each["path"] for each in json.loads(rest.body)] == ["f/n7", "f/n8"]
    assert "Link" not in rest.headers
    assert ask("GET", f"{API}/tree/main/none", "recursive=true").headers["X-Error-Code"] == "EntryNotFound"
    assert paths(ask, "f/n1", revision=old) == []
    many = json.dumps({"paths": ["a"] * (PATHS + 1)}).encode()
    assert ask("POST", f"{API}/paths-info/main", body=many).status == 413


def test_unsupported_requests_are_refused(ask: Ask) -> None:
    assert ask("DELETE", API).status == 404
    assert ask("GET", f"/{REPOSITORY}/resolve/main/none").headers["X-Error-Code"] == "EntryNotFound"
