"""Finds the run, or the chain of runs, that a user names."""

from __future__ import annotations

import contextlib
from pathlib import Path

from outlast.errors import OutlastError
from outlast.folder import plain
from outlast.folder.layout import RunFolder, runs_root
from outlast.launch.records import LaunchRecord, all_launches
from outlast.recipe import lookup
from outlast.report.chain import chain_at, under_way
from outlast.terminal import say


def run_of(name: str, root: str | None) -> Path:
    """The folder of a run, by path or by name; of a chain, by its name: the current stage, or else the last one.

    Raises:
        UnknownName: there is none.
    """
    if links := chain_at(name, runs_root(root)):
        return under_way(links).folder
    return lookup.folder_of(name, runs_root(root))


def runs_of(name: str, root: str | None) -> list[Path]:
    """The folder of a run, or the existing folders of a chain's stages, in order.

    Raises:
        UnknownName: there is none.
    """
    links = chain_at(name, runs_root(root))
    return [link.info.folder for link in links if link.info] or [lookup.folder_of(name, runs_root(root))]


def launched_or_trained(name: str, root: str | None) -> Path:
    """As `run_of`, and also for a run that was launched elsewhere and is not on this machine yet.

    Raises:
        UnknownName: there is none.
    """
    for place in (runs_root(root) / name, Path(name)):
        if plain.kind_of(RunFolder(place).launches) == "folder" and all_launches(RunFolder(place)):
            return place
    return run_of(name, root)


def last_launched(root: Path) -> RunFolder | None:
    """The run that was launched last, or None.

    A run with a damaged launch record is left out, with a warning.
    """
    records: list[LaunchRecord] = []
    for path in sorted(root.glob("*/launches")):
        try:
            records += all_launches(RunFolder(path.parent))
        except OutlastError as error:
            say(f"warning: {path.parent.name} is left out. {error}", error=True)
    newest = max(records, key=lambda each: str(each.record.get("time", "")), default=None)
    return newest.folder if newest else None


def last_written(root: Path) -> RunFolder | None:
    """The run whose journal, or else whose record, was written last; None if there is no run."""

    def time_of(path: Path) -> float:
        for each in (RunFolder(path).journal, path / "run.json"):
            with contextlib.suppress(OSError):
                return each.lstat().st_mtime
        return 0.0

    newest = max((path.parent for path in sorted(root.glob("*/run.json"))), key=time_of, default=None)
    return RunFolder(newest) if newest else None
