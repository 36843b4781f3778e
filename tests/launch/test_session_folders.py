"""The log of a session in a folder while it grows, and the wait for its end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from outlast.launch import sessionfolders
from outlast.launch.sessionfolders import lines


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
