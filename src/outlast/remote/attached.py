"""The inputs that the platform has attached, and the runs in them.

These are folders that are read only, such as the output of an earlier Kaggle session.

Kaggle mounts an input as /kaggle/input/SLUG or as /kaggle/input/notebooks/OWNER/SLUG; a run is anywhere below it.
"""

from __future__ import annotations

import contextlib
import heapq
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from outlast.errors import OutlastError
from outlast.folder import layout, plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import CONFIG

_DEPTH = 6  # /kaggle/input/notebooks/OWNER/SLUG/working/runs/ID is as deep as it gets
MOST_FOLDERS = 50_000  # that are looked into below each input: data sets may have any number


def copies_of(run_id: str, inputs: Iterable[Path], told: list[str] | None = None) -> list[RunFolder]:
    """Folders below the inputs that hold this run, whatever the mount's layout.

    Args:
        run_id: its name.
        inputs: where to look. What is directly in one may be a link, as mounts are; links below are not followed.
        told: gets a sentence if an input has more folders than the search limit.
    """
    found = []
    for root in inputs:
        here, complete = _holding(run_id, root)
        found += [RunFolder(path) for path in sorted(here, key=lambda path: (len(path.parts), path))]
        if not complete and told is not None:
            told.append(
                f"{root} has more than {MOST_FOLDERS:,} folders, and only those were searched for a copy of {run_id}. "
                "If the copy is in another one, give its path with --resume or resume_from."
            )
    return found


def _holding(run_id: str, root: Path) -> tuple[list[Path], bool]:
    """Folders of a name with a run.json, and whether all were looked into; those with many beside them come last."""
    found: list[Path] = []
    waiting, seen = [(0, 0, str(root))], set()
    for _ in range(MOST_FOLDERS):
        if not waiting:
            return found, True
        crowd, depth, folder = heapq.heappop(waiting)
        try:
            state = os.stat(folder)  # noqa: PTH116
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as each:
                inside = [entry for entry in each if entry.is_dir(follow_symlinks=depth == 0)]
        except OSError:  # nobody may look there
            continue
        found += [
            Path(entry.path)
            for entry in inside
            if entry.name == run_id and plain.kind_of(Path(entry.path) / "run.json")
        ]
        if depth < _DEPTH:
            deeper = [entry.path for entry in inside if layout.step_in(entry.name) is None]
            for path in deeper:
                heapq.heappush(waiting, (crowd + len(deeper), depth + 1, path))
    return found, not waiting


def stored_config(folder: RunFolder, inputs: Iterable[Path]) -> dict[str, Any] | None:
    """The config that the run was last trained with, here or elsewhere; None for a new run.

    Raises:
        CorruptCheckpoint: the config.json here is none; or those elsewhere are none, and there is none here.
    """
    with contextlib.suppress(FileNotFoundError):
        return reading.read_record(folder.config, CONFIG)
    bad: OutlastError | None = None
    for place in copies_of(folder.path.name, inputs):
        try:
            return reading.read_record(place.config, CONFIG)
        except FileNotFoundError:
            continue
        except OutlastError as error:
            bad = bad or error
    if bad:
        raise bad
    return None
