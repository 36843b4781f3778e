"""The events of an attempt: one line each with a clock, bounded, whatever the disk and whoever wrote the file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from outlast.folder.layout import RunFolder
from outlast.tracking import EventLog, RunFacts, SaveFacts, TimeSpent, events, read_events, spent_in
from outlast.tracking.sinks import Queue

ID = "ab" * 16
SPENT = TimeSpent(starting=1.0, training=60.0, data=20.0, evaluation=10.0, saves=5.0, other=4.0)


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    (tmp_path / "attempts").mkdir()
    return RunFolder(tmp_path)


def begun(place: RunFolder) -> EventLog:
    log = EventLog(place.events(1), ID)
    log.time = 1000.0
    log.started(RunFacts("r", place.path, 1, 0, 10), {})
    return log


def test_every_event_is_a_line_with_its_time(place: RunFolder) -> None:
    log = begun(place)
    log.time = 1001.5
    log.rewound(0)
    log.told("warning", "look\x1b out")
    log.evaluated(3, 0.25)
    log.saved(SaveFacts(3, "time", seconds=0.5, size=2000, held=0.01, staged=1500))
    log.artifact("curves.png", place.artifacts / "curves.png")
    log.stopping("preempted", "SIGTERM received")
    log.timed(3, 12.5, SPENT)
    log.ended("preempted", 3, 10)
    log.closed()
    found = read_events(place, 1, ID)
    assert [event["event"] for event in found] == [
        "begun", "rewound", "told", "evaluated", "saved", "artifact", "stopping", "timed", "ended",
    ]  # fmt: skip
    assert [event["time"] for event in found] == [1000.0] + [1001.5] * 8
    assert found[0]["attempt"] == ID
    assert found[2]["sentence"] == "look\x1b out"
    assert b"\x1b" not in place.events(1).read_bytes()
    saved = {"event": "saved", "time": 1001.5, "step": 3, "reason": "time", "seconds": 0.5, "held": 0.01}
    assert found[4] == saved | {"bytes": 2000, "staged": 1500}
    assert found[7]["spent"]["data"] == 20.0
    assert spent_in(place, 1, ID) == SPENT


def test_events_of_another_attempt_are_not_this_ones(place: RunFolder) -> None:
    begun(place).timed(1, 1.0, SPENT)
    for other in ("cd" * 16, None):
        assert read_events(place, 1, other) == []
        assert spent_in(place, 1, other) is None
    assert read_events(place, 2, ID) == []


def test_a_file_at_its_path_is_replaced_and_a_link_not_followed(place: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    place.events(1).symlink_to(tmp_path / "thesis")
    begun(place)
    place.events(2).hardlink_to(tmp_path / "thesis")
    EventLog(place.events(2), ID).started(RunFacts("r", place.path, 2, 0), {})
    assert (tmp_path / "thesis").read_text() == "mine"
    assert not place.events(1).is_symlink()
    place.events(3).symlink_to(place.events(1))
    assert read_events(place, 3, ID) == []


def test_lines_of_others_are_left_out_or_typed(place: RunFolder) -> None:
    begun(place).timed(1, 1.0, SPENT)
    with place.events(1).open("ab") as file:
        file.write(b'{"event": "timed", "time": 1, "spent": {"training": "x"}}\n[]\n{"event": "timed"}\n\xff\n')
        file.write(b'{"event": "saved", "time": 1, "bytes": -1}\n' + b"[" * 5000 + b"\n")
        file.write(b'{"event": "something newer", "time": 2, "of": [1]}\n{"event": "torn"')
    assert [event["event"] for event in read_events(place, 1, ID)] == ["begun", "timed", "something newer"]
    assert spent_in(place, 1, ID) == SPENT


@pytest.mark.parametrize("value", [9e307, 1e300, -1, 1e12 + 1e6])
def test_no_attempt_takes_such_a_time(place: RunFolder, value: float) -> None:
    log = begun(place)
    log.timed(1, 1.0, SPENT)
    log.timed(2, 1.0, SPENT._replace(training=value))
    assert spent_in(place, 1, ID) == SPENT


@pytest.mark.parametrize("line", [b"", b"{}", b"x"])
def test_a_look_at_a_file_ends_after_so_many_lines_that_do_not_count(
    place: RunFolder, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, real = [], events._parsed
    monkeypatch.setattr(events, "_parsed", lambda found, path: looked.append(found) or real(found, path))
    begun(place).timed(1, 1.0, SPENT)
    with place.events(1).open("ab") as file:
        file.write((line + b"\n") * 20_000)
        file.write(b'{"event": "told", "time": 2}\n')
    assert spent_in(place, 1, ID) is None
    assert [event["event"] for event in read_events(place, 1, ID)] == ["begun", "timed"]
    assert len(looked) < 2 * 10_100


def test_a_write_that_was_cut_is_made_again_on_a_line_of_its_own(place: RunFolder, monkeypatch) -> None:
    log, real = begun(place), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
    with pytest.raises(OSError, match="No space"):
        log.told("info", "once")
    monkeypatch.setattr(os, "write", real)
    log.told("info", "once")
    assert [event.get("sentence") for event in read_events(place, 1, ID)] == [None, "once"]


def test_a_full_disk_is_reported_once_and_fails_nothing(place: RunFolder, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    queue = Queue(EventLog(place.events(1), ID), pause=0.001)
    queue.put("started", RunFacts("r", place.path, 1, 0), {})
    for step in range(20):
        queue.put("told", "info", f"step {step}")
    queue.close()
    queue.finish(time.monotonic() + 20)
    first, last = queue.complaints
    assert str(place.events(1)) in first
    assert "No space left on device" in first
    assert "failed" in last


def test_the_file_has_a_largest_size_and_keeps_room_for_the_end(place: RunFolder, monkeypatch) -> None:
    monkeypatch.setattr(events, "EVENTS_BYTES", 8000)
    monkeypatch.setattr(events, "FULL_BYTES", 4000)
    log = begun(place)
    for step in range(1000):
        log.saved(SaveFacts(step, "steps", 0.1, 10))
    log.timed(1000, 5.0, SPENT)
    log.ended("finished", 1000, 1000)
    assert place.events(1).stat().st_size < 5000
    assert [json.loads(line)["event"] for line in place.events(1).read_text().splitlines()[-3:]] == [
        "full", "timed", "ended",
    ]  # fmt: skip
    for step in range(1000):
        log.timed(step, 5.0, SPENT)
    assert place.events(1).stat().st_size <= 8000


def test_a_stop_before_the_loop_began_writes_nothing(place: RunFolder) -> None:
    EventLog(place.events(1), ID).stopping("preempted", "SIGTERM received")
    assert not place.events(1).exists()
