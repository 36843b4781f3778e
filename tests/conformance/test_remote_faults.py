"""What goes wrong between a driver and its service: every remote behind HTTP, over real sockets."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import messages
from tests.conformance.remotes import CASES, NetworkCase
from tests.standins import service
from tests.standins.service import Fault

from outlast.errors import ObjectMissing, RemoteRefused, RemoteUnavailable
from outlast.remote import retry
from outlast.remote.base import PIECE
from outlast.remote.network import NetworkRemote

HTTP = [name for name, case in CASES.items() if getattr(case, "commits", "")]
DATA = b"0123456789" * 1000


@pytest.fixture(params=HTTP)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NetworkCase]:
    case = CASES[request.param](tmp_path, monkeypatch)
    yield case
    case.close()


@pytest.fixture
def remote(case: NetworkCase) -> NetworkRemote:
    """One that has spoken to its service already, so that faults meet what a test asks for."""
    remote = case.open()
    assert remote.capabilities.exclusive_put is case.exclusive
    assert list(remote.list()) == []
    return remote


def file(tmp_path: Path, data: bytes = DATA, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def contents(remote: NetworkRemote, name: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(remote.get(name, start, stop))


def asked(case: NetworkCase, method: str, at: str = "") -> list[str]:
    return [line for line in service.requests(case.url) if line.startswith(f"{method} ") and at in line]


BEFORE = [
    Fault("status", status=500),
    Fault("status", status=503, times=3),
    Fault("status", status=429, headers={"Retry-After": "0"}),
    Fault("reset", times=2),
]


@pytest.mark.parametrize("fault", BEFORE, ids=lambda fault: f"{fault.kind} {fault.status}")
@pytest.mark.parametrize("method", ["any", "commit"])
def test_a_put_that_fails_before_it_is_done(
    case: NetworkCase, remote: NetworkRemote, tmp_path: Path, fault: Fault, method: str
) -> None:
    at = {"method": case.commits, "contains": case.commits_at} if method == "commit" else {}
    service.fail(case.url, Fault(**{**vars(fault), **at}))
    assert remote.put_if_absent("runs/a", file(tmp_path)) is True
    assert service.unused(case.url) == 0
    assert contents(remote, "runs/a") == DATA


@pytest.mark.parametrize(
    "fault",
    [Fault("status after", status=503), Fault("status after", status=500), Fault("lost")],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_a_put_that_was_done_although_it_seemed_to_fail(
    case: NetworkCase, remote: NetworkRemote, tmp_path: Path, fault: Fault
) -> None:
    """The verdict is what is there. It is not written twice."""
    service.fail(case.url, Fault(**{**vars(fault), "method": case.commits, "contains": case.commits_at}))
    assert remote.put_if_absent("a", file(tmp_path)) is False
    uploads = [
        line for line in asked(case, case.commits, case.commits_at) if "uploadId" not in line and "uploads" not in line
    ]
    assert len(uploads) == 1
    assert [(entry.name, entry.size) for entry in remote.list()] == [("a", len(DATA))]
    assert contents(remote, "a") == DATA


def test_a_service_that_contradicts_itself_is_not_asked_for_ever(
    case: NetworkCase, remote: NetworkRemote, tmp_path: Path
) -> None:
    """Nothing is there, and it says that something is."""
    service.fail(case.url, Fault("status", method=case.commits, contains=case.commits_at, status=case.taken, times=99))
    with messages.raises(RemoteUnavailable, "remote/neither-there-nor-new"):
        remote.put_if_absent("a", file(tmp_path))
    assert len(asked(case, case.commits, case.commits_at)) == retry.TRIES + 1


def test_a_precondition_failed_by_a_repeated_request(case: NetworkCase, remote: NetworkRemote, tmp_path: Path) -> None:
    """412, and then nothing is there: it was deleted meanwhile, and is written."""
    service.fail(case.url, Fault("status", method=case.commits, contains=case.commits_at, status=case.taken))
    assert remote.put_if_absent("a", file(tmp_path)) is True
    assert contents(remote, "a") == DATA


@pytest.mark.parametrize("status", [401, 403])
def test_what_is_not_allowed_is_not_asked_again(
    case: NetworkCase, remote: NetworkRemote, tmp_path: Path, status: int
) -> None:
    source = file(tmp_path)
    for method, ask in {
        case.commits: lambda: remote.put_if_absent("a", source),
        "": lambda: remote.stat("a"),
        "GET": lambda: contents(remote, "a"),
    }.items():
        service.fail(case.url, Fault("status", method=method, contains=case.about, status=status, times=99))
        with pytest.raises(RemoteRefused) as caught:
            ask()
        assert str(status) in str(caught.value)
        assert service.unused(case.url) >= 99 - 3  # google-auth asks twice more after 401, with a new token
    service.fail(case.url)
    with pytest.raises(ObjectMissing):
        remote.stat("a")


def test_what_a_service_says_is_scrubbed(case: NetworkCase, remote: NetworkRemote) -> None:
    secrets = ["AKIAIOSFODNN7EXAMPLE", "ya29.abcdef", "hunter2", "me:pass@", "deadbeef"]
    words = "{} Bearer {} password={} http://{}x X-Amz-Signature={} \x7f\x9b31m".format(*secrets)
    xml = f"<Error><Code>AccessDenied</Code><Message>{words}</Message></Error>"
    body = xml if case.commits == "PUT" else json.dumps({"error": {"message": words}})
    service.fail(case.url, Fault("status", method="GET", status=403, body=body, times=9))
    with pytest.raises(RemoteRefused) as caught:
        list(remote.list())
    assert "***" in caught.value.reason
    for secret in secrets:
        assert secret not in str(caught.value) + caught.value.reason
    assert not {"\x7f", "\x9b"} & set(str(caught.value) + caught.value.reason)


def test_a_service_that_stays_down(case: NetworkCase, remote: NetworkRemote, tmp_path: Path) -> None:
    service.fail(case.url, Fault("status", status=503, times=99))
    with pytest.raises(RemoteUnavailable):
        remote.stat("a")
    assert len(service.requests(case.url)) == retry.TRIES
    service.fail(case.url, Fault("status", method=case.commits, contains=case.commits_at, status=503, times=99))
    with pytest.raises(RemoteUnavailable):
        remote.put_if_absent("a", file(tmp_path))
    assert len(asked(case, case.commits, case.commits_at)) == retry.TRIES
    service.fail(case.url)
    assert list(remote.list()) == []


def test_the_service_says_when_to_ask_again(case: NetworkCase, remote: NetworkRemote, tmp_path: Path) -> None:
    remote.put_if_absent("a", file(tmp_path))
    service.fail(case.url, Fault("status", status=429, headers={"Retry-After": "1"}))
    begun = time.monotonic()
    assert remote.stat("a").size == len(DATA)
    assert time.monotonic() - begun >= 1
    service.fail(case.url, Fault("status", status=429, headers={"Retry-After": "3600"}, times=9))
    with pytest.raises(RemoteUnavailable) as caught:
        remote.stat("a")
    assert caught.value.after == 3600
    assert len(service.requests(case.url)) == 1


@pytest.mark.parametrize("kind", ["truncated", "reset", "lost", "status"])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (5, 9005)])
def test_a_read_that_is_interrupted_continues(
    case: NetworkCase, remote: NetworkRemote, tmp_path: Path, kind: str, start: int, stop: int | None
) -> None:
    remote.put_if_absent("a", file(tmp_path))
    service.fail(case.url, Fault(kind, method="GET", contains=case.reads_at, times=3))
    assert contents(remote, "a", start, stop) == DATA[start:stop]
    assert service.unused(case.url) == 0


def test_what_was_read_is_not_read_again(case: NetworkCase, remote: NetworkRemote, tmp_path: Path) -> None:
    data = os.urandom(4 * PIECE)
    remote.put_if_absent("a", file(tmp_path, data))
    service.fail(case.url, Fault("truncated", method="GET", contains=case.reads_at))
    pieces = remote.get("a")
    first = next(pieces)
    rest = b"".join(pieces)
    assert first + rest == data
    assert len(asked(case, "GET", case.reads_at)) == 2


def test_a_read_continues_with_the_same_object_or_not_at_all(
    case: NetworkCase, remote: NetworkRemote, tmp_path: Path
) -> None:
    data = os.urandom(4 * PIECE)
    remote.put_if_absent("a", file(tmp_path, data))
    if not remote.capabilities.conditional_delete:
        pytest.skip("it declares that it deletes nothing")
    service.fail(case.url, Fault("truncated", method="GET", contains=case.reads_at))
    pieces, got = remote.get("a"), b""
    got += next(pieces)
    remote.delete_if_unchanged("a", remote.stat("a").generation)
    remote.put_if_absent("a", file(tmp_path, os.urandom(4 * PIECE), "other"))
    with pytest.raises(RemoteRefused):
        for piece in pieces:
            got += piece
    assert data.startswith(got)


def test_a_slow_peer_is_asked_again(case: NetworkCase, remote: NetworkRemote, tmp_path: Path) -> None:
    remote.put_if_absent("a", file(tmp_path))
    impatient = case.open(timeout=0.4)
    assert contents(impatient, "a") == DATA
    service.fail(case.url, Fault("slow", method="GET", contains=case.reads_at, seconds=1.5))
    begun = time.monotonic()
    assert contents(impatient, "a") == DATA
    assert service.unused(case.url) == 0
    assert time.monotonic() - begun < 1.4
    assert contents(case.open(timeout=10), "a") == DATA


def test_a_listing_whose_pages_fail(case: NetworkCase, remote: NetworkRemote, tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(9)]
    for name in names:
        remote.put_if_absent(name, file(tmp_path))
    service.fail(case.url, Fault("status", method="GET"), Fault("truncated", method="GET", after=1))
    assert sorted(entry.name for entry in remote.list()) == names
    assert service.unused(case.url) == 0


def test_a_deletion_whose_reply_is_lost(case: NetworkCase, remote: NetworkRemote, tmp_path: Path) -> None:
    if not remote.capabilities.conditional_delete:
        pytest.skip("it declares that it deletes nothing")
    remote.put_if_absent("a", file(tmp_path))
    service.fail(case.url, Fault("lost", method=case.deletes, contains=case.commits_at))
    remote.delete_if_unchanged("a", remote.stat("a").generation)
    assert service.unused(case.url) == 0
    with pytest.raises(ObjectMissing):
        remote.stat("a")
    with pytest.raises(ObjectMissing):
        remote.delete_if_unchanged("a", "1")


def test_an_unreachable_service(case: NetworkCase) -> None:
    case.url = "http://127.0.0.1:9"
    remote = case.open(timeout=1)
    case.url = ""
    with pytest.raises(RemoteUnavailable):
        remote.stat("a")


def test_putting_again_makes_it_young_although_the_reply_is_lost(
    case: NetworkCase, remote: NetworkRemote, tmp_path: Path
) -> None:
    remote.put_if_absent("a", file(tmp_path))
    before = remote.stat("a")
    service.fail(case.url, *[Fault("lost", method=method) for method in ("POST", "PUT", "PATCH")])
    assert remote.put_if_absent("a", file(tmp_path)) is False
    service.fail(case.url)
    assert (remote.stat("a").generation != before.generation) is remote.capabilities.freshens
    assert remote.stat("a").digest == hashlib.new(remote.capabilities.digest, DATA).hexdigest()
    assert contents(remote, "a") == DATA
