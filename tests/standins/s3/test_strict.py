"""What the stand-in refuses, as the service does: moto's answers, and what app.py adds to them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

import pytest

pytest.importorskip("moto", reason="moto is not installed")

from tests.standins.s3.app import _signed, app
from tests.standins.s3.keys import BUCKET
from tests.standins.service import Reply, Request

LEAST = 5 * 2**20
"""Bytes of a part that is not the last."""
Ask = Callable[..., Reply]


@pytest.fixture(scope="module")
def ask() -> Ask:
    service = app("http://127.0.0.1:1")

    def ask(method: str, key: str, query: str = "", body: bytes = b"", **headers: str) -> Reply:
        sent = {"authorization": _signed(), **{name.replace("_", "-"): each for name, each in headers.items()}}
        return service(Request(method, f"/{BUCKET}/{key}", query, {k: v for k, v in sent.items() if v}, body))

    return ask


def code(reply: Reply) -> tuple[int, str]:
    found = re.search(rb"<Code>(\w+)</Code>", reply.body)
    return reply.status, found[1].decode() if found else ""


def upload(ask: Ask, key: str, *parts: bytes, **condition: str) -> Reply:
    identity = re.search(rb"<UploadId>([^<]+)<", ask("POST", key, "uploads").body)[1].decode()
    rows = ""
    for number, part in enumerate(parts, 1):
        etag = ask("PUT", key, f"partNumber={number}&uploadId={identity}", part).headers["ETag"]
        rows += f"<Part><ETag>{etag}</ETag><PartNumber>{number}</PartNumber></Part>"
    body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    return ask("POST", key, f"uploadId={identity}", body, **condition)


def test_requests_that_are_not_signed(ask: Ask) -> None:
    assert code(ask("GET", "a", authorization="")) == (403, "AccessDenied")
    other = _signed().replace("Credential=", "Credential=OTHER")
    assert code(ask("GET", "a", authorization=other)) == (403, "InvalidAccessKeyId")


def test_bytes_and_their_checksum(ask: Ask) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert code(ask("PUT", "sum", body=b"x", x_amz_checksum_sha256=wrong)) == (400, "BadDigest")
    assert ask("HEAD", "sum").status == 404


def test_create_only(ask: Ask) -> None:
    """Conditional writes: PutObject and CompleteMultipartUpload with If-None-Match."""
    assert ask("PUT", "once", body=b"1", if_none_match="*").status == 200
    assert code(ask("PUT", "once", body=b"2", if_none_match="*")) == (412, "PreconditionFailed")
    assert code(upload(ask, "once", b"2", if_none_match="*")) == (412, "PreconditionFailed")
    assert ask("GET", "once").body == b"1"
    assert upload(ask, "parts", b"1", if_none_match="*").status == 200
    assert ask("PUT", "once", body=b"3").status == 200, "without a precondition it is overwritten, as there"


def test_preconditions_of_deletions_and_copies(ask: Ask) -> None:
    """Conditional deletes, and CopyObject with If-Match of the target and of the source."""
    etag = ask("PUT", "d", body=b"1").headers["ETag"]
    other = f'"{"0" * 32}"'
    source = {"x_amz_copy_source": f"{BUCKET}/d", "x_amz_metadata_directive": "REPLACE"}
    assert code(ask("PUT", "d", **source, if_match=other)) == (412, "PreconditionFailed")
    assert code(ask("PUT", "d", **source, x_amz_copy_source_if_match=other)) == (412, "PreconditionFailed")
    assert ask("PUT", "d", **source, x_amz_copy_source_if_match=etag, if_match=etag).status == 200
    assert code(ask("DELETE", "d", if_match=other)) == (412, "PreconditionFailed")
    assert ask("DELETE", "d", if_match=etag).status == 204
    assert ask("DELETE", "d").status == 204, "without a precondition a missing object is no error"
    assert ask("DELETE", "d", if_match=etag).status == 404


def test_parts(ask: Ask) -> None:
    """Multipart upload limits, and UploadPartCopy of a range."""
    assert code(upload(ask, "small", b"1", b"2")) == (400, "EntityTooSmall")
    done = upload(ask, "large", bytes(LEAST), b"2")
    assert done.status == 200
    assert ask("HEAD", "large").headers["ETag"].strip('"').endswith("-2"), "an ETag tells the number of parts"
    identity = re.search(rb"<UploadId>([^<]+)<", ask("POST", "copy", "uploads").body)[1].decode()
    source = {"x_amz_copy_source": f"{BUCKET}/parts", "x_amz_copy_source_range": "bytes=0-0"}
    assert code(ask("PUT", "copy", f"partNumber=1&uploadId={identity}", **source)) == (400, "InvalidRequest")


def test_ranges_and_pages(ask: Ask) -> None:
    ask("PUT", "r", body=b"0123456789")
    part = ask("GET", "r", range="bytes=2-4")
    assert (part.status, part.body) == (206, b"234")
    assert code(ask("GET", "r", range="bytes=10-")) == (416, "InvalidRange")
    for number in range(9):
        ask("PUT", f"n/{number}", body=b"")
    first = ask("GET", "", "list-type=2&prefix=n%2F").body
    assert (first.count(b"<Key>"), b"NextContinuationToken" in first) == (7, True)
