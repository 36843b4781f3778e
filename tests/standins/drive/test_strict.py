"""What the stand-in refuses, as the service does: a laxer one would let wrong drivers pass."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Callable

import pytest

from tests.standins.drive import CLIENT, FOLDER, REFRESH, SECRET
from tests.standins.drive.app import FILES, LIVES, QUANTUM, WHOLE, Drive
from tests.standins.service import Reply, Request

Ask = Callable[..., Reply]
FORM = "application/x-www-form-urlencoded"


def token(drive: Drive, kind: str = FORM, **changed: str) -> Reply:
    asked = {"grant_type": "refresh_token", "client_id": CLIENT, "client_secret": SECRET, "refresh_token": REFRESH}
    body = urllib.parse.urlencode(asked | changed).encode()
    return drive(Request("POST", "/token", "", {"content-type": kind}, body))


@pytest.fixture
def drive() -> Drive:
    return Drive("http://127.0.0.1:1")


@pytest.fixture
def ask(drive: Drive) -> Ask:
    valid = about(token(drive))["access_token"]

    def ask(method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> Reply:
        sent = {"authorization": f"Bearer {valid}", "content-type": "application/json"}
        sent |= {name.replace("_", "-"): each for name, each in headers.items()}
        return drive(Request(method, path, query, sent, body))

    return ask


def about(reply: Reply) -> dict:
    return json.loads(reply.body)


def identity(ask: Ask) -> str:
    return about(ask("GET", f"{FILES}/generateIds", "count=1&space=drive"))["ids"][0]


def insert(ask: Ask, data: bytes = b"x", fields: str = "id,sha256Checksum", **resource: object) -> Reply:
    head = json.dumps({"name": "n", "parents": [FOLDER], **resource}).encode()
    body = b"--b\r\nContent-Type: application/json\r\n\r\n%s\r\n--b\r\nContent-Type: a/b\r\n\r\n%s\r\n--b--\r\n"
    kind = "multipart/related; boundary=b"
    return ask(
        "POST", f"/upload{FILES}", f"uploadType=multipart&fields={fields}", body % (head, data), content_type=kind
    )


def search(ask: Ask, more: str = "", folder: str = FOLDER, **asked: str) -> Reply:
    query = {"q": f"'{folder}' in parents and trashed = false{more}", **asked}
    return ask("GET", FILES, urllib.parse.urlencode(query))


def test_tokens(drive: Drive, ask: Ask) -> None:
    assert about(token(drive, refresh_token="gone"))["error"] == "invalid_grant"
    assert token(drive, client_secret="wrong").status == 401
    assert token(drive, grant_type="password").status == 400
    assert token(drive, kind="application/json").status == 400
    for sent in ("", "Bearer wrong"):
        assert ask("GET", FILES, authorization=sent).status == 401
    assert ask("GET", FILES, "access_token=x").status == 401
    drive.tokens = dict.fromkeys(drive.tokens, 0.0)
    assert search(ask).status == 401, f"a token lives {LIVES} s"


def test_names_are_not_unique_and_ids_are(ask: Ask) -> None:
    made = identity(ask)
    assert about(insert(ask, id=made)) == {"id": made, "sha256Checksum": hashlib.sha256(b"x").hexdigest()}
    again = insert(ask, id=made)
    assert (again.status, about(again)["error"]["errors"][0]["reason"]) == (409, "fileIdInUse")
    assert insert(ask, id="made-up").status == 400
    assert insert(ask).status == insert(ask, id=identity(ask)).status == 200
    assert len(about(search(ask, " and name = 'n'"))["files"]) == 3


def test_a_folder_that_is_not_seen(ask: Ask) -> None:
    assert insert(ask, parents=["other"]).status == 404
    assert search(ask, folder="other").status == 404
    assert insert(ask, name="").status == 400
    assert insert(ask, bytes(WHOLE + 1)).status == 413


def test_queries(ask: Ask) -> None:
    insert(ask, name="it's")
    assert len(about(search(ask, " and name = 'it\\'s'"))["files"]) == 1
    for more in (" and name = 'it's'", " and name contains 'i'", " or true"):
        assert search(ask, more).status == 400
    for number in range(8):
        insert(ask, name=f"n{number}")
    first = about(search(ask, fields="nextPageToken,files(name)"))
    rest = about(search(ask, fields="nextPageToken,files(name)", pageToken=first["nextPageToken"]))
    assert (len(first["files"]), len(rest["files"]), "nextPageToken" in rest) == (7, 2, False)
    assert set(first["files"][0]) == {"name"}


def test_parts_of_an_upload(ask: Ask) -> None:
    size, resource = QUANTUM + 3, {"id": identity(ask), "name": "n", "parents": [FOLDER]}

    def begin() -> Reply:
        head = json.dumps(resource).encode()
        return ask("POST", f"/upload{FILES}", "uploadType=resumable", head, x_upload_content_length=str(size))

    query = begin().headers["Location"].partition("?")[2]
    second = begin().headers["Location"].partition("?")[2]

    def put(said: str, body: bytes = b"", query: str = query) -> Reply:
        return ask("PUT", f"/upload{FILES}", query, body, content_range=said)

    assert (put(f"bytes */{size}").status, "Range" in put(f"bytes */{size}").headers) == (308, False)
    assert put(f"bytes 0-9/{size}", bytes(10)).status == 400, "no multiple of 256 KiB"
    assert put(f"bytes {QUANTUM}-{size - 1}/{size}", bytes(3)).status == 400, "a hole"
    assert put(f"bytes 0-{QUANTUM - 1}/{size}", bytes(QUANTUM)).headers["Range"] == f"bytes=0-{QUANTUM - 1}"
    assert put(f"bytes 0-{QUANTUM - 1}/{size}", b"x" * QUANTUM).status == 308
    assert about(search(ask))["files"] == [], "nothing is visible before its last byte"
    assert put(f"bytes {QUANTUM}-{size - 1}/{size}", bytes(3)).status == 200
    assert put(f"bytes */{size}").status == 200
    assert ask("GET", f"{FILES}/{resource['id']}", "alt=media").body == bytes(size), "bytes that are there stay"
    assert put(f"bytes */{size}", query="upload_id=unknown").status == 404
    assert put(f"bytes 0-{size - 1}/{size}", bytes(size), second).status == 409
    assert begin().status == 409


def test_reading_and_touching(ask: Ask) -> None:
    path = f"{FILES}/{about(insert(ask, b'0123456789'))['id']}"
    part = ask("GET", path, "alt=media", range="bytes=2-4")
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert ask("GET", path, "alt=media", range="bytes=10-").status == 416
    touched = ask("PATCH", path, "fields=modifiedTime", b'{"modifiedTime": "2026-01-02T03:04:05.006Z"}')
    assert about(touched) == {"modifiedTime": "2026-01-02T03:04:05.006Z"}
    assert ask("PATCH", path, "", b'{"modifiedTime": "yesterday"}').status == 400
    assert ask("DELETE", path).status == ask("GET", f"{FILES}/none").status == 404


def test_what_is_in_the_trash_keeps_its_id(ask: Ask) -> None:
    made = identity(ask)
    insert(ask, id=made)
    assert about(ask("PATCH", f"{FILES}/{made}", "fields=trashed", b'{"trashed": true}')) == {"trashed": True}
    assert about(search(ask))["files"] == []
    assert about(ask("GET", f"{FILES}/{made}", "fields=trashed")) == {"trashed": True}
    assert insert(ask, id=made).status == 409


def test_a_search_for_a_name_lags_behind_the_listing(drive: Drive, ask: Ask) -> None:
    drive(Request("POST", "/.search", "", {}, b"[1000, 0]"))
    made = about(insert(ask))["id"]
    assert about(search(ask, " and name = 'n'"))["files"] == []
    assert len(about(search(ask))["files"]) == 1
    assert ask("GET", f"{FILES}/{made}").status == 200
    drive(Request("POST", "/.search", "", {}, b"[1000, 1000]"))
    assert about(search(ask))["files"] == []
