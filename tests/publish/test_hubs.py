"""Publications on the Hugging Face Hub and in Google Drive: real clients, strict stand-ins, faults, kills and races."""

from __future__ import annotations

import collections
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast.cli import main
from outlast.errors import PublishConflict, PublishFailed
from outlast.publish import fetching, manifest
from outlast.remote import parallel
from outlast.remote.drive import DriveRemote
from outlast.remote.huggingface import HuggingFaceRemote
from outlast.remote.network import NetworkRemote
from tests import messages
from tests.conformance.remotes import DriveCase, HubCase
from tests.folders import walk
from tests.publish import making
from tests.standins import drive as drive_standin
from tests.standins import hub as hub_standin
from tests.standins import service
from tests.standins.service import Fault

Case = HubCase | DriveCase
OTHER = {**making.FILES, "README.md": b"another"}


@pytest.fixture(params=[HubCase, DriveCase])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    case = request.param(tmp_path, monkeypatch)
    yield case
    case.close()


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DriveCase]:
    case = DriveCase(tmp_path, monkeypatch)
    yield case
    case.close()


def commits(case: Case) -> int:
    """Requests that make the manifest, or all of a batch, visible."""
    return len([line for line in service.requests(case.url) if f"{case.commits} " in line and case.commits_at in line])


def got(case: Case, folder: Path) -> dict[str, bytes]:
    """What a reader gets; nothing when nothing is visible. Raises when it is not whole."""
    store = case.open(writes=False)
    if fetching.names_in(store) == []:
        return {}
    fetching.fetch(store, making.NAME, folder)
    return {path: (folder / path).read_bytes() for path in making.FILES}


def copies(store: NetworkRemote) -> collections.Counter[str]:
    """How many files of each name there are, also of those that no reader uses."""
    found, after = store._entries("", "")
    while after:
        more, after = store._entries("", after)
        found += more
    return collections.Counter(entry.name for entry in found if entry.name)


def faults_at(case: Case) -> dict[str, Fault]:
    """What goes wrong where the manifest is made; on Drive the fifth upload, after those of four files."""
    at = {"method": case.commits, "contains": case.commits_at, "after": 4 if isinstance(case, DriveCase) else 0}
    return {
        "lost": Fault("lost", **at),
        "500 after": Fault("status after", status=500, **at),
        "503": Fault("status", status=503, **at),
        "429": Fault("status", status=429, headers={"Retry-After": "0"}, **at),
        "moved": Fault("status", status=409 if isinstance(case, HubCase) else 503, **at),
        "403": Fault("status", status=403, **at),
        "cut": Fault("cut", **at),
        "truncated": Fault("truncated", method="GET", contains=case.reads_at),
    }


@pytest.mark.parametrize("kind", ["lost", "500 after", "503", "429", "moved", "cut", "truncated"])
def test_a_request_that_fails_and_is_made_again(case: Case, kind: str, tmp_path: Path) -> None:
    store = case.open()
    service.fail(case.url, faults_at(case)[kind])
    done = making.by_manifest(tmp_path / "run", store)
    assert done.before is False
    assert service.unused(case.url) == 0, "the fault has happened"
    assert got(case, tmp_path / "got") == making.FILES
    assert set(copies(store).values()) == {1}
    assert making.by_manifest(tmp_path / "run", store).before is True


def test_a_refusal_leaves_nothing_visible(case: Case, tmp_path: Path) -> None:
    service.fail(case.url, faults_at(case)["403"])
    with messages.raises(PublishFailed, "publish/nothing-is-visible", error=re.compile(".*403.*"), more=messages.ANY):
        making.by_manifest(tmp_path / "run", case.open())
    service.fail(case.url)
    assert got(case, tmp_path / "got") == {}
    assert making.by_manifest(tmp_path / "run", case.open()).before is False


def test_another_commit_in_between_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub answers 412 by itself: another writer has committed since the head was read."""
    case = HubCase(tmp_path, monkeypatch)
    (tmp_path / "other").write_bytes(b"other")
    store, real, pending = case.open(), HuggingFaceRemote._send, [case.open()]

    def send(self: HuggingFaceRemote, *more: Any) -> bool:
        if self is store and pending:
            pending.pop().put_if_absent("notes", tmp_path / "other")
        return real(self, *more)

    monkeypatch.setattr(HuggingFaceRemote, "_send", send)
    service.fail(case.url)
    assert making.by_manifest(tmp_path / "run", store).before is False
    assert commits(case) == 3
    assert got(case, tmp_path / "got") == making.FILES
    case.close()


def race(case: Case, folder: Path) -> list[str]:
    """Two publishers of one name with different files, at the same time."""
    barrier, came = threading.Barrier(2), ["", ""]
    plans = [making.plan(folder / str(number), files) for number, files in enumerate((making.FILES, OTHER))]

    def publish(number: int) -> None:
        store = case.open()
        barrier.wait()
        try:
            came[number] = str(making.by_manifest(folder / str(number), store, plans[number]).before)
        except PublishConflict:
            came[number] = "conflict"

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return came


def test_of_two_publishers_of_one_name_one_wins(case: Case, tmp_path: Path) -> None:
    if isinstance(case, DriveCase):
        case.search(1000, 0)
    came = race(case, tmp_path)
    assert sorted(came) == ["False", "conflict"]
    if isinstance(case, DriveCase):
        case.search(0, 0)
    winner = came.index("False")
    files = (making.FILES, OTHER)[winner]
    assert got(case, tmp_path / "got") == files
    assert making.by_manifest(tmp_path / str(winner), case.open(), making.plan(tmp_path / "b", files)).before


def in_fork(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        parallel.AT_ONCE = 1  # the same requests in the same order each time
        work()
        os._exit(0)
    except BaseException:
        os._exit(1)


def kill_at(point: int) -> None:
    """Let this process be killed before it sends its request of this number."""
    sent = 0

    def counted(real: Callable) -> Callable:
        def send(self: socket.socket, data: bytes, *rest: object) -> object:
            nonlocal sent
            head = bytes(data[:8192])
            if head.partition(b" ")[0].isalpha() and b" HTTP/1.1\r\n" in head:
                sent += 1
                if sent == point:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(self, data, *rest)

        return send

    for name in ("send", "sendall"):
        setattr(socket.socket, name, counted(getattr(socket.socket, name)))


def killed_at(case: Case, point: int, folder: Path) -> bool:
    """Publish in a process that is killed before its request of this number; returns whether it was."""

    def work() -> None:
        kill_at(point)
        making.by_manifest(folder, case.open())

    status = in_fork(work)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


def continues(case: Case, point: int, folder: Path) -> bool:
    """Kill at a point, look at what readers see, go on. Drive's search for names is blind meanwhile."""
    blind = isinstance(case, DriveCase)
    case.prefix = f"{case.prefix.partition('_')[0]}_{point}"
    if blind:
        case.search(1000, 0)
    killed = killed_at(case, point, folder / "run")
    if blind:
        case.search(0, 0)
    assert got(case, folder / "seen") in ({}, making.FILES)
    if blind:
        case.search(1000, 0)
    making.by_manifest(folder / "run", case.open())
    if blind:
        case.search(0, 0)
    assert got(case, folder / "got") == making.FILES
    assert set(copies(case.open()).values()) == {1}
    return killed


def test_a_publisher_that_is_killed_continues(case: Case, tmp_path: Path) -> None:
    """Before and after the one request that makes it visible."""
    points = (32, 34, 36) if isinstance(case, DriveCase) else (3, 5, 8, 11, 14)
    assert [continues(case, point, tmp_path / str(point)) for point in points] == [True] * len(points)


@pytest.mark.slow
def test_a_publisher_that_is_killed_at_any_request_continues(case: Case, tmp_path: Path) -> None:
    point = 1
    while continues(case, point, tmp_path / str(point)):
        point += 1
    print(f"\n{type(case).__name__}: {point - 1} requests, killed before each")
    assert point > 15


def test_a_search_that_lags_behind(drive: DriveCase, tmp_path: Path) -> None:
    """As long as the listing lags behind for less than `settles`, the younger publisher is told."""
    making.by_manifest(tmp_path / "a", drive.open())
    drive.search(1000, 0.3)
    late = drive.open()
    late.settles = 0.4
    with pytest.raises(PublishConflict):
        making.by_manifest(tmp_path / "b", late, making.plan(tmp_path / "b", OTHER))
    drive.search(0, 0)
    assert copies(drive.open())[manifest.reference_name(making.NAME)] == 2, "the younger one stays, and nobody reads it"
    assert fetching.names_in(drive.open()) == [making.NAME]
    assert got(drive, tmp_path / "got") == making.FILES


def test_a_search_that_lags_behind_for_longer(drive: DriveCase, tmp_path: Path) -> None:
    """What docs/how-to/publish.md says: both are told that theirs is visible; later all readers use the older one."""
    making.by_manifest(tmp_path / "a", drive.open())
    drive.search(1000, 1000)
    other = making.plan(tmp_path / "b", OTHER)
    assert making.by_manifest(tmp_path / "b", drive.open(), other).before is False
    drive.search(0, 0)
    assert got(drive, tmp_path / "got") == making.FILES
    with pytest.raises(PublishConflict):
        making.by_manifest(tmp_path / "b", drive.open(), other)


def test_what_somebody_deleted_is_made_again(drive: DriveCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's id is that of a file in the trash: another one is taken."""
    making.by_manifest(tmp_path, drive.open())
    (blob,) = (name for name in copies(drive.open()) if making.plan(tmp_path).files[0].sha256[2:] in name)
    store = drive.open()
    service.fail(drive.url)
    assert b"".join(store.get(blob)) == making.FILES[making.plan(tmp_path).files[0].path]
    (line,) = (line for line in service.requests(drive.url) if "alt=media" in line)
    trashed = line.partition("/files/")[2].partition("?")[0]
    store._json("", "PATCH", f"/drive/v3/files/{trashed}", {}, data=b'{"trashed": true}', headers={})
    assert making.by_manifest(tmp_path, drive.open()).sent == 1
    assert got(drive, tmp_path / "got") == making.FILES


@pytest.fixture
def address(case: Case, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a user types."""
    if isinstance(case, DriveCase):
        monkeypatch.setenv("OUTLAST_DRIVE_ENDPOINT", case.url)
        monkeypatch.setattr(DriveRemote, "settles", 0.0)
        return f"drive://{drive_standin.FOLDER}-{case.prefix}/results"
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", case.url)
    return f"hf://models/{hub_standin.REPOSITORY}/{case.prefix}"


def test_a_run_goes_out_and_comes_back(
    case: Case, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    walk(tmp_path / "runs", stop=10)
    assert main(["publish", "r", "--to", address, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert main(["publish", "r", "--to", address]) == 0
    out = capsys.readouterr().out
    last = out.splitlines()[-1].removeprefix("Get it: outlast ").split()
    name = last[1]
    (row,) = (line for line in plan.splitlines() if "weights/last.safetensors" in line)
    assert ("store" if isinstance(case, DriveCase) else f"{name}/") in row
    assert last == ["publish", name, "--from", address, "--output", name]
    assert main(last) == 0
    messages.said(capsys.readouterr().out, "publish/fetched", name=name)
    files = [path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert {"README.md", "MANIFEST.json", "train/weights/last.safetensors"} <= {path.as_posix() for path in files}
    assert main(["publish", "--from", address]) == 0
    assert capsys.readouterr().out.splitlines() == [name]
    assert main(["publish", "r", "--to", address]) == 0
    messages.said(capsys.readouterr().out, "publish/visible-already", reference=re.compile(rf"\S*{name}\S*"))
