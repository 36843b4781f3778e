"""attempts/0003.json: the record of one process that works on a run, from its start to its end reason."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

from outlast.errors import CorruptCheckpoint
from outlast.folder import copying, durable, layout, plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.records import EVENTS_BYTES, LONGEST, REASONS
from outlast.folder.schemas import ATTEMPT

__all__ = ["REASONS", "AttemptRecord", "copy_events", "read_record", "utc", "writable"]

MOST = 200
"""Sentences that an attempt's record keeps of what was told."""


def utc() -> str:
    """The time as the records write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read_record(folder: RunFolder, number: int) -> dict[str, Any]:
    """An attempt's record; a damaged one is no reason not to train, and stands as lost."""
    try:
        return reading.read_record(folder.attempt(number), ATTEMPT) | {"number": number}
    except (CorruptCheckpoint, FileNotFoundError):
        return {"format": layout.FORMAT, "number": number, "damaged": True}


def copy_events(source: RunFolder, number: int, target: RunFolder, to: int) -> None:
    """Copy what an attempt wrote down with a clock, when it did and it can be read.

    It goes where the attempt's record goes.

    Raises:
        OSError: the copy cannot be written.
    """
    if plain.kind_of(source.events(number)) == "file":
        with contextlib.suppress(CorruptCheckpoint):
            copying.copy_file(source.events(number), target.events(to), most=EVENTS_BYTES)


def writable(text: str) -> str:
    """Text with what UTF-8 cannot hold written out: file names may have it, and no record fails over them."""
    return text.encode("utf-8", "backslashreplace").decode()


class AttemptRecord:
    """The record of the running attempt.

    Args:
        folder: the run folder.
        number: counts from 1.
        record: what the file holds.
        kept: whether it is written; not on ranks other than the first, whose work the first one's record stands for.

    Attributes:
        earlier: the records of the attempts before it.
        news: whether something was told since it was last written.
        begun: when it began, on time.monotonic.
    """

    def __init__(
        self, folder: RunFolder, number: int, record: dict[str, Any] | None = None, *, kept: bool = True
    ) -> None:
        self.folder, self.number, self.kept = folder, number, kept
        self.record: dict[str, Any] = record or {}
        self.earlier: list[dict[str, Any]] = []
        self.news = False
        self.begun = time.monotonic()

    @classmethod
    def begin(
        cls,
        folder: RunFolder,
        version: str,
        environment: Mapping[str, Any],
        session: Mapping[str, Any] | None = None,
    ) -> AttemptRecord:
        """Write down that an attempt began; earlier ones that never wrote their end are given the reason "lost".

        Args:
            folder: the run folder.
            version: of outlast.
            environment: where it is.
            session: what it may spend.

        Raises:
            OSError: the record cannot be written.
        """
        durable.make_folder(folder.attempts)
        durable.sweep_temporaries(folder.attempts)
        numbers = folder.attempt_numbers()
        attempt = cls(folder, folder.free_attempt((numbers[-1] if numbers else 0) + 1))
        for number in numbers:
            earlier = read_record(folder, number)
            if "end" not in earlier:
                earlier["end"] = {"reason": "lost", "recorded_by": attempt.number}
                durable.write_json(folder.attempt(number), earlier)
            attempt.earlier.append(earlier)
        attempt.record = {
            "format": layout.FORMAT,
            "number": attempt.number,
            "id": os.urandom(16).hex(),
            "started": utc(),
            "process": os.getpid(),
            "host": os.uname().nodename,
            "outlast": version,
            "environment": dict(environment),
            "session": dict(session or {}),
            "told": [],
        }
        attempt.write()
        return attempt

    def write(self) -> None:
        """Put the record on disk as it is now."""
        if self.kept:
            durable.write_json(self.folder.attempt(self.number), self.record)
        self.news = False

    @property
    def reason_before(self) -> str | None:
        """The end of the previous attempt; None for the first."""
        return str(self.earlier[-1]["end"]["reason"]) if self.earlier else None

    def ended_early(self, step: int, total: int | None) -> bool:
        """Whether the script called the run finished at this step, before this very total."""
        ends = [earlier["end"] for earlier in self.earlier]
        finished = [end for end in ends if end["reason"] == "finished" and end.get("step") == step]
        return bool(finished) and finished[-1].get("total_steps") == total

    def went_further(self, step: int) -> bool:
        """Whether the newest attempt that trained before this one may have logged more than this step."""
        trained = [earlier for earlier in self.earlier if earlier.get("trained") or earlier.get("damaged")]
        if not trained:
            return False
        end = trained[-1].get("end", {})
        return "step" not in end or bool(end["step"] > step)

    def tell(self, sentence: str) -> None:
        """Keep a sentence with the attempt, once; it reaches the disk with the next `write`.

        Of very many, the first are kept and all counted.
        """
        self.news = True
        told, sentence = self.record["told"], writable(sentence)[:LONGEST]
        if len(told) < MOST and sentence not in told:
            told.append(sentence)
        else:
            self.record["told_again"] = self.record.get("told_again", 0) + 1

    def end(
        self,
        reason: str,
        step: int,
        total: int | None,
        error: str | None = None,
        *,
        signal: str | None = None,
    ) -> None:
        """Write the end reason; raises OSError when that cannot be done (the attempt then counts as lost)."""
        self.record["end"] = {"time": utc(), "reason": reason, "step": step, "total_steps": total}
        self.record["end"]["seconds"] = round(time.monotonic() - self.begun, 3)
        if error:
            self.record["end"]["error"] = writable(error)[:LONGEST]
        if signal:
            self.record["end"]["signal"] = signal
        self.write()
