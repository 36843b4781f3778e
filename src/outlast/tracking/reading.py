"""Reads journal.jsonl of any length: from the start line by line, or from its end in bounded blocks.

At most one block and one line are in memory. An invalid line is skipped. A last line without a newline is incomplete
and is ignored.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from outlast.folder import plain

LONGEST = 16 * 2**20
"""Bytes of the longest line that is read; 10,000 metrics take about 300,000."""

BLOCK = 256 * 2**10
"""Bytes read at a time from the end."""

TAIL = 2**20
"""Bytes that are read from the end to find the last values, unless a single line is longer."""

_WORDS = ("NaN", "Infinity", "-Infinity")
PLACE = ("step", "epoch")
"""Keys of a line that are not metrics."""


class Latest(NamedTuple):
    """The last value of every metric.

    Attributes:
        last: metric -> the step at which it was logged last, and its value.
        whole: whether all values are known to be complete and current.
        since: otherwise, the first step that was read; None if no line could be read.
    """

    last: dict[str, tuple[int, Any]]
    whole: bool = True
    since: int | None = None


def opened(path: Path) -> BinaryIO:
    """The journal open for reading: a plain file, no link and no pipe.

    Raises:
        FileNotFoundError: it does not exist.
        UnsafeFolder: it is not a plain file.
    """
    return os.fdopen(plain.open_plain(path), "rb")


def lines(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The whole lines of a file from one offset up to another, without their newline; too long ones are left out."""
    with opened(path) as file:
        file.seek(start)
        left = (os.fstat(file.fileno()).st_size if end is None else end) - start
        passing = False
        while left > 0 and (line := file.readline(min(LONGEST, left))):
            left -= len(line)
            whole = line.endswith(b"\n")
            if whole and not passing:
                yield line[:-1]
            passing = not whole


def parse(line: bytes) -> dict[str, Any] | None:
    """A line as a dict: the step, the epoch where there is one, and metrics; None if it is not a line of a journal."""
    found = _object(line)
    if found is None:
        return None
    for name, value in list(found.items()):
        if type(value) is float:
            continue
        if not _is_value(value):
            del found[name]
        elif value in _WORDS:
            found[name] = float(value)
    return found


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or type(step := found.get("step")) is not int or step < 0:
        return None
    return found


def records(path: Path, start: int = 0, end: int | None = None) -> Iterator[dict[str, Any]]:
    """The lines of a journal one after the other, as `parse` gives them; none if the file does not exist."""
    try:
        for line in lines(path, start, end):
            if (record := parse(line)) is not None:
                yield record
    except FileNotFoundError:
        return


def read(path: Path) -> list[dict[str, Any]]:
    """All lines of a journal at once: for short ones. NaN and infinities are numbers; a torn last line is left out."""
    return list(records(path))


def backwards(path: Path, most: int = TAIL) -> Iterator[tuple[int, bytes]]:
    """Offset and text of complete lines, the last one first, up to about `most` bytes.

    The last line is returned also if it is longer, up to LONGEST.
    """
    try:
        file = opened(path)
    except FileNotFoundError:
        return
    with file:
        end = start = file.seek(0, os.SEEK_END)
        held, passing, given = (
            b"",
            True,
            False,
        )  # what is read and not given; whether its end belongs to a line that does not count
        while start > 0 and end - start < (most if given else most + LONGEST):
            size = min(BLOCK, start)
            start -= size
            file.seek(start)
            held = file.read(size) + held
            if passing:
                held = held[: held.rfind(b"\n") + 1]
                passing = not held
            whole = (
                0 if start == 0 else held.find(b"\n") + 1
            )  # before it may be the end of a line that begins further back
            at = start + len(held)
            for line in reversed(held[whole:].split(b"\n")[:-1]):
                at -= len(line) + 1
                given = True
                yield at, line
            held = held[:whole]
            if len(held) > LONGEST:
                held, passing = b"", True


def latest(path: Path, mark: Mapping[str, Any] | None = None, most: int = TAIL) -> Latest:
    """The last value of every metric, from the end of the journal and from what a checkpoint remembers.

    Args:
        path: journal.jsonl; it may be missing, torn, damaged or shorter than the checkpoint knew it.
        mark: the result of `Journal.mark` in the newest checkpoint. Later lines are newer than its values.
        most: bytes to read from the end.
    """
    memory = remembered(mark)
    at = int(mark["bytes"]) if mark else 0
    found: dict[str, tuple[int, Any]] = {}
    oldest, reached, joined = memory.since, None, False
    shape, passed = _Shape(), list[bytes]()
    for reached, line in backwards(path, most):
        if reached < at and not joined:  # what the checkpoint remembers is newer than this line
            found, joined = memory.last | found, True
            if memory.whole:
                return Latest(found)
        if shape.is_of(line):  # its names are those of a newer line, so it has no last value
            passed.append(line)
        elif (record := _object(line)) is not None:
            oldest = step = record["step"]
            passed.clear()
            for name, value in record.items():
                if name not in found and name not in PLACE and _is_value(value):
                    found[name] = (step, _from_word(value))
            shape = _Shape(record) if record.keys() <= {*found, *PLACE} else _Shape()
    oldest = next((record["step"] for line in reversed(passed) if (record := _object(line)) is not None), oldest)
    whole = reached == 0 or (memory.whole and (reached is None or reached <= at))
    return Latest(memory.last | found, whole, None if whole else oldest)


class _Shape:
    """The names in a line, so that other lines with the same names are known without being parsed.

    Args:
        record: the line's values by name; without it no line is of the shape. Only names without escapes count.
    """

    def __init__(self, record: Mapping[str, Any] | None = None) -> None:
        names = [json.dumps(name, ensure_ascii=False) for name in record or ()]
        plain = all("\\" not in name for name in names)
        self._names = [f"{name}:".encode("utf-8", "surrogatepass") for name in names] if plain else []
        self._quotes = 2 * len(self._names)

    def is_of(self, line: bytes) -> bool:
        """Whether these are the names in a line, each once, and all its quotes are theirs."""
        return bool(self._names) and line.count(b'"') == self._quotes and all(name in line for name in self._names)


def remembered(mark: Mapping[str, Any] | None) -> Latest:
    """The last values in a checkpoint's mark; a mark of an older version has none."""
    if mark is None:
        return Latest({})
    if not isinstance(stored := mark.get("last"), dict):
        return Latest({}, whole=False)
    good = {name: (each[0], _from_word(each[1])) for name, each in stored.items() if _is_remembered(each)}
    since = mark.get("last_since")
    return Latest(good, len(good) == len(stored) and since is None, since if isinstance(since, int) else None)


def as_words(value: float | str) -> float | str:
    """A metric as JSON: NaN and infinities are text."""
    if isinstance(value, str) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _from_word(value: Any) -> Any:
    return float(value) if value in _WORDS else value


def _is_remembered(each: Any) -> bool:
    return isinstance(each, list) and len(each) == 2 and type(each[0]) is int and _is_value(each[1])


def _is_value(value: Any) -> bool:
    """Whether a metric can be shown: text, or a number that fits a float."""
    if isinstance(value, str):
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 2**1023
