"""The log of a session in a folder while it grows, and the wait for its end."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from outlast.folder import records
from outlast.launch import sessionfolders
from outlast.launch.provider import Handle, State
from outlast.launch.sessionfolders import FolderProvider, lines


def test_a_line_that_is_still_written_is_not_shown(tmp_path: Path) -> None:
    place, position = tmp_path / "log.txt", [0]
    assert list(lines(place, position, over=True)) == []
    place.write_text("one\ntw")
    assert list(lines(place, position, over=False)) == ["one"]
    assert list(lines(place, position, over=False)) == []
    with place.open("a") as file:
        file.write("o\nthree")
    assert list(lines(place, position, over=False)) == ["two"]
    assert list(lines(place, position, over=True)) == ["three"]
    assert position == [13]


def test_a_line_without_end_is_shown_in_pieces(tmp_path: Path) -> None:
    place, position = tmp_path / "log.txt", [0]
    place.write_bytes(b"x" * (2**16 + 5) + b"\xff")
    found = list(lines(place, position, over=False))
    assert [len(each) for each in found] == [2**16]
    assert list(lines(place, position, over=True)) == ["x" * 5 + "\ufffd"]
    (tmp_path / "link").symlink_to(place)
    assert list(lines(tmp_path / "link", [0], over=True)) == [], "a log is no link"


def test_an_end_is_seen_before_the_next_query(tmp_path: Path) -> None:
    threading.Timer(0.3, lambda: (tmp_path / "end.json").write_text("{}")).start()
    began = time.monotonic()
    sessionfolders._wait_for_end(tmp_path, 30.0)
    assert 0.2 < time.monotonic() - began < 10
    began = time.monotonic()
    sessionfolders._wait_for_end(tmp_path, 0.4)  # an end that does not count yet
    assert time.monotonic() - began >= 0.4


def test_a_training_that_has_said_its_exit_code_is_looked_at_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks(seconds: float) -> list[float]:
        waited: list[float] = []
        now = iter(range(1000))
        monkeypatch.setattr(sessionfolders.time, "monotonic", lambda: float(next(now)))
        monkeypatch.setattr(sessionfolders.time, "sleep", waited.append)
        sessionfolders._wait_for_end(tmp_path, seconds)
        monkeypatch.undo()
        return waited

    assert looks(3.0) == [0.5, 0.5]
    (tmp_path / "exit").write_text("75")
    assert looks(3.0) == [0.02, 0.02]
    os.utime(tmp_path / "exit", (1, 1))  # of a process that does not end
    assert looks(3.0) == [0.5, 0.5]
    (tmp_path / "exit").write_text("75")
    (tmp_path / "end.json").write_text("{}")  # an end that does not count yet
    assert looks(3.0) == [0.5, 0.5]


class Sessions(FolderProvider):
    """Sessions whose state a test says."""

    title, looks, now = "a test", (0.0, 1.0), State("running")

    def state(self, handle: Handle) -> State | None:
        return self.now


def test_the_files_of_a_session_that_runs_are_neither_given_nor_deleted(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, records.table())
    for name in ("work", "code", "inputs"):
        (tmp_path / "s" / name).mkdir(parents=True)
        (tmp_path / "s" / name / "file").write_text("kept")
    sessions.clear({"session": "s"})
    assert list(sessions.outputs({"session": "s"})) == []
    assert (tmp_path / "s/work/file").read_text() == "kept"
    sessions.now = State("completed")
    assert [each.name for each in sessions.outputs({"session": "s"})] == ["file"]
    sessions.clear({"session": "s"})
    assert not (tmp_path / "s/work").exists()
