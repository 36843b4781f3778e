"""What the stand-in refuses, as the service does: a laxer one would let wrong drivers pass."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable

import pytest

from tests.standins.gcs import TOKEN
from tests.standins.gcs.app import QUANTUM, Storage
from tests.standins.service import Reply, Request

OBJECTS = "/storage/v1/b/bucket/o"
Ask = Callable[..., Reply]


@pytest.fixture
def ask() -> Ask:
    storage = Storage("http://127.0.0.1:1")

    def ask(method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> Reply:
        sent = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return storage(Request(method, path, query, sent, body))

    return ask


def insert(ask: Ask, name: str, data: bytes, query: str = "ifGenerationMatch=0", **about: str) -> Reply:
    head = json.dumps({"name": name, **about}).encode()
    body = b"--b\r\nContent-Type: application/json\r\n\r\n%s\r\n--b\r\nContent-Type: a/b\r\n\r\n%s\r\n--b--\r\n" % (
        head,
        data,
    )
    kind = "multipart/related; boundary=b"
    return ask("POST", f"/upload{OBJECTS}", f"uploadType=multipart&{query}", body, content_type=kind)


def begin(ask: Ask, name: str, size: int | None = None) -> str:
    said = {} if size is None else {"x_upload_content_length": str(size)}
    reply = ask(
        "POST",
        f"/upload{OBJECTS}",
        "uploadType=resumable&ifGenerationMatch=0",
        json.dumps({"name": name}).encode(),
        **said,
    )
    assert reply.status == 200
    return reply.headers["Location"].partition("?")[2]


def about(reply: Reply) -> dict:
    return json.loads(reply.body)


def test_a_request_without_a_token(ask: Ask) -> None:
    assert ask("GET", OBJECTS, authorization="").status == 401
    assert ask("GET", OBJECTS, authorization="Bearer wrong").status == 401


def test_create_only(ask: Ask) -> None:
    assert insert(ask, "a", b"1").status == 200
    refused = insert(ask, "a", b"1")
    assert refused.status == 412
    assert about(refused)["error"]["errors"][0]["reason"] == "conditionNotMet"
    assert insert(ask, "a", b"2", "ifGenerationMatch=1").status == 412
    assert insert(ask, "a", b"2", "x=1").status == 200, "without a precondition it is overwritten, as there"


def test_bytes_and_their_hash(ask: Ask) -> None:
    digest = base64.b64encode(hashlib.md5(b"1").digest()).decode()
    assert insert(ask, "a", b"2", md5Hash=digest).status == 400
    made = insert(ask, "a", b"1", md5Hash=digest)
    assert about(made)["md5Hash"] == digest
    assert about(made)["size"] == "1"
    assert about(made)["metageneration"] == "1"


def test_of_two_uploads_that_have_begun_one_ends(ask: Ask) -> None:
    first, second = begin(ask, "a", 3), begin(ask, "a", 3)
    for query, status in ((first, 200), (second, 412)):
        assert ask("PUT", f"/upload{OBJECTS}", query, b"abc", content_range="bytes 0-2/3").status == status


def test_parts_of_an_upload(ask: Ask) -> None:
    query, size = begin(ask, "a", QUANTUM + 3), QUANTUM + 3

    def put(said: str, body: bytes = b"") -> Reply:
        return ask("PUT", f"/upload{OBJECTS}", query, body, content_range=said)

    empty = put(f"bytes */{size}")
    assert (empty.status, "Range" in empty.headers) == (308, False)
    assert put(f"bytes 0-9/{size}", bytes(10)).status == 400, "no multiple of 256 KiB"
    assert put(f"bytes {QUANTUM}-{size - 1}/{size}", bytes(3)).status == 400, "a hole"
    assert put(f"bytes 0-{QUANTUM - 1}/{size}", bytes(5)).status == 400, "fewer bytes than are announced"
    assert put(f"bytes 0-{QUANTUM - 1}/{size}", bytes(QUANTUM)).headers["Range"] == f"bytes=0-{QUANTUM - 1}"
    assert put(f"bytes */{size + 1}").status == 400
    assert ask("GET", f"{OBJECTS}/a").status == 404, "nothing is visible before its last byte"
    assert put(f"bytes 0-{QUANTUM - 1}/{size}", b"x" * QUANTUM).headers["Range"] == f"bytes=0-{QUANTUM - 1}"
    assert about(put(f"bytes {QUANTUM}-{size - 1}/{size}", bytes(3)))["size"] == str(size)
    assert put(f"bytes */{size}").status == 200
    assert ask("GET", f"{OBJECTS}/a", "alt=media").body == bytes(size), "bytes that are there stay"


def test_preconditions_of_deletions(ask: Ask) -> None:
    generation = about(insert(ask, "a", b"1"))["generation"]
    path = f"{OBJECTS}/a"
    assert ask("DELETE", path, "ifGenerationMatch=1").status == 412
    assert ask("DELETE", path, "ifGenerationNotMatch=1").status == 400
    assert ask("DELETE", path, "generation=1").status == ask("GET", path, "generation=1").status == 404
    patched = ask("PATCH", path, f"ifGenerationMatch={generation}", b'{"metadata": {"k": "v"}}')
    assert (about(patched)["generation"], about(patched)["metageneration"]) == (generation, "2")
    assert ask("DELETE", path, f"ifGenerationMatch={generation}&ifMetagenerationMatch=1").status == 412
    assert ask("DELETE", path, f"ifGenerationMatch={generation}&ifMetagenerationMatch=2").status == 204
    assert ask("DELETE", path, f"ifGenerationMatch={generation}").status == 404


def test_reading(ask: Ask) -> None:
    generation = about(insert(ask, "a/b", b"0123456789"))["generation"]
    path = f"{OBJECTS}/a%2Fb"
    part = ask("GET", path, "alt=media", range="bytes=2-4")
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert ask("GET", path, "alt=media", range="bytes=10-").status == 416
    assert ask("GET", path, f"alt=media&generation={int(generation) + 1}").status == 404
    assert ask("GET", f"{OBJECTS}/a/b", "alt=media").status == 400, "a name is one component of the path"
    assert set(about(ask("GET", path, "fields=name,size"))) == {"name", "size"}


def test_pages(ask: Ask) -> None:
    assert "items" not in about(ask("GET", OBJECTS))
    for number in range(9):
        insert(ask, f"n{number}", b"")
    first = about(ask("GET", OBJECTS, "prefix=n"))
    rest = about(ask("GET", OBJECTS, f"prefix=n&pageToken={first['nextPageToken']}"))
    names = [each["name"] for each in first["items"] + rest["items"]]
    assert names == [f"n{number}" for number in range(9)]
    assert "nextPageToken" not in rest
    assert ask("GET", "/storage/v1/b/other/o").status == 404


def test_unsupported_requests_are_refused(ask: Ask) -> None:
    assert ask("POST", f"{OBJECTS}/a/compose").status == 400
    assert ask("PUT", f"/upload{OBJECTS}", "upload_id=unknown").status == 404
