"""Looks at all runs of a folder again and again, and reads only those that changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.errors import OutlastError
from outlast.folder.layout import RunFolder
from outlast.report.runs import RunInfo, read_run

_Key = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Seen:
    """A run at one look.

    Attributes:
        info: the run.
        step: the last step that was logged or saved.
        metrics: the last value of every metric.
        logged: the time of the last change of the journal, in seconds since 1970; None without one.
    """

    info: RunInfo
    step: int
    metrics: Mapping[str, Any]
    logged: float | None

    @property
    def is_running(self) -> bool:
        """Whether an attempt works on it, on this machine or one that shares the folder."""
        return self.info.status == "running"


class Watch:
    """All runs of a folder.

    Args:
        root: the folder of run folders; it may not exist yet.

    Attributes:
        runs: by name, as they were seen last.
        left_out: why a run was never seen: name -> a sentence.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: dict[str, Seen] = {}
        self.left_out: dict[str, str] = {}
        self._keys: dict[str, _Key] = {}

    def look(self) -> set[str]:
        """Read what changed since the last look; returns the names of the runs that changed, came or went.

        A run that was running is read at every look, as its end may leave no trace. One that cannot be read now is
        left as it was, and read at the next look.
        """
        changed = set()
        names = self._names()
        self.left_out = {}
        for name in names:
            folder = RunFolder(self.root / name)
            key = _key(folder)
            before = self.runs.get(name)
            if before is not None and self._keys.get(name) == key and not before.is_running:
                continue
            try:
                seen = _seen(folder)
            except (OutlastError, OSError) as error:
                if before is None:
                    self.left_out[name] = f"{name} is left out: {error}"
                continue
            if before is None or self._keys.get(name) != key or before.info.status != seen.info.status:
                changed.add(name)
            self.runs[name], self._keys[name] = seen, key
        for name in self.runs.keys() - names:
            changed.add(name)
            del self.runs[name], self._keys[name]
        return changed

    def _names(self) -> set[str]:
        try:
            with os.scandir(self.root) as found:
                return {each.name for each in found if each.is_dir() and os.path.lexists(f"{each.path}/run.json")}
        except OSError:
            return set()


def _seen(folder: RunFolder) -> Seen:
    info = read_run(folder.path)
    logged = _stat(folder.journal)
    latest = info.latest.last.values()
    step = max([info.step, *(step for step, _ in latest)])
    return Seen(info, step, info.metrics, logged[1] / 1e9 if logged else None)


def _key(folder: RunFolder) -> _Key:
    return tuple(map(_stat, (folder.run, folder.attempts, folder.checkpoints, folder.journal, folder.config)))


def _stat(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
