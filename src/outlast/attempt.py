"""attempts/0003.json: one process's work on a run, from its first breath to its end reason."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outlast import files
from outlast.files import RunFolder

REASONS = ("finished", "budget", "preempted", "failed", "cancelled", "lost")


def utc() -> str:
    """The time as the records write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class Attempt:
    """The record of the running attempt.

    Args:
        folder: the run folder.
        number: counts from 1.
        record: what the file holds.
    """

    folder: RunFolder
    number: int
    record: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, folder: RunFolder, version: str, environment: Mapping[str, Any]) -> Attempt:
        """Write down that an attempt began; earlier ones that never wrote their end are given the reason "lost".

        Raises:
            OSError: the record cannot be written.
        """
        files.make_folder(folder.attempts)
        files.sweep_temporaries(folder.attempts)
        numbers = folder.attempt_numbers()
        attempt = cls(folder, (numbers[-1] if numbers else 0) + 1)
        for number in numbers:
            earlier = files.read_json(folder.attempt(number))
            if "end" not in earlier:
                earlier["end"] = {"reason": "lost", "recorded_by": attempt.number}
                files.write_json(folder.attempt(number), earlier)
        attempt.record = {
            "format": files.FORMAT,
            "number": attempt.number,
            "started": utc(),
            "process": os.getpid(),
            "host": platform.node(),
            "outlast": version,
            "environment": dict(environment),
            "told": [],
        }
        attempt.write()
        return attempt

    def write(self) -> None:
        """Put the record on disk as it is now."""
        files.write_json(self.folder.attempt(self.number), self.record)

    def tell(self, sentence: str) -> None:
        """Keep a warning with the attempt; it reaches the disk with the next `write`."""
        self.record["told"].append(sentence)

    def end(self, reason: str, step: int, total: int | None, error: str | None = None) -> None:
        """Write the end reason; raises OSError when that cannot be done (the attempt then counts as lost)."""
        self.record["end"] = {"time": utc(), "reason": reason, "step": step, "total_steps": total}
        if error:
            self.record["end"]["error"] = error
        self.write()
