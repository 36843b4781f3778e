"""The kept files of a checkpoint are put back into the folder in which the command runs.

A checkpoint may come from anywhere: only paths that the user's own patterns name are written, no link is followed, and
nothing is written before everything has been checked.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from outlast.checkpoint import OpenedCheckpoint
from outlast.errors import CorruptCheckpoint, ResumeRefused, UnsafeFolder
from outlast.folder import copying, durable, hashing, plain, records
from outlast.folder.hashing import Buffer
from outlast.integrations.collect import KIND, PART
from outlast.integrations.patterns import MOST, Patterns

_FILES = records.table(
    records.form(
        {"$array": records.text(30_000), "mode": records.whole(0, 0o777), "mtime": records.whole()},
    ),
    MOST,
)


class Restored:
    """What became of the files of a checkpoint.

    Attributes:
        paths: all paths that the patterns name.
        written: paths that were missing.
        replaced: paths whose file was another one, which was moved.
        newer: paths whose file is another one and stays.
        unnamed: paths that no pattern names.
    """

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.written: list[str] = []
        self.replaced: list[str] = []
        self.newer: list[str] = []
        self.unnamed: list[str] = []


class _Stored(NamedTuple):
    path: str
    data: Buffer
    mode: int
    mtime: int


def restore(opened: OpenedCheckpoint, folder: Path, patterns: Patterns, aside: Path, *, keep_newer: bool) -> Restored:
    """Write the files of a checkpoint that are missing in the folder, or differ.

    Args:
        opened: the checkpoint.
        folder: the folder in which the command runs.
        patterns: what may be written.
        aside: the folder into which files that are replaced are copied first.
        keep_newer: leave files that differ as they are.

    Raises:
        CorruptCheckpoint: the checkpoint's list of files is invalid.
        ResumeRefused: it is not one of kept files.
        UnsafeFolder: a link, folder or special file is in the place of a file or folder. Nothing was written.
        OSError: a file could not be written.
    """
    result, waiting = Restored(), []
    for stored in _stored(opened):
        if not patterns.match(stored.path):
            result.unnamed.append(stored.path)
            continue
        result.paths.add(stored.path)
        target = folder / stored.path
        kind = _check_place(folder, stored.path)
        if kind is None:
            result.written.append(stored.path)
        elif _is_same(target, stored.data):
            continue
        elif keep_newer:
            result.newer.append(stored.path)
            continue
        else:
            result.replaced.append(stored.path)
        waiting.append(stored)
    for stored in waiting:
        target = folder / stored.path
        durable.make_folder(target.parent)
        if plain.kind_of(target):
            durable.make_folder((aside / stored.path).parent)
            copying.copy_file(target, aside / stored.path)
        durable.write_file(target, [stored.data])
        with contextlib.suppress(OSError):  # a file system without permissions or times
            os.chmod(target, stored.mode | 0o600)  # noqa: PTH101
            os.utime(target, ns=(stored.mtime, stored.mtime))
    return result


def _stored(opened: OpenedCheckpoint) -> list[_Stored]:
    place, parts = opened.checkpoint.path, opened.state.parts
    if set(parts) != {PART} or parts[PART]["kind"] != KIND:
        raise ResumeRefused(
            f"{place} was not saved by `outlast run`: it holds {', '.join(sorted(parts))[:200] or 'nothing'}. "
            "Start the script that began this run, or give --name another name. Nothing was started."
        )
    node, arrays = parts[PART]["state"], opened.arrays(PART)
    if not isinstance(node, dict):
        raise CorruptCheckpoint(f"{place}: the list of kept files is no object.")
    records.check(node, _FILES, place)
    found = []
    for path, entry in node.items():
        array = arrays.get(path)
        if entry["$array"] != path or array is None or array.dtype != "U8" or len(array.shape) != 1:
            raise CorruptCheckpoint(f"{place}: the contents of {path!r:.200} are not those of a file.")
        found.append(_Stored(path, array.data, entry["mode"], entry["mtime"]))
    return found


def _check_place(folder: Path, path: str) -> str | None:
    """What is in the place of a file that is to be written: "file" or None."""
    place, parts = folder, path.split("/")
    for number, part in enumerate(parts, 1):
        place = place / part
        kind, wanted = plain.kind_of(place), "file" if number == len(parts) else "folder"
        if kind is None:
            return None
        if kind != wanted:
            raise UnsafeFolder(
                f"{place} is a {kind}, and the checkpoint has a {wanted} there. Nothing was restored and nothing was "
                "started. Move it away and start again."
            )
    return "file"


def _is_same(target: Path, data: Buffer) -> bool:
    size = len(memoryview(data))
    return target.lstat().st_size == size and hashing.hash_beginning(target, size) == hashing.digest(data)
