"""What only S3 has: parts, ETags, services that ignore preconditions."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore import auth
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from tests.conformance.remotes import S3Case
from tests.standins import service
from tests.standins.s3 import keys
from tests.standins.service import Fault
from urllib3 import HTTPResponse

from outlast.errors import ObjectConflict, RemoteRefused, RemoteUnavailable, UsageError
from outlast.remote import s3
from outlast.remote.address import open_remote
from outlast.remote.base import PIECE, Stat
from outlast.remote.network import SMALL
from outlast.remote.s3client import Slice

PART = 5 * PIECE
"""The least that S3 takes as a part which is not the last."""


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Case]:
    case = S3Case(tmp_path, monkeypatch)
    yield case
    case.close()


def large(tmp_path: Path) -> tuple[Path, bytes]:
    data = os.urandom(2 * PART + 17)
    path = tmp_path / "large"
    path.write_bytes(data)
    return path, data


def asked(case: S3Case, text: str) -> list[str]:
    return [line for line in service.requests(case.url) if text in line]


def test_only_a_large_object_is_looked_for_before_it_is_sent(case: S3Case, tmp_path: Path) -> None:
    remote, file = case.open(), tmp_path / "file"
    assert remote.capabilities.exclusive_put
    for size, first, again in ((SMALL, ["PUT"], ["PUT", "HEAD"]), (SMALL + 1, ["HEAD", "PUT"], ["HEAD"])):
        file.write_bytes(bytes(size))
        service.fail(case.url)
        assert remote.put_if_absent(f"o{size}", file)
        assert [line.split()[0] for line in service.requests(case.url)] == first
        service.fail(case.url)
        assert not remote.put_if_absent(f"o{size}", file)
        assert [line.split()[0] for line in service.requests(case.url)][: len(again)] == again
        file.write_bytes(b"x" * size)
        with pytest.raises(ObjectConflict):
            remote.put_if_absent(f"o{size}", file)
        assert b"".join(remote.get(f"o{size}")) == bytes(size)


@pytest.mark.parametrize(("endpoint", "signed"), [("https://127.0.0.1:1", False), ("http://127.0.0.1:1", True)])
def test_over_tls_the_checksum_is_signed_and_the_bytes_are_not_read_again(
    case: S3Case, tmp_path: Path, endpoint: str, signed: bool
) -> None:
    remote, file, sent = s3.S3Remote("bucket", endpoint=endpoint, region="us-east-1"), tmp_path / "file", []
    file.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    remote.__dict__["_preconditions"] = (True, True)

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        sent.append(request.headers)
        return AWSResponse(request.url, 200, {}, HTTPResponse(io.BytesIO(), preload_content=False))

    remote._client.meta.events.register("before-send.s3.PutObject", answer)
    assert remote._create("name", file, digest)
    (headers,) = sent
    assert headers["X-Amz-Content-SHA256"] == (digest.encode() if signed else b"UNSIGNED-PAYLOAD")
    assert base64.b64decode(headers["x-amz-checksum-sha256"]).hex() == digest
    assert b"x-amz-checksum-sha256" in headers["Authorization"].partition(b"SignedHeaders=")[2]


def test_without_tls_the_bytes_are_signed_by_their_known_digest_and_not_read_again(
    case: S3Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"weights" * 100_000)
    remote = case.open()
    assert remote.capabilities.exclusive_put  # the service is tried out with objects of its own
    read: list[str] = []
    monkeypatch.setattr(
        auth.S3SigV4Auth, "payload", lambda _, request: read.append(request.method) or "UNSIGNED-PAYLOAD"
    )
    assert remote.put_if_absent("a", tmp_path / "file") is True
    assert "PUT" not in read
    assert b"".join(remote.get("a")) == b"weights" * 100_000


def test_a_part_that_fails_is_sent_again_alone(case: S3Case, tmp_path: Path) -> None:
    remote, (source, data) = case.open(part=PART), large(tmp_path)
    assert remote.capabilities.exclusive_put is True
    service.fail(case.url, Fault("status", "PUT", "partNumber=2"), Fault("lost", "PUT", "partNumber=3"))
    assert remote.put_if_absent("a", source) is True
    assert [len(asked(case, f"partNumber={number}")) for number in (1, 2, 3)] == [1, 2, 2]
    stat = remote.stat("a")
    assert (stat.size, stat.digest) == (len(data), hashlib.sha256(data).hexdigest())
    assert b"".join(remote.get("a", 3, 2 * PART + 5)) == data[3 : 2 * PART + 5]
    assert remote.put_if_absent("a", source) is False
    assert remote.stat("a").digest == stat.digest


def test_a_large_object_whose_last_reply_is_lost(case: S3Case, tmp_path: Path) -> None:
    remote, (source, data) = case.open(part=PART), large(tmp_path)
    assert remote.capabilities.exclusive_put is True
    service.fail(case.url, Fault("lost", "POST", "uploadId="))
    assert remote.put_if_absent("a", source) is False
    assert len(asked(case, "partNumber=1")) <= 2  # the second is the copy that makes it young
    assert b"".join(remote.get("a")) == data


def test_of_two_large_ones_the_second_does_not_overwrite(case: S3Case, tmp_path: Path) -> None:
    """The second writer has looked before the first one finished; its last request has the precondition."""
    remote, (source, data) = case.open(part=PART), large(tmp_path)
    assert remote.capabilities.exclusive_put is True
    other = tmp_path / "other"
    other.write_bytes(data[::-1])
    service.fail(case.url)
    assert remote._create("a", source, hashlib.sha256(data).hexdigest()) is True
    assert remote._create("a", other, "0" * 64) is False
    assert len(asked(case, "DELETE")) == 1, "what was uploaded for nothing is given up"
    assert b"".join(remote.get("a")) == data
    with pytest.raises(ObjectConflict):
        remote.put_if_absent("a", other)


def test_an_upload_that_fails_for_good_is_given_up(case: S3Case, tmp_path: Path) -> None:
    remote, (source, _) = case.open(part=PART), large(tmp_path)
    assert remote.capabilities.exclusive_put is True
    service.fail(case.url, Fault("status", "PUT", "partNumber=2", status=403, times=99))
    with pytest.raises(RemoteRefused):
        remote.put_if_absent("a", source)
    assert len(asked(case, "DELETE")) == 1
    assert list(remote.list()) == []


def test_every_time_it_is_put_again_it_has_another_etag(case: S3Case, tmp_path: Path) -> None:
    """A deletion compares the ETag, which depends on contents and parts alone."""
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"x" * 1000)
    remote.put_if_absent("a", source)
    etags = [remote.stat("a").generation.partition("@")[0]]
    for _ in range(3):
        assert remote.put_if_absent("a", source) is False
        etags.append(remote.stat("a").generation.partition("@")[0])
        assert remote.stat("a").digest == hashlib.sha256(b"x" * 1000).hexdigest()
    assert all(before != after for before, after in itertools.pairwise(etags))


def test_an_object_too_large_for_one_copy_is_copied_in_parts(
    case: S3Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_MOST_COPIED", 2 * PART)
    remote, data, source = case.open(part=2 * PART), os.urandom(5 * PART), tmp_path / "file"
    source.write_bytes(data)
    remote.put_if_absent("a", source)
    parts = []
    for _ in range(3):
        parts.append(remote.stat("a").generation.partition("@")[0].strip('"').partition("-")[2])
        assert remote.put_if_absent("a", source) is False
    assert parts == ["3", "4", "3"]
    assert b"".join(remote.get("a")) == data


@pytest.mark.parametrize("header", ["if-none-match", "if-match"])
def test_a_service_that_ignores_a_precondition_is_found_out(case: S3Case, tmp_path: Path, header: str) -> None:
    service.fail(case.url, Fault("without", headers={header: ""}, times=1))
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"x")
    able = remote.capabilities
    assert (able.exclusive_put, able.conditional_delete) == (header == "if-match", header == "if-none-match")
    assert list(remote.list()) == [], "nothing is left of the trial"
    assert remote.put_if_absent("a", source) is True
    assert remote.put_if_absent("a", source) is False
    if not able.conditional_delete:
        with pytest.raises(RemoteRefused, match="If-Match"):
            remote.delete_if_unchanged("a", remote.stat("a").generation)
        assert [entry.name for entry in remote.list()] == ["a"]


@pytest.mark.parametrize("able", [(True, True), (False, False)])
def test_what_somebody_replaced_meanwhile_is_not_made_young(
    case: S3Case, tmp_path: Path, able: tuple[bool, bool]
) -> None:
    """A copy onto itself would give other bytes the digest of the old ones."""
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"x")
    remote.put_if_absent("a", source)
    found = remote.stat("a")
    remote._call("a", "put_object", Body=b"other")
    remote.__dict__["_preconditions"] = able
    with pytest.raises(ObjectConflict):
        remote._freshen(found)
    assert remote.stat("a").digest == hashlib.sha256(b"other").hexdigest()


def test_an_etag_that_has_come_back_is_no_generation(case: S3Case, tmp_path: Path) -> None:
    """Put again twice, an object has the ETag that it had: the time belongs to its generation."""
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"x")
    remote.put_if_absent("a", source)
    etag, _, at = remote.stat("a").generation.partition("@")
    with pytest.raises(ObjectConflict):
        remote.delete_if_unchanged("a", f"{etag}@{int(at) - 1}")
    assert remote.stat("a").size == 1


@pytest.mark.parametrize(("size", "method", "at"), [(1, "PUT", "/a"), (PART + 1, "POST", "uploadId=")])
def test_a_conflict_with_another_request_is_asked_again(
    case: S3Case, tmp_path: Path, size: int, method: str, at: str
) -> None:
    """The user guide: 409 ConditionalRequestConflict, after which the upload is made again, all parts of it."""
    remote, source = case.open(part=PART), tmp_path / "file"
    source.write_bytes(bytes(size))
    assert remote.capabilities.exclusive_put is True
    body = "<Error><Code>ConditionalRequestConflict</Code><Message>m</Message></Error>"
    service.fail(case.url, Fault("status", method, at, status=409, body=body))
    assert remote.put_if_absent("a", source) is True
    assert service.unused(case.url) == 0
    assert remote.stat("a").size == size


def test_an_object_that_others_put_there_is_read_back(case: S3Case, tmp_path: Path) -> None:
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"by hand")
    remote._call("a", "put_object", Body=b"by hand")
    assert remote.stat("a").digest == hashlib.sha256(b"by hand").hexdigest()
    assert remote.put_if_absent("a", source) is False


def test_bytes_that_changed_on_the_way_are_refused(case: S3Case, tmp_path: Path) -> None:
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"x")
    with pytest.raises(RemoteRefused, match="BadDigest"):
        remote._create("a", source, hashlib.sha256(b"y").hexdigest())
    assert list(remote.list()) == []


def test_a_bucket_that_is_not_there(case: S3Case, tmp_path: Path) -> None:
    remote = open_remote(f"s3://no-such-bucket/a?endpoint={case.url}&region=us-east-1&path_style=true")
    with pytest.raises(RemoteRefused, match="NoSuchBucket"):
        list(remote.list())


@pytest.mark.parametrize("what", ["none", "wrong"])
def test_credentials(case: S3Case, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "none":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    else:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONGWRONGWRONG0")
    remote = case.open()
    service.fail(case.url)
    with pytest.raises(RemoteRefused) as caught:
        list(remote.list())
    assert keys.SECRET not in str(caught.value)
    assert "AKIAWRONG" not in str(caught.value)
    assert ("AWS_ACCESS_KEY_ID" in str(caught.value)) is (what == "none")
    assert len(service.requests(case.url)) == (0 if what == "none" else 1)


@pytest.mark.parametrize("address", ["s3:///a", "s3://b/a?endpoint=nothing", "s3://b/a?path_style=yes", "s3://b/a?x=1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="s3://"):
        open_remote(address)


def test_a_slice_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as opened:
        part = Slice(opened, 2, 7)
        assert (part.read(2), part.tell(), part.read(), part.read(1)) == (b"23", 2, b"456", b"")
        assert (part.seek(0, os.SEEK_END), part.seek(-2, os.SEEK_CUR), part.read()) == (5, 3, b"56")


def test_a_closed_remote_opens_again(case: S3Case, tmp_path: Path) -> None:
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"x")
    remote.put_if_absent("a", source)
    remote.close()
    remote.close()
    assert remote.stat("a").size == 1


@pytest.mark.parametrize("after", [0, 1])
def test_a_service_that_is_down_while_it_is_tried_out(case: S3Case, after: int) -> None:
    service.fail(case.url, Fault("status", "PUT", times=99, after=after))
    with pytest.raises(RemoteUnavailable):
        assert case.open().capabilities


def test_the_typed_address_keeps_its_options_for_commands() -> None:
    address = "s3://bucket/runs?endpoint=http://127.0.0.1:1&path_style=true"
    remote = open_remote(address)
    assert (remote.typed, remote.address()) == (address, "s3://bucket/runs/")


def test_an_upload_that_a_rule_of_the_bucket_ended_begins_again(case: S3Case, tmp_path: Path) -> None:
    remote, (source, data) = case.open(part=PART), large(tmp_path)
    assert remote.capabilities.exclusive_put is True
    said = "<Error><Code>NoSuchUpload</Code><Message>The upload may have been aborted</Message></Error>"
    service.fail(case.url, Fault("status", "POST", "uploadId=", status=404, body=said))
    assert remote.put_if_absent("a", source) is True
    assert b"".join(remote.get("a")) == data


def test_what_somebody_replaced_after_the_look_is_not_deleted(
    case: S3Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request itself has the condition: the service has the last word."""
    remote = case.open()
    (tmp_path / "file").write_bytes(b"old")
    remote.put_if_absent("a", tmp_path / "file")
    listed, real = remote.stat("a"), remote._look

    def replaced(name: str) -> Stat:
        found = real(name)
        remote._call(name, "put_object", Body=b"new")
        return found

    monkeypatch.setattr(remote, "_look", replaced)
    with pytest.raises(ObjectConflict):
        remote.delete_if_unchanged("a", listed.generation)
    assert b"".join(case.open().get("a")) == b"new"
