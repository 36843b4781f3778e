"""One run as its folder tells it; the status is derived from the attempts and never set by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast import files, lock
from outlast.attempt import read_record
from outlast.checkpoint import Checkpoint, Store
from outlast.errors import OutlastError, UnknownName
from outlast.files import RunFolder
from outlast.records import RUN
from outlast.tracking import read

_STATUS = {
    "finished": "finished",
    "failed": "failed",
    "cancelled": "cancelled",
    "budget": "interrupted",
    "preempted": "interrupted",
    "lost": "interrupted",
}


@dataclass(frozen=True)
class RunInfo:
    """A run folder, read.

    Attributes:
        folder: where it is.
        about: run.json.
        attempts: the attempts' records, in order.
        checkpoints: committed checkpoints, ascending; not verified.
        status: pending, running, interrupted, finished, failed or cancelled.
        metrics: the last value of every metric in the journal.
    """

    folder: Path
    about: Mapping[str, Any]
    attempts: tuple[Mapping[str, Any], ...]
    checkpoints: tuple[Checkpoint, ...]
    status: str
    metrics: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def step(self) -> int:
        """Steps that are safe on disk."""
        return self.checkpoints[-1].step if self.checkpoints else 0

    @property
    def total_steps(self) -> int | None:
        """Steps in all, as the last attempt that knew them said."""
        known = [attempt.get("total_steps") or attempt.get("end", {}).get("total_steps") for attempt in self.attempts]
        return next((total for total in reversed(known) if total is not None), None)


def read_run(folder: Path) -> RunInfo:
    """Read one run folder; raises UnknownName when it is none."""
    place = RunFolder(folder)
    try:
        about = files.read_record(place.run, RUN)
    except FileNotFoundError:
        raise UnknownName(
            f"{folder} is not a run folder: it has no run.json. `outlast runs` lists those there are."
        ) from None
    attempts = tuple(_attempts(place))
    metrics: dict[str, Any] = {}
    for record in read(place.journal):
        metrics.update(record)
    for name in ("step", "epoch"):
        metrics.pop(name, None)
    return RunInfo(folder, about, attempts, tuple(Store(place).committed()), _status(place, attempts), metrics)


def list_runs(root: Path) -> list[RunInfo]:
    """All runs in a folder, by name; folders that cannot be read are left out."""
    found = []
    for path in sorted(root.glob("*/run.json")):
        try:
            found.append(read_run(path.parent))
        except (OutlastError, OSError):
            continue
    return found


def _attempts(place: RunFolder) -> list[Mapping[str, Any]]:
    return [read_record(place, number) for number in place.attempt_numbers()]


def _status(place: RunFolder, attempts: tuple[Mapping[str, Any], ...]) -> str:
    if not attempts:
        return "pending"
    if "end" not in attempts[-1]:
        return "running" if lock.holder(place.lock) else "interrupted"
    # An attempt that was refused before it trained says nothing of the run.
    ended = [attempt for attempt in attempts if attempt.get("trained") and "end" in attempt]
    end = (ended or attempts)[-1]["end"]
    return _STATUS.get(end["reason"], "interrupted")
