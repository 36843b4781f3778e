"""What only Drive has: several files of one name, ids that are made beforehand, access tokens."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import messages
from tests.conformance.remotes import DriveCase
from tests.standins import drive as standin
from tests.standins import service
from tests.standins.service import Fault

from outlast.errors import ObjectConflict, ObjectMissing, RemoteRefused, RemoteUnavailable, UsageError
from outlast.remote.address import open_remote
from outlast.remote.base import PIECE
from outlast.remote.drive import DriveRemote

NAMES = ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN")


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DriveCase]:
    case = DriveCase(tmp_path, monkeypatch)
    yield case
    case.close()


def file(tmp_path: Path, data: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def asked(case: DriveCase, text: str) -> int:
    return len([line for line in service.requests(case.url) if text in line])


@pytest.mark.parametrize("same", [True, False])
def test_of_two_files_of_one_name_all_read_the_oldest(
    case: DriveCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """Both writers have looked before either writes."""
    first, second = case.open(), case.open()
    ours, theirs = file(tmp_path, b"ours"), file(tmp_path, b"ours" if same else b"theirs", "theirs")
    real, pending = DriveRemote._id, [theirs]

    def late(self: DriveRemote, name: str, digest: str) -> str:
        if pending:
            assert second.put_if_absent("a", pending.pop()) is True
        return real(self, name, digest)

    monkeypatch.setattr(DriveRemote, "_id", late)
    if same:
        assert first.put_if_absent("a", ours) is False
    else:
        with pytest.raises(ObjectConflict):
            first.put_if_absent("a", ours)
    for remote in (first, second, case.open()):
        assert b"".join(remote.get("a")) == theirs.read_bytes()
        assert [entry.size for entry in remote.list()] == [theirs.stat().st_size]


@pytest.mark.parametrize("size", [10, PIECE + 10])
def test_a_repeated_request_makes_one_file(case: DriveCase, tmp_path: Path, size: int) -> None:
    """The reply is lost, and a search does not know the file yet."""
    remote, source = case.open(), file(tmp_path, os.urandom(size))
    lost = Fault("lost", method="POST" if size == 10 else "PUT", contains="/upload/")
    blind = Fault("status", method="GET", contains="q=", status=200, body='{"files": []}', after=1)
    service.fail(case.url, lost, blind)
    assert remote.put_if_absent("a", source) is (size != 10)
    service.fail(case.url)
    list(remote.list())
    assert b"".join(remote.get("a")) == source.read_bytes()
    with messages.raises(RemoteRefused, "drive/not-deleted"):
        remote.delete_if_unchanged("a", remote.stat("a").generation)


def test_an_upload_continues_where_it_was_interrupted(case: DriveCase, tmp_path: Path) -> None:
    remote, data = case.open(), os.urandom(3 * PIECE)
    service.fail(case.url, Fault("cut", method="PUT"))
    assert remote.put_if_absent("a", file(tmp_path, data)) is True
    assert b"".join(remote.get("a")) == data
    assert asked(case, "PUT ") == 3


@pytest.mark.parametrize("faults", [[410], [503, 404, 404]])
def test_an_upload_that_is_gone_begins_again(case: DriveCase, tmp_path: Path, faults: list[int]) -> None:
    remote, data = case.open(), os.urandom(3 * PIECE)
    service.fail(case.url, *[Fault("status", method="PUT", status=status) for status in faults])
    assert remote.put_if_absent("a", file(tmp_path, data)) is True
    assert service.unused(case.url) == 0
    assert asked(case, "uploadType=resumable&fields") == 2
    assert b"".join(remote.get("a")) == data


@pytest.mark.parametrize("size", [10, PIECE + 10])
def test_a_file_that_changed_while_it_was_sent(case: DriveCase, tmp_path: Path, size: int) -> None:
    with pytest.raises(RemoteRefused, match="changed meanwhile"):
        case.open()._create("a", file(tmp_path, bytes(size)), "0" * 64)


def test_a_token_is_used_until_it_is_refused(case: DriveCase) -> None:
    remote = case.open()
    for _ in range(3):
        list(remote.list())
    assert asked(case, "/token") == 1
    service.fail(case.url, Fault("status", method="GET", status=401))
    assert list(remote.list()) == []
    assert asked(case, "/token") == 1


def test_the_token_goes_to_the_service_alone(case: DriveCase, tmp_path: Path) -> None:
    remote, elsewhere = case.open(), {"Location": "http://127.0.0.1:9/upload"}
    service.fail(case.url, Fault("status", "POST", "resumable", status=200, headers=elsewhere))
    with pytest.raises(RemoteRefused, match="no upload of its own"):
        remote.put_if_absent("a", file(tmp_path, bytes(PIECE + 1)))
    service.fail(case.url, Fault("status", "GET", "q=", status=302, headers=elsewhere))
    with pytest.raises(RemoteRefused, match="302"):
        list(remote.list())


def test_a_quota(case: DriveCase, tmp_path: Path) -> None:
    remote, source = case.open(), file(tmp_path, b"x")

    def said(reason: str) -> str:
        return json.dumps({"error": {"code": 403, "message": reason, "errors": [{"reason": reason}]}})

    busy = Fault("status", method="POST", contains="/upload/", status=403, body=said("userRateLimitExceeded"))
    service.fail(case.url, busy)
    assert remote.put_if_absent("a", source) is True
    full = Fault("status", method="POST", contains="/upload/", status=403, body=said("storageQuotaExceeded"), times=9)
    service.fail(case.url, full)
    with messages.raises(RemoteRefused, "drive/quota"):
        remote.put_if_absent("b", source)
    assert asked(case, "/upload/") == 1


def test_credentials_that_google_refuses(case: DriveCase, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("REFRESH_TOKEN", "1//gone"), ("CLIENT_SECRET", "wrong")):
        with monkeypatch.context() as patch:
            patch.setenv(f"OUTLAST_DRIVE_{name}", value)
            with pytest.raises(RemoteRefused, match="invalid_") as caught:
                list(case.open().list())
            assert value not in str(caught.value)
    service.fail(case.url, Fault("status", method="POST", contains="/token", status=503, times=99))
    with pytest.raises(RemoteUnavailable):
        list(case.open().list())


def test_credentials_in_a_file(case: DriveCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"OUTLAST_DRIVE_{name}")
    path = tmp_path / "drive.json"
    monkeypatch.setenv("OUTLAST_DRIVE_CREDENTIALS", str(path))
    with messages.raises(RemoteRefused, "drive/no-credentials"):
        list(case.open().list())
    values = {"client_id": standin.CLIENT, "client_secret": standin.SECRET, "refresh_token": standin.REFRESH}
    path.write_text(json.dumps({"type": "authorized_user", **values}))
    path.chmod(0o644)
    with pytest.raises(RemoteRefused, match="chmod 600"):
        list(case.open().list())
    path.chmod(0o600)
    assert list(case.open().list()) == []
    for bad in ("", "[]", '{"client_id": "x"}'):
        path.write_text(bad)
        with messages.raises(RemoteRefused, "drive/malformed-credentials") as caught:
            list(case.open().list())
        assert standin.SECRET not in str(caught.value)


def test_a_folder_that_the_client_does_not_see(case: DriveCase, tmp_path: Path) -> None:
    remote = DriveRemote("another", endpoint=case.url)
    for ask in (
        lambda: list(remote.list()),
        lambda: remote.stat("a"),
        lambda: remote.put_if_absent("a", tmp_path / "a"),
    ):
        (tmp_path / "a").write_bytes(b"x")
        with messages.raises(RemoteRefused, "drive/scope-missing") as caught:
            ask()
        assert not isinstance(caught.value, ObjectMissing)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_remote("drive://1AbC-x_/runs/x").address("a") == "drive://1AbC-x_/runs/x/a"
    assert open_remote("drive://root").address("a").split("/") == ["drive:", "", "root", "a"]
    for bad in ("drive://", "drive://a b/c"):
        with messages.raises(UsageError, "drive/malformed-address"):
            open_remote(bad)
    monkeypatch.setenv("OUTLAST_DRIVE_ENDPOINT", "http://example.org")
    with messages.raises(UsageError, "drive/no-link"):
        open_remote("drive://root")
