"""Runs that are pushed to every kind of store: real clients over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import messages
from tests.conformance.remotes import CASES
from tests.folders import place, steps, told, walk
from tests.remote.remotes import push_all, pusher
from tests.remote.test_follow import lines, train

from outlast.errors import RunBusy
from outlast.remote.base import Remote
from outlast.remote.gather import bring_home
from outlast.remote.revision import PushedRun
from outlast.run import arguments


@pytest.fixture(params=[name for name in CASES if name != "folder"])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    case = CASES[request.param](tmp_path, monkeypatch)
    yield case
    case.close()


def names(remote: Remote, folder: str) -> set[str]:
    return {entry.name.rpartition("/")[2] for entry in remote.list(f"r/{folder}/")}


def test_a_run_continues_on_machine_after_machine(case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "open_remote", lambda _: case.open())
    for number, stop in enumerate((3, 6, 0)):
        run = train(tmp_path / f"machine{number}", stop=stop)
        assert run.resumed_from == (None, 3, 6)[number]
    assert lines(tmp_path / "machine2") == list(range(1, 11))
    found = PushedRun(case.open(), "r")
    assert sorted(found.revision.checkpoints) == steps(tmp_path / "machine2")
    assert found.revision.blobs <= names(case.open(), "blobs")
    messages.unsaid(told(tmp_path / "machine2"), "remote/nothing-is-pushed-for-now")


def test_of_two_machines_one_continues_and_unneeded_objects_are_deleted(case: Any, tmp_path: Path) -> None:
    walk(tmp_path / "a", stop=8)
    remote = case.open()
    push_all(tmp_path / "a", remote)
    bring_home(place(tmp_path / "b"), [], [PushedRun(remote, "r")])
    first, second = pusher(tmp_path / "a", remote, attempt="aa"), pusher(tmp_path / "b", remote, attempt="bb")
    second.push()
    with pytest.raises(RunBusy):
        first.push()
    first.close()
    walk(tmp_path / "b", stop=14)
    while wanted := second.wanted():
        second.push(wanted[0])
    second.tidy()
    second.close()
    assert sorted(PushedRun(remote, "r").revision.checkpoints) == [10, 12, 14]
    if remote.capabilities.conditional_delete:
        assert len(names(remote, "revisions")) < 10
