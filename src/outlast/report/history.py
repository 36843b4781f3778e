"""A journal as a table or a picture: all lines of a short one, evenly spaced lines of a long one.

Of a long journal only the chosen lines are read. A metric that is logged rarely, such as once per epoch,
may be missing from them. If it recurs every N steps, the lines of those steps are read as well.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import math
import os
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from outlast.config.units import is_finite
from outlast.tracking import Latest, reading

SMALL_LINES, SMALL_BYTES = 100_000, 64 * 2**20
"""A journal with at most these lines and bytes is used completely."""

CHOSEN = 2_500
"""Number of lines that are chosen from a longer journal."""

_READ = 32 * 2**20  # bytes that are read for them at most; of wide lines fewer are chosen
_RARE = 300  # a metric in fewer of the chosen lines is looked up by its period
_NAMES, _GROUPS = 200, 8  # metrics that are looked up, and lines that hold them together
_LOOKED = 300  # lines that are looked up for each
_BACK = 16 * 2**20  # bytes that are searched for the time before the last
_NEAR = 16 * 2**10  # bytes in which a step is searched line by line
READ_BUDGET = 512 * 2**20  # maximum bytes to read; only a damaged journal needs them
_SHORTEST = 64 * 2**10  # bytes in which the end of a line is looked for after it was looked for in vain

_STEP = re.compile(rb'\{"step": ?(\d{1,18})[,}]')


@dataclass(frozen=True)
class History:
    """Lines of a journal.

    Attributes:
        records: each as `tracking.read` gives it, in order.
        of: estimated number of all lines; None if these are all.
        cut: whether the search was stopped, because long ranges hold no valid line.
        renamed: former name -> name of a metric.
    """

    records: list[dict[str, Any]]
    of: int | None = None
    cut: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def series(self) -> dict[str, tuple[array[float], array[float]]]:
        """Metric -> its steps and values, in the order of their first appearance.

        Values that are not finite numbers are left out.
        """
        found: dict[str, tuple[array[float], array[float]]] = {}
        for record in self.records:
            for name, value in record.items():
                if name not in reading.PLACE and is_finite(value):
                    name = self.renamed.get(name, name)  # noqa: PLW2901 - one series under two names
                    if name not in found:
                        found[name] = array("d"), array("d")
                    steps, values = found[name]
                    steps.append(record["step"])
                    values.append(value)
        return found

    @property
    def counted(self) -> str:
        """The number of lines and the total, as text."""
        return f"{len(self.records):,} of about {self.of:,} lines"

    @property
    def thinned(self) -> str:
        """A sentence about the choice of lines; empty if these are all."""
        if self.of is None:
            return ""
        return (
            f"The journal is long, so these are {self.counted}: evenly spaced ones, the last, and those in which "
            "rarely logged metrics recur at a "
            "fixed number of steps. What lies between them is not seen: a peak, or a metric that is logged rarely and "
            "not at such steps."
            + (
                " Long stretches of it hold no lines; it was damaged after it was written, and not looked through to "
                "its end."
                if self.cut
                else ""
            )
        )


def history(journal: Path, latest: Latest, renamed: Mapping[str, str] | None = None) -> History:
    """All lines of a short journal, and some of a long one.

    Args:
        journal: journal.jsonl; it may be missing.
        latest: the last values of its metrics, so that no metric is left out.
        renamed: former name -> name of metrics.
    """
    try:
        file = reading.opened(journal)
    except FileNotFoundError:
        return History([])
    with file:
        lines = _Lines(file)
        count = math.ceil(lines.size / max(1.0, lines.mean))
        if count <= SMALL_LINES and lines.size <= SMALL_BYTES:
            return History(reading.read(journal), renamed=renamed or {})
        chosen = _parsed(lines.evenly(max(2, min(CHOSEN, int(_READ / 3 / max(1.0, lines.mean))))))
        for name, step in _rare(chosen.values(), latest):
            chosen |= _parsed(lines.recurring(name, step))
    records = [record for _, record in sorted(chosen.items())]
    return History(records, _rounded(count), cut=lines.left <= 0, renamed=renamed or {})


def _parsed(found: Iterable[tuple[int, bytes]]) -> dict[int, dict[str, Any]]:
    return {at: record for at, line in found if (record := reading.parse(line)) is not None}


def _rounded(count: int) -> int:
    digits = max(0, len(str(count)) - 2)
    return round(count, -digits)


def _rare(found: Collection[dict[str, Any]], latest: Latest) -> list[tuple[str, int]]:
    """Metrics that are in few of the chosen lines, with the step of their last value; newest first."""
    seen = collections.Counter(name for record in found for name in record)
    rare = [(name, step) for name, (step, _) in latest.last.items() if seen[name] < min(_RARE, len(found) // 2)]
    return sorted(rare, key=lambda each: -each[1])[:_NAMES]


class _Lines:
    """Lines of an open journal, found by offset or by step."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file.fileno()
        self.left = READ_BUDGET
        self._longest = reading.LONGEST
        self.size = os.fstat(self._file).st_size
        places = [0, self.size // 2, max(0, self.size - 2**16)]
        samples = [self._read(place, 2**16) for place in places]
        self.mean = sum(map(len, samples)) / max(1, sum(sample.count(b"\n") for sample in samples))
        """Mean number of bytes of a line."""
        self._looked_up: set[int] = set()

    def evenly(self, count: int) -> Iterator[tuple[int, bytes]]:
        """The first line, the last line, and a number of lines between them."""
        for number in range(count):
            if (found := self._at(self.size * number // count)) is not None:
                yield found
        with contextlib.suppress(StopIteration):
            yield next(self._last())

    def recurring(self, name: str, last: int) -> Iterator[tuple[int, bytes]]:
        """The lines of a metric that is logged every N steps, at most `_LOOKED` of them, evenly spaced."""
        needle = b'"' + name.encode("utf-8", "backslashreplace") + b'"'
        end, line = self._of_step(last, needle, (self.size, last + 1))
        if line is None or end in self._looked_up or len(self._looked_up) >= _GROUPS:
            return  # it is in one line with a metric that was looked up before
        self._looked_up.add(end)
        yield end, line
        before = self._before(end, needle)
        period = last - before if before is not None else 0
        if period <= 0:
            return
        stride, above = period * max(1, math.ceil(last / period / _LOOKED)), (end, last)
        for step in range(last - stride, -1, -stride):
            at, line = self._of_step(step, needle, above)
            if line is not None:
                above = (at, step)
                yield at, line

    def _read(self, start: int, size: int) -> bytes:
        """Bytes from an offset; empty if the budget of bytes is used up."""
        data = os.pread(self._file, min(size, max(0, self.left)), start)
        self.left -= len(data)
        return data

    def _at(self, place: int) -> tuple[int, bytes] | None:
        """The first complete line that begins at or after an offset."""
        start = max(0, place - 1)  # a newline just before it
        data, want = b"", max(1024, int(3 * self.mean))
        while len(data) < self._longest:
            more = self._read(start + len(data), min(want, self._longest - len(data)))
            data += more
            begin = 0 if place == 0 else data.find(b"\n") + 1
            end = data.find(b"\n", begin) if begin or place == 0 else -1
            if end >= 0:
                return start + begin, data[begin:end]
            if not more:
                return None
            want *= 2
        self._longest = max(
            _SHORTEST, self._longest // 4
        )  # no line is so long: the next such stretch is abandoned sooner
        return None

    def _last(self) -> Iterator[tuple[int, bytes]]:
        start = self.size
        while start > 0 and self.size - start < reading.LONGEST:
            start = max(0, start - 2**16)
            data = self._read(start, self.size - start)
            end = data.rfind(b"\n")
            begin = data.rfind(b"\n", 0, end) + 1 if end >= 0 else 0
            if end >= 0 and (begin or start == 0):
                yield start + begin, data[begin:end]
                return

    def _of_step(self, step: int, needle: bytes, above: tuple[int, int]) -> tuple[int, bytes | None]:
        """The line of a step that contains a text, and its offset.

        Args:
            step: the step.
            needle: the text.
            above: an offset after the line, and the step there.
        """
        low, first, (high, last), turn = 0, 0, above, 0
        while high - low > _NEAR:
            middle = (low + high) // 2
            if turn % 3 and last > first:  # where the step should be, a little before it and a little after it by turns
                middle = low + (high - low) * (step - first) // (last - first) + (_NEAR // 4, -_NEAR // 4)[turn % 3 - 1]
                middle = min(max(middle, low + 1), high - 1)
            turn += 1
            found = self._at(middle)
            if found is None or found[0] >= high:
                high = middle
                continue
            match = _STEP.match(found[1])
            if match is None:
                return 0, None
            if (there := int(match[1])) < step:
                low, first = found[0], there
            else:
                high, last = middle, there
        start, wanted = low, b'{"step": %d' % step
        for line in self._read(low, high - low + 2 * _NEAR).split(b"\n")[:-1]:
            if line.startswith(wanted) and needle in line:
                return start, line
            start += len(line) + 1
        return 0, None

    def _before(self, end: int, needle: bytes) -> int | None:
        """The step of the last line before an offset that contains a text."""
        start = end
        while start > 0 and end - start < _BACK:
            size = min(2**20, start)
            start -= size
            data = self._read(start, size)
            at = data.rfind(needle)
            if at >= 0:
                begin = data.rfind(b"\n", 0, at) + 1
                match = _STEP.match(data, begin) if begin or start == 0 else None
                return int(match[1]) if match else None
        return None
