"""A publisher that is killed before each of its sends to a service: real clients, real sockets, and the service lives.

pytest tests/durability/publish/test_crash_stores.py -m slow -s     prints the numbers of docs/log.md
"""

from __future__ import annotations

import os
import signal
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest

from outlast.publish import fetching
from outlast.remote.base import Remote
from tests.conformance.remotes import CASES
from tests.durability.publish import publishers, sweep
from tests.publish import making

KINDS = ["s3", "gs", "sftp"]


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = CASES[request.param](tmp_path, monkeypatch)
    yield made
    made.close()


def count_sends(kill_at: int, counted: list[int]) -> None:
    """Let this process be killed before it sends for the time of this number; 0: never."""

    def wrapped(real: Any) -> Any:
        def send(self: socket.socket, *rest: Any) -> Any:
            counted[0] += 1
            if counted[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, *rest)

        return send

    for name in ("send", "sendall"):
        setattr(socket.socket, name, wrapped(getattr(socket.socket, name)))


def at_an_empty_place(case: Any, folder: Path) -> None:
    """Let what the case opens from now on be empty."""
    case.prefix, case.folder = f"t{uuid.uuid4().hex}", folder
    folder.mkdir()


def published(case: Any, folder: Path, kill_at: int) -> tuple[int, int]:
    """Publish in a fork; returns its wait status and how often it has sent."""

    def work() -> None:
        counted = [0]
        count_sends(kill_at, counted)
        making.by_manifest(folder, case.open())
        (folder / "sends").write_text(str(counted[0]))

    status = sweep.in_fork(work)
    return status, int((folder / "sends").read_text()) if status == 0 else 0


def wrong(store: Remote, target: Path) -> str:
    """What is wrong with a publication that is visible; every byte is compared."""
    if making.NAME not in fetching.names_in(store):
        return ""
    fetching.fetch(store, making.NAME, target)
    return next((path for path, data in making.FILES.items() if (target / path).read_bytes() != data), "")


def _killed(case: Any, tmp_path: Path, points: int) -> list[str]:
    """Kill at as many points, evenly; returns what was wrong."""
    at_an_empty_place(case, tmp_path / "whole")
    status, total = published(case, tmp_path / "whole", 0)
    assert status == 0
    numbers = sorted({1 + number * (total - 1) // (points - 1) for number in range(points)}) if points else None
    found, visible = [], 0
    for number in numbers or range(1, total + 1):
        folder = tmp_path / str(number)
        at_an_empty_place(case, folder)
        status, _ = published(case, folder, number)
        if status and not os.WIFSIGNALED(status):
            found.append(f"{number}: ends with {status}")
        store = case.open()
        if words := wrong(store, folder / "killed"):
            found.append(f"{number}: {words}")
        visible += making.NAME in fetching.names_in(store)
        making.by_manifest(folder, store)
        if (words := wrong(store, folder / "again")) or not (folder / "again").is_dir():
            found.append(f"{number}, published again: {words or 'nothing is visible'}")
        store.close()
    count = len(numbers or range(total))
    print(f"\n{type(case).__name__}: {count} of {total} sends, {visible} after it was visible, {len(found)} wrong")
    return found


def test_killed_before_some_sends(case: Any, tmp_path: Path) -> None:
    assert _killed(case, tmp_path, 4) == []


@pytest.mark.slow
def test_killed_before_each_send(case: Any, tmp_path: Path) -> None:
    assert _killed(case, tmp_path, 0) == []


def test_mutant_reference_first_is_caught_at_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep has teeth: a manifest before its blobs is visible and incomplete."""
    case = CASES["s3"](tmp_path, monkeypatch)
    at_an_empty_place(case, tmp_path / "first")
    store = case.open()
    reference = publishers.Reversed(making.ManifestReference(store, "x", tmp_path / "first/scratch"))
    reference.prepare(making.plan(tmp_path / "first"))
    with pytest.raises(Exception, match="no object|NoSuchKey|There is no"):
        wrong(store, tmp_path / "first/killed")
    case.close()
