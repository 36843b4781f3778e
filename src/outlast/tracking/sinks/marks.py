"""What was sent to a tracker, remembered as places in the journal that can be checked.

A mark names the first line of the last step that was sent, with the hash of all lines before it, and the end of
what was sent of this step. If the journal still begins with these bytes, the tracker has what the journal has up to
there. An exact resume writes the same bytes again, so its marks hold. After an inexact one, the newest mark that
holds is where the tracker and the journal part.

The file is a hint: without it, or with a damaged one, everything is sent again or the tracker itself is asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from outlast.errors import OutlastError
from outlast.folder import durable, plain, reading
from outlast.folder.records import anything, form, many, table, text, whole
from outlast.tracking.sinks.client import Sent

MOST = 200
"""Marks that are kept: the newest, and of the older ones fewer and fewer."""

_BLOCK = 2**20
_MARK = form(
    {
        "bytes": whole(),
        "xxh3_128": text(32, "[0-9a-f]{32}", "a hash of 32 hex digits"),
        "step": whole(),
        "lines": whole(),
        "end": whole(),
        "end_xxh3_128": text(32, "[0-9a-f]{32}", "a hash of 32 hex digits"),
    }
)
_MEMORY = form(
    {
        "format": whole(1, 10**6),
        "run": text(64, "[0-9a-f]{1,64}", "an id in hex"),
        "marks": many(_MARK, MOST),
        "state": table(anything, 100_000),
        "pictures": table(many(anything, 2), 100_000),
    }
)


@dataclass(frozen=True)
class Mark:
    """A place in the journal.

    Attributes:
        bytes: offset of the first line of a step.
        xxh3_128: hash of all bytes before it.
        sent: that step, and the number of its lines that were sent.
        end: offset after these lines.
        end_xxh3_128: hash of all bytes before that offset.
    """

    bytes: int
    xxh3_128: str
    sent: Sent
    end: int
    end_xxh3_128: str

    def as_json(self) -> dict[str, Any]:
        """The mark for its file."""
        return {
            "bytes": self.bytes,
            "xxh3_128": self.xxh3_128,
            "step": self.sent.step,
            "lines": self.sent.lines,
            "end": self.end,
            "end_xxh3_128": self.end_xxh3_128,
        }


@dataclass(frozen=True)
class Memory:
    """What is remembered of a tracker.

    Attributes:
        marks: ascending.
        state: the tracker's own.
        pictures: name -> hash and step.
    """

    marks: tuple[Mark, ...]
    state: Mapping[str, Any]
    pictures: Mapping[str, Any]


def read(path: Path, uid: str) -> Memory:
    """Read the file; an empty memory if there is none, if it is damaged, or of another run."""
    try:
        record = reading.read_record(path, _MEMORY)
    except (FileNotFoundError, OutlastError):
        return Memory((), {}, {})
    if record["run"] != uid:
        return Memory((), {}, {})
    marks = (
        Mark(each["bytes"], each["xxh3_128"], Sent(each["step"], each["lines"]), each["end"], each["end_xxh3_128"])
        for each in record["marks"]
    )
    return Memory(tuple(sorted(marks, key=lambda mark: mark.bytes)), record["state"], record["pictures"])


def write(path: Path, uid: str, memory: Memory) -> None:
    """Write the file, durably."""
    durable.make_folder(path.parent)
    durable.write_json(
        path,
        {
            "format": 1,
            "run": uid,
            "marks": [mark.as_json() for mark in _thinned(memory.marks)],
            "state": dict(memory.state),
            "pictures": dict(memory.pictures),
        },
    )


def _thinned(marks: Sequence[Mark]) -> list[Mark]:
    kept = list(marks)
    while len(kept) > MOST:
        kept = kept[: MOST // 2 : 2] + kept[MOST // 2 :]
    return kept


def newest_that_holds(marks: Sequence[Mark], journal: Path) -> tuple[Mark | None, xxhash.xxh3_128]:
    """The newest mark that the journal agrees with, and a hasher of all bytes before it.

    If the lines of the mark's own step are others now, the mark has none of them.
    """
    best, hasher, good = None, xxhash.xxh3_128(), xxhash.xxh3_128()
    if plain.kind_of(journal) != "file":
        return best, good
    with os.fdopen(plain.open_plain(journal), "rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        for mark in marks:
            if mark.bytes > size:
                break
            while at < mark.bytes and (block := file.read(min(_BLOCK, mark.bytes - at))):
                hasher.update(block)
                at += len(block)
            if hasher.hexdigest() != mark.xxh3_128:
                break
            best, good = mark, hasher.copy()
        if best is not None and not _ends_as(best, file, good.copy()):
            best = replace(best, sent=Sent(best.sent.step, 0))
    return best, good


def _ends_as(mark: Mark, file: BinaryIO, hasher: xxhash.xxh3_128) -> bool:
    file.seek(mark.bytes)
    left = mark.end - mark.bytes
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        hasher.update(block)
        left -= len(block)
    return left == 0 and hasher.hexdigest() == mark.end_xxh3_128
