"""attempts/NNNN.events.jsonl: the events of one attempt with their times, one JSON object per line.

It contains times, so two equal trainings write different bytes. It is not part of the bit-for-bit guarantee and is not
fsynced, and a line may be missing. A sink (`EventLog`) writes it in the thread of its queue, so a slow or full disk
never slows or fails training, and the crash-point tests do not count these writes
(docs/decisions/0013-events-have-a-clock.md).
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from outlast.errors import CorruptCheckpoint, OutlastError
from outlast.folder import durable, records
from outlast.folder.layout import RunFolder
from outlast.folder.records import EVENTS_BYTES
from outlast.folder.schemas import EVENT
from outlast.terminal import clean
from outlast.tracking import reading
from outlast.tracking.sink import RunFacts, SaveFacts, Sink
from outlast.tracking.timing import TimeSpent

_LONGEST = 2000
"""Most characters of a message; the attempt's record has all of it."""

FULL_BYTES = EVENTS_BYTES // 2
"""Bytes after which only rare events are written."""

_MOST_LINES = EVENTS_BYTES // 40
"""Most lines that are read from one file; outlast writes fewer."""

_MOST_WRONG = 10_000
"""Most invalid lines before the rest of a file is ignored; an invalid line takes more time than a valid one."""

_RARE = ("begun", "timed", "stopping", "ended", "full")


class EventLog(Sink):
    """Appends the events of one attempt to its file.

    Args:
        path: attempts/NNNN.events.jsonl. An existing file belongs to no attempt and is replaced.
        attempt: the attempt's id, in the first line: the file belongs to the record with the same id.
    """

    def __init__(self, path: Path, attempt: str) -> None:
        self.path, self._attempt = path, attempt
        self._descriptor: int | None = None
        self._size, self._torn, self._full = 0, False, False
        self._stopped = False

    def stop(self) -> None:
        """Write nothing more, because another attempt owns the folder. Any thread may call it."""
        self._stopped = True

    @property
    def title(self) -> str:
        return str(self.path)

    def started(self, facts: RunFacts, config: Mapping[str, Any]) -> None:
        self._write(
            "begun",
            attempt=self._attempt,
            number=facts.attempt,
            step=facts.step,
            total_steps=facts.total_steps,
            resumed_from=facts.resumed_from,
        )

    def rewound(self, step: int) -> None:
        self._write("rewound", step=step)

    def timed(self, step: int, rate: float, spent: TimeSpent) -> None:
        self._write("timed", step=step, steps_per_second=round(rate, 4), spent=spent.as_json())

    def evaluated(self, step: int, seconds: float) -> None:
        self._write("evaluated", step=step, seconds=round(seconds, 3))

    def saved(self, save: SaveFacts) -> None:
        self._write(
            "saved",
            step=save.step,
            reason=save.reason,
            seconds=round(save.seconds, 4),
            held=round(save.held, 4),
            bytes=save.size,
            staged=save.staged,
        )

    def artifact(self, name: str, path: Path) -> None:
        self._write("artifact", name=clean(name)[:_LONGEST])

    def told(self, level: str, sentence: str) -> None:
        self._write("told", level=level, sentence=clean(sentence)[:_LONGEST])

    def stopping(self, reason: str, sentence: str) -> None:
        self._write("stopping", reason=reason, sentence=clean(sentence)[:_LONGEST])

    def ended(self, reason: str, step: int, total: int | None) -> None:
        self._write("ended", reason=reason, step=step, total_steps=total)

    def closed(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, event: str, **facts: Any) -> None:
        """Append a line; raises OSError, after which the line can be written again."""
        if self._stopped or (self._full and event not in _RARE):
            return
        if self._descriptor is None:
            if event != "begun":  # a stop that is older than the file
                return
            durable.make_folder(self.path.parent)
            self._descriptor = durable.open_to_append(self.path)
        line = json.dumps({"event": event, "time": round(self.time, 3), **facts}, ensure_ascii=False)
        data = (("\n" if self._torn else "") + line + "\n").encode("utf-8", "backslashreplace")
        if self._size + len(data) > EVENTS_BYTES:
            return
        written = os.write(self._descriptor, data)
        self._size += written
        self._torn = written < len(data)
        if self._torn:
            raise OSError(28, "No space left on device", str(self.path))
        if self._size > FULL_BYTES and not self._full:
            self._full = True
            self._write("full")


def read_events(folder: RunFolder, number: int, attempt: str | None) -> list[dict[str, Any]]:
    """The events of an attempt, in order; lines that cannot be read are left out.

    Args:
        folder: the run folder.
        number: the attempt's number.
        attempt: the attempt's id. If it is None or differs from the file's, there are no events.
    """
    path = folder.events(number)
    try:
        size = os.lstat(path).st_size
        lines = list(itertools.islice(reading.lines(path, 0, min(size, EVENTS_BYTES)), _MOST_LINES))
    except (OSError, OutlastError):
        return []
    found = list(_counting(lines, path))
    if not found or attempt is None or found[0].get("attempt") != attempt:
        return []
    return found


def spent_in(folder: RunFolder, number: int, attempt: str | None) -> TimeSpent | None:
    """The time of an attempt by activity, from its newest such event; None if it has none.

    Reads only the file's ends.
    """
    path = folder.events(number)
    try:
        first = next(reading.lines(path, 0, reading.BLOCK), b"")
        if attempt is None or (_parsed(first, path) or {}).get("attempt") != attempt:
            return None
        for event in _counting((line for _, line in reading.backwards(path)), path):
            if "spent" in event:
                return TimeSpent(**{name: event["spent"].get(name) for name in _SPENT})
    except (OSError, OutlastError):
        return None
    return None


def lasted(folder: RunFolder, number: int, attempt: str | None) -> float | None:
    """The seconds from the first event of an attempt to its newest one; None if it has none.

    Of an attempt that was killed, or still runs, this is the least that it took. Reads only the file's ends.
    """
    path = folder.events(number)
    try:
        first = _parsed(next(reading.lines(path, 0, reading.BLOCK), b""), path) or {}
        if attempt is None or first.get("attempt") != attempt:
            return None
        newest = next(_counting((line for _, line in reading.backwards(path)), path), first)
    except (OSError, OutlastError):
        return None
    found = float(newest["time"]) - float(first["time"])
    return found if 0 <= found < _LONGEST_LIFE else None


_SPENT = tuple(TimeSpent._fields)
_LONGEST_LIFE = 10**10  # seconds: times of a damaged file are none


def _counting(lines: Iterable[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """The events among lines, within the bounds for one file."""
    wrong = 0
    for line in itertools.islice(lines, _MOST_LINES):
        event = _parsed(line, path) if line.startswith(b"{") else None
        if event is not None:
            yield event
        elif (wrong := wrong + 1) > _MOST_WRONG:
            return


def _parsed(line: bytes, path: Path) -> dict[str, Any] | None:
    try:
        event = records.parse(line, path)
        records.check(event, EVENT, path)
    except CorruptCheckpoint:
        return None
    return event
