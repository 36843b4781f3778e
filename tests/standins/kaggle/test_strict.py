"""What the stand-in refuses, as the service does: a laxer one would let wrong clients pass."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.standins.kaggle import Standin
from tests.standins.kaggle.world import Refused


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Standin]:
    with Standin(tmp_path / "kaggle") as running:
        yield running


def test_parts_of_an_upload(standin: Standin) -> None:
    """Uploads are resumable ones of Google: no holes, no other bytes than announced, and what is there stays."""
    token = standin.world.start_blob({"name": "a", "contentLength": 10})

    def put(said: str, body: bytes = b"", path: str = f"/upload/{token}") -> tuple[int, str | None]:
        connection = http.client.HTTPConnection(urlsplit(standin.url).netloc, timeout=20)
        connection.request("PUT", path, body, {"Content-Range": said} if said else {})
        reply = connection.getresponse()
        reply.read()
        connection.close()
        return reply.status, reply.headers.get("Range")

    assert put("bytes */10") == (308, None)
    assert put("bytes 3-9/10", b"3456789") == (400, None)
    assert put("bytes 0-4/10", b"012") == (400, None)
    assert put("bytes 0-4/11", b"01234") == put("bytes */11") == (400, None)
    assert put("", b"01234567890") == (400, None)
    assert put("bytes 0-4/10", b"01234") == (308, "bytes=0-4")
    assert put("bytes 3-9/10", b"xx56789")[0] == 200
    assert put("bytes */10")[0] == 200
    assert put("bytes */10", path="/upload/unknown")[0] == 404
    assert bytes(standin.world.blobs[token]["data"]) == b"0123456789"


def test_a_dataset_is_private_only_when_that_is_said(standin: Standin) -> None:
    """The default of the client's request is False; the command line's own is True."""
    about = {"slug": "a-dataset", "title": "a-dataset", "files": [], "directories": []}
    assert standin.world.create_dataset("ada", {**about, "isPrivate": True})["status"] == "ok"
    assert standin.world.create_dataset("ada", {**about, "slug": "another"})["status"] == "ok"
    assert [standin.world.datasets["ada", name].private for name in ("a-dataset", "another")] == [True, False]
    assert "already in use" in standin.world.create_dataset("ada", about)["error"]
    assert "between 6 and 50" in standin.world.create_dataset("ada", {**about, "slug": "short"})["error"]
    with pytest.raises(Refused, match="denied"):
        standin.world.create_dataset("ada", {**about, "ownerSlug": "eve"})
