"""A run, read from its folder. Its status is derived from its attempts and never stored."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.checkpoint import Checkpoint, CheckpointStore, open_checkpoint
from outlast.checkpoint.listing import steps_in
from outlast.errors import CorruptCheckpoint, OutlastError, UnknownName
from outlast.folder import lock, plain, reading
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import PUSHED, RUN
from outlast.tracking import Latest, TimeSpent, latest, spent_in

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
    """A run folder.

    Its status is read at once, and everything else on access, so that listing a long run is as fast as a short one.

    Attributes:
        folder: its path.
        about: the contents of run.json.
        status: pending, running, interrupted, finished, failed or cancelled.
        newest: the newest committed checkpoint, not verified; None if there is none.
        total_steps: total number of steps, as recorded by the last attempt that knew it.
        numbers: numbers of the attempts on disk, ascending.
    """

    folder: Path
    about: Mapping[str, Any]
    status: str
    newest: Checkpoint | None
    total_steps: int | None
    numbers: tuple[int, ...]

    @property
    def id(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def step(self) -> int:
        """The step of the newest checkpoint; that of its end for a finished run whose checkpoints were deleted."""
        if self.newest is None and self.status == "finished":
            return max((attempt["end"].get("step") or 0 for attempt in self.attempts if "end" in attempt), default=0)
        return self.newest.step if self.newest else 0

    @functools.cached_property
    def attempts(self) -> tuple[Mapping[str, Any], ...]:
        """The attempts' records, in order."""
        return tuple(self.last_attempts(len(self.numbers)))

    def last_attempts(self, most: int) -> list[Mapping[str, Any]]:
        """The records of the newest attempts, in order."""
        return [read_record(RunFolder(self.folder), number) for number in self.numbers[-most:]] if most else []

    def spent(self, attempt: Mapping[str, Any]) -> TimeSpent | None:
        """The time of an attempt by activity; None if it is not recorded."""
        return spent_in(RunFolder(self.folder), attempt["number"], attempt.get("id"))

    @functools.cached_property
    def pushed(self) -> Mapping[str, Any] | None:
        """The state of the run's remote: pushed.json, with the current `behind`; None if the run has no remote."""
        try:
            record = reading.read_record(RunFolder(self.folder).pushed, PUSHED)
        except (FileNotFoundError, CorruptCheckpoint):
            return None
        folder, there, noted = RunFolder(self.folder), set(record["steps"]), set(record["behind"])
        newest = max(there | noted, default=-1)  # of the older ones, the remote lacks those that retention did not want
        missing = [step for step in steps_in(folder.checkpoints) if step in noted or step > newest]
        return record | {"behind": [step for step in sorted(missing) if CheckpointStore(folder).exists(step)]}

    @functools.cached_property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All committed checkpoints, ascending; not verified."""
        return tuple(CheckpointStore(RunFolder(self.folder)).committed())

    def last_checkpoints(self, most: int) -> list[Checkpoint]:
        """The newest committed checkpoints, ascending; not verified."""
        return list(itertools.islice(CheckpointStore(RunFolder(self.folder)).newest_first(), most))[::-1]

    @functools.cached_property
    def checkpoint_count(self) -> int:
        """The number of checkpoint folders."""
        return len(steps_in(RunFolder(self.folder).checkpoints))

    @functools.cached_property
    def stored_bytes(self) -> int:
        """Bytes of all files of all checkpoints."""
        return _bytes_in(RunFolder(self.folder).checkpoints)

    @functools.cached_property
    def set_aside(self) -> list[str]:
        """Names of the checkpoints that were set aside because of damage."""
        return [path.name for path in plain.entries(RunFolder(self.folder).set_aside)]

    @functools.cached_property
    def latest(self) -> Latest:
        """The last value of every metric, read from the end of the journal."""
        mark = None
        if self.newest:
            with contextlib.suppress(OutlastError, KeyError, TypeError):  # a damaged one is named by `outlast verify`
                mark = open_checkpoint(self.newest.path, ()).state.journal
        return latest(RunFolder(self.folder).journal, mark)

    @property
    def metrics(self) -> dict[str, Any]:
        """The last value of every metric in the journal."""
        found: dict[str, tuple[int, Any]] = {}
        for name, (step, value) in self.latest.last.items():
            name = self.renamed.get(name, name)  # noqa: PLW2901 - one metric under two names
            if name not in found or step >= found[name][0]:
                found[name] = step, value
        return {name: value for name, (_, value) in found.items()}

    @functools.cached_property
    def renamed(self) -> Mapping[str, str]:
        """Former name -> name of metrics, as recorded by the newest attempt that trained."""
        attempts = _ReverseReader(RunFolder(self.folder), self.numbers)
        return next((attempt.get("renamed", {}) for attempt in attempts if attempt.get("trained")), {})


def read_run(folder: Path) -> RunInfo:
    """Read one run folder; raises UnknownName if it is not one."""
    place = RunFolder(folder)
    try:
        about = reading.read_record(place.run, RUN)
    except FileNotFoundError:
        raise UnknownName(
            f"{folder} is not a run folder: it has no run.json. `outlast runs` lists those there are."
        ) from None
    numbers = tuple(place.attempt_numbers())
    attempts = _ReverseReader(place, numbers)
    return RunInfo(
        folder,
        about,
        _status(place, attempts),
        next(CheckpointStore(place).newest_first(), None),
        _total(attempts),
        numbers,
    )


def list_runs(root: Path, left_out: list[str] | None = None) -> list[RunInfo]:
    """All runs in a folder, by name.

    Args:
        root: the folder.
        left_out: gets a sentence about each folder that cannot be read.
    """
    found = []
    for path in sorted(root.glob("*/run.json")):
        try:
            found.append(read_run(path.parent))
        except (OutlastError, OSError) as error:
            if left_out is not None:
                left_out.append(f"{path.parent.name} is left out: {error}")
    return found


class _ReverseReader:
    """The records of a run's attempts, the newest first; each is read once, on access."""

    def __init__(self, place: RunFolder, numbers: Sequence[int]) -> None:
        self._place, self._numbers = place, numbers
        self._read: list[Mapping[str, Any]] = []

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for index, number in enumerate(reversed(self._numbers)):
            if index == len(self._read):
                self._read.append(read_record(self._place, number))
            yield self._read[index]


def _status(place: RunFolder, attempts: Iterable[Mapping[str, Any]]) -> str:
    newest = next(iter(attempts), None)
    if newest is None:
        return "pending"
    if "end" not in newest:
        return "running" if lock.holder(place.lock) else "interrupted"
    # An attempt that was refused before it trained says nothing of the run.
    end = next((attempt["end"] for attempt in attempts if attempt.get("trained") and "end" in attempt), newest["end"])
    return _STATUS.get(end["reason"], "interrupted")


def _total(attempts: Iterable[Mapping[str, Any]]) -> int | None:
    known = (attempt.get("total_steps") or attempt.get("end", {}).get("total_steps") for attempt in attempts)
    return next((total for total in known if total is not None), None)


def _bytes_in(folder: Path) -> int:
    """Bytes of the plain files below a folder; no link is followed."""
    if plain.kind_of(folder) != "folder":
        return 0
    total, waiting = 0, [str(folder)]
    while waiting:  # no recursion: folders may be in each other a thousand deep
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as found:
            for each in found:
                if each.is_dir(follow_symlinks=False):
                    waiting.append(each.path)
                elif each.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):  # a temporary file of a run that is training
                        total += each.stat(follow_symlinks=False).st_size
    return total
