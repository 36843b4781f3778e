"""What only Cloud Storage has: resumable uploads, generations, Google's credentials."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import messages
from tests.conformance.remotes import GcsCase
from tests.standins import gcs, service
from tests.standins.gcs.app import QUANTUM
from tests.standins.service import Fault

from outlast.errors import ObjectConflict, RemoteRefused, RemoteUnavailable, UsageError
from outlast.remote.address import open_remote
from outlast.remote.base import PIECE
from outlast.remote.gcs import SERVICE, GcsRemote


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsCase]:
    case = GcsCase(tmp_path, monkeypatch)
    yield case
    case.close()


def large(tmp_path: Path) -> tuple[Path, bytes]:
    data = os.urandom(3 * PIECE + 17)
    path = tmp_path / "large"
    path.write_bytes(data)
    return path, data


def puts(case: GcsCase) -> int:
    return sum(line.startswith("PUT ") for line in service.requests(case.url))


@pytest.mark.parametrize(
    ("faults", "requests"),
    [
        ([Fault("cut", "PUT")], 3),
        ([Fault("reset", "PUT"), Fault("status", "PUT", status=503)], 4),
        ([Fault("lost", "PUT")], 2),
        ([Fault("status after", "PUT", status=503)], 2),
        ([Fault("cut", "PUT"), Fault("cut", "PUT", after=1)], 5),
        ([Fault("status", "PUT", status=410)], 2),
        ([Fault("reset", "PUT"), Fault("status", "PUT", status=404, times=2)], 4),
    ],
)
def test_an_upload_continues_where_it_was_interrupted(
    case: GcsCase, tmp_path: Path, faults: list[Fault], requests: int
) -> None:
    remote, (source, data) = case.open(), large(tmp_path)
    service.fail(case.url, *faults)
    assert remote.put_if_absent("a", source) is True
    assert puts(case) == requests
    if len(faults) == 1 and faults[0].kind == "cut":
        (last,) = [line for line in service.requests(case.url) if line.endswith(f"-{len(data) - 1}/{len(data)}")][1:]
        assert f" bytes {len(data) // 2 // QUANTUM * QUANTUM}-" in last
    assert remote.stat("a").digest == hashlib.md5(data).hexdigest()
    assert b"".join(remote.get("a")) == data


def test_an_upload_that_came_second_and_whose_reply_is_lost_is_no_conflict(
    case: GcsCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked how far it is, the service says 412: the same bytes are there, of another writer."""
    remote, (source, data), real, pending = case.open(), large(tmp_path), GcsRemote._send_rest, [case.open()]

    def late(self: GcsRemote, *more: Any) -> bool:
        if pending:
            assert pending.pop().put_if_absent("a", source) is True
            service.fail(case.url, Fault("lost", "PUT"))
        return real(self, *more)

    monkeypatch.setattr(GcsRemote, "_send_rest", late)
    assert remote.put_if_absent("a", source) is False
    assert service.unused(case.url) == 0
    assert b"".join(remote.get("a")) == data


def test_an_upload_that_stays_down(case: GcsCase, tmp_path: Path) -> None:
    remote, (source, _) = case.open(), large(tmp_path)
    service.fail(case.url, Fault("status", "PUT", status=503, times=999))
    with pytest.raises(RemoteUnavailable):
        remote.put_if_absent("a", source)
    service.fail(case.url)
    assert list(remote.list()) == []


def test_of_two_uploads_the_second_does_not_overwrite(case: GcsCase, tmp_path: Path) -> None:
    """Both have begun when nothing was there."""
    remote, (source, data) = case.open(), large(tmp_path)
    begun = remote._call(
        "a", "POST", f"/upload{remote._objects}", {"uploadType": "resumable", "ifGenerationMatch": "0"},
        data=json.dumps({"name": remote._prefix + "a"}).encode(), headers={"Content-Type": "application/json"},
    )  # fmt: skip
    assert remote.put_if_absent("a", source) is True
    with source.open("rb") as opened:
        assert remote._send_rest("a", begun.headers["Location"], opened, 0, len(data)) is False
    (tmp_path / "other").write_bytes(data[::-1])
    assert remote._create("a", tmp_path / "other", hashlib.md5(data[::-1]).hexdigest()) is False
    with pytest.raises(ObjectConflict):
        remote.put_if_absent("a", tmp_path / "other")
    assert b"".join(remote.get("a")) == data


@pytest.mark.parametrize("size", [3, 2 * PIECE])
def test_bytes_that_changed_on_the_way_are_refused(case: GcsCase, tmp_path: Path, size: int) -> None:
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(bytes(size))
    with pytest.raises(RemoteRefused, match="MD5"):
        remote._create("a", source, hashlib.md5(b"other").hexdigest())
    assert list(remote.list()) == []


def test_an_upload_elsewhere_gets_no_token(case: GcsCase, tmp_path: Path) -> None:
    remote, (source, _) = case.open(), large(tmp_path)
    elsewhere = {"Location": "http://127.0.0.1:9/upload"}
    service.fail(case.url, Fault("status", "POST", "resumable", status=200, headers=elsewhere))
    with messages.raises(RemoteRefused, "gcs/upload-elsewhere"):
        remote.put_if_absent("a", source)


def test_what_somebody_replaced_meanwhile_is_not_made_young(case: GcsCase, tmp_path: Path) -> None:
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"x")
    remote.put_if_absent("a", source)
    found = remote.stat("a")
    remote.delete_if_unchanged("a", found.generation)
    source.write_bytes(b"other")
    remote.put_if_absent("a", source)
    with pytest.raises(ObjectConflict):
        remote._freshen(found)
    assert remote.stat("a").generation.endswith(".1")


def test_a_redirect_is_not_followed(case: GcsCase) -> None:
    remote, elsewhere = case.open(), {"Location": "http://127.0.0.1:9/"}
    service.fail(case.url, Fault("status", "GET", "/storage/", status=302, headers=elsewhere))
    with pytest.raises(RemoteRefused, match="302"):
        list(remote.list())


def test_a_repeated_put_changes_the_generation_that_a_deletion_compares(case: GcsCase, tmp_path: Path) -> None:
    remote, source = case.open(), tmp_path / "file"
    source.write_bytes(b"x")
    remote.put_if_absent("a", source)
    (listed,) = remote.list()
    assert remote.put_if_absent("a", source) is False
    assert remote.stat("a").generation.split(".")[0] == listed.generation.split(".")[0]
    with pytest.raises(ObjectConflict):
        remote.delete_if_unchanged("a", listed.generation)
    assert b"".join(remote.get("a")) == b"x"


def test_a_bucket_that_is_not_there(case: GcsCase) -> None:
    remote = GcsRemote("no-such-bucket", endpoint=case.url)
    with pytest.raises(RemoteRefused, match="bucket does not exist"):
        list(remote.list())


@pytest.mark.parametrize("what", ["none", "revoked", "wrong"])
def test_credentials(case: GcsCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    account = tmp_path / "account.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    if what != "none":
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        about = json.loads(case.account.read_text())
        if what == "wrong":
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            about["private_key"] = key.private_bytes(*form).decode()
        account.write_text(json.dumps(about))
    remote = case.open()
    if what == "revoked":
        service.fail(case.url, Fault("status", "GET", "/storage/", status=401, times=99))
    with pytest.raises(RemoteRefused) as caught:
        list(remote.list())
    assert gcs.TOKEN not in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)
    if what == "none":
        assert "gcloud auth application-default login" in str(caught.value)
    else:
        assert len(service.requests(case.url)) <= 6


def test_an_emulator_is_spoken_to_without_credentials(case: GcsCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", case.url)
    with pytest.raises(RemoteRefused, match="Login Required"):
        list(open_remote("gs://bucket/a").list())


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    remote = open_remote("gs://bucket/a/b")
    assert isinstance(remote, GcsRemote)
    assert (remote.address("c"), remote._endpoint) == ("gs://bucket/a/b/c", SERVICE)
    for address in ("gs:///a", "gs://bucket/a?endpoint=http://127.0.0.1"):
        with pytest.raises(UsageError, match="gs://"):
            open_remote(address)
