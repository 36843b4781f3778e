"""Journals that are longer than memory: the last values from the end, and what is read for them."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests import messages

from outlast.tracking import Journal, latest, read, reading


def lines_of(count: int, every: int = 0) -> str:
    """So many dense lines, and after every so many of them a line with a metric of its own."""
    text = []
    for step in range(1, count + 1):
        text.append(f'{{"step": {step}, "loss": {1 / step!r}}}\n')
        if every and step % every == 0:
            text.append(f'{{"step": {step}, "val": {step / 8!r}}}\n')
    return "".join(text)


def values(path: Path, mark: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {name: value for name, (_, value) in latest(path, mark, **more).last.items()}


@pytest.fixture
def read_bytes(monkeypatch) -> list[int]:
    """What is read from journals."""
    counted: list[int] = []
    real = reading.opened

    def watched(path: Path) -> Any:
        file = real(path)

        class Watched:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def read(self, size: int = -1) -> bytes:
                data = file.read(size)
                counted.append(len(data))
                return data

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        return Watched()

    monkeypatch.setattr(reading, "opened", watched)
    return counted


def test_lines_from_the_end_are_the_lines_from_the_front(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "journal.jsonl"
    for block in (1, 7, 64):
        monkeypatch.setattr(reading, "BLOCK", block)
        for text in ("", "\n", "a\n", "a\nbcd\n\ne\n", "x" * 30 + "\ny\n", "a\nb\ntorn", "torn"):
            path.write_text(text)
            forwards, at = [], 0
            for line in text.split("\n")[:-1]:
                forwards.append((at, line.encode()))
                at += len(line) + 1
            assert list(reading.backwards(path))[::-1] == forwards
            assert list(reading.lines(path)) == [line for _, line in forwards]


def test_a_line_that_is_too_long_is_skipped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 16)
    monkeypatch.setattr(reading, "LONGEST", 64)
    path = tmp_path / "journal.jsonl"
    path.write_text("a\n" + "x" * 200 + "\nb\n")
    assert [line for _, line in reading.backwards(path, 1000)] == [b"b", b"a"]
    assert list(reading.lines(path)) == [b"a", b"b"]


def test_a_metric_far_back_is_known_from_the_checkpoint(tmp_path: Path, read_bytes) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(1, {"val": math.inf})
    for step in range(2, 60_000):
        journal.append(step, {"loss": 1 / step})
    mark = json.loads(json.dumps(journal.mark()))
    journal.append(60_000, {"loss": 0.5})
    journal.seal()
    journal.flush()
    found = latest(journal.path, mark)
    assert found == reading.Latest({"val": (1, math.inf), "loss": (60_000, 0.5)})
    assert sum(read_bytes) <= 2 * reading.BLOCK
    # An older checkpoint remembers nothing: a bounded look back, and it says how far it went.
    del mark["last"], read_bytes[:]
    found = latest(journal.path, mark, most=500_000)
    assert (found.last, found.whole) == ({"loss": (60_000, 0.5)}, False)
    assert 40_000 < (found.since or 0) < 60_000
    assert sum(read_bytes) <= 500_000 + reading.BLOCK


def test_lines_after_the_checkpoint_that_were_not_all_read_are_reported(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(1, {"val": 1.0})
    mark = journal.mark()
    journal.append(2, {"val": 2.0})
    for step in range(3, 20_000):
        journal.append(step, {"loss": 1.0})
    journal.seal()
    journal.flush()
    assert latest(journal.path, mark).last["val"] == (2, 2.0)
    found = latest(journal.path, mark, most=1000)
    assert (found.last["val"], found.whole) == ((1, 1.0), False)
    assert found.since is not None


def test_what_is_damaged_torn_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    mark = {"bytes": 10**6, "last": {"val": [7, 0.5], "loss": [9, "NaN"]}}
    assert values(path, mark) == pytest.approx({"val": 0.5, "loss": math.nan}, nan_ok=True)  # no journal
    path.write_text('{"step": 3, "loss": 1.0}\n')  # shorter than the checkpoint knew it, so older
    assert values(path, mark) == pytest.approx({"val": 0.5, "loss": math.nan}, nan_ok=True)
    path.write_text('{"step": 1, "a": 1}\n{"step": 2, "a": "Infin\n[]\n{"step": true, "a": 3}\n' + "[" * 100_000 + "\n")
    assert values(path) == {"a": 1}
    path.write_text(
        '{"step": 1, "a": 1, "b": [2], "c": null, "d": "-Infinity", "e": 1' + "0" * 400 + '}\n{"step": 2, "a": 2'
    )
    assert values(path) == {"a": 1, "d": -math.inf}
    assert latest(path, {"bytes": 0, "last": {"a": 1, "b": [1]}}).last == {"a": (1, 1), "d": (1, -math.inf)}


def test_a_long_journal_is_cut_without_being_held(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("outlast.tracking.journal.BLOCK_BYTES", 2**16)
    journal = Journal(tmp_path / "journal.jsonl")
    for step in range(1, 30_001):
        journal.append(step, {"loss": 1 / step})
    mark = journal.mark()
    journal.append(30_001, {"loss": 0.0})
    journal.seal()
    journal.flush()
    whole = journal.path.read_bytes()
    again = Journal(journal.path)
    tracemalloc.start()
    assert again.rewind(mark, 30_000) is None
    peak = tracemalloc.get_traced_memory()[1]
    assert again.path.read_bytes() == whole[: mark["bytes"]]
    again.path.write_bytes(whole[:100] + b"?" + whole[101:])
    tracemalloc.reset_peak()
    complaint = again.rewind(mark, 30_000) or ""
    peaks = peak, tracemalloc.get_traced_memory()[1]  # before the messages are read, which are as long by now
    tracemalloc.stop()
    messages.said(complaint, "tracking/journal-does-not-match", file="journal.jsonl", step=30000, kept=30000)
    assert max(peaks) < len(whole) / 2  # not the file, let alone its lines
    assert sum(1 for _ in reading.records(again.path)) == 29_999
    assert again.mark()["last"] == mark["last"]
    assert again.rewind(None, 0) is None
    assert again.path.read_bytes() == b""


def test_rewinding_an_old_checkpoint_finds_its_last_values(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(1, {"val": 1.0})
    journal.append(2, {"loss": 2.0})
    mark = journal.seal()  # as older versions kept it
    journal.flush()
    again = Journal(journal.path)
    again.rewind(mark, 2)
    assert again.mark()["last"] == {"loss": [2, 2.0], "val": [1, 1.0]}
    assert "last_since" not in again.mark()


def test_names_without_end_are_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("outlast.tracking.journal.MOST", 50)
    journal = Journal(tmp_path / "journal.jsonl")
    for step in range(1, 501):
        journal.append(step, {f"grad of step {step}": 1.0})
    mark = journal.mark()
    assert len(journal._names) <= 50
    assert list(mark["last"]) == [f"grad of step {step}" for step in range(451, 501)]
    assert mark["last_since"] == 451
    journal.flush()
    assert len(read(journal.path)) == 500
    found = latest(journal.path, mark)
    assert len(found.last) == 500
    assert found.whole
