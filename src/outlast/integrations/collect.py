"""Kept files become a checkpoint: one part, `files`, of which each array is the contents of a file.

The files are streamed from the disk into the checkpoint. A file that changes meanwhile fails the save.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outlast.checkpoint import Snapshot, tensors
from outlast.checkpoint.record import LoopRecord, StateRecord
from outlast.checkpoint.snapshot import File
from outlast.errors import UnsafeFolder
from outlast.folder.plain import open_plain
from outlast.integrations.patterns import FileChanged, KeptFile
from outlast.state.array import Array

PART = "files"
KIND = "files"

_PIECE = 2**20  # bytes that are read at a time


def snapshot(
    step: int, reason: str, folder: Path, files: Mapping[str, KeptFile], journal: Mapping[str, Any]
) -> Snapshot:
    """The files as a state to be committed. They are read during the commit.

    Args:
        step: the checkpoint's step.
        reason: why it is saved.
        folder: the folder of the files.
        files: path -> the file as it was found.
        journal: the journal's mark.

    The commit raises FileChanged if a file is not as it was found.
    """
    arrays = {path: Array("U8", (file.size,), b"", file.size) for path, file in files.items()}
    layout = tensors.Layout(arrays)

    def pieces() -> Iterator[bytes]:
        yield layout.header
        for path in layout.offsets:
            yield from _contents(folder, files[path])

    node = {path: {"$array": path, "mode": file.mode, "mtime": file.mtime} for path, file in sorted(files.items())}
    part = {"kind": KIND, "class": "kept files", "state": node}
    record = StateRecord(step, LoopRecord(), journal, {PART: part}, None)
    return Snapshot(step, reason, [File(PART, layout.size, pieces)] if files else [], record.as_json())


def _contents(folder: Path, file: KeptFile) -> Iterator[bytes]:
    path, size = folder / file.path, 0
    try:
        descriptor = open_plain(path)
    except (UnsafeFolder, FileNotFoundError) as error:
        raise _changed(path) from error
    try:
        before = os.fstat(descriptor)
        while piece := os.read(descriptor, min(_PIECE, file.size - size + 1)):
            size += len(piece)
            if size > file.size:
                raise _changed(path)
            yield piece
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if size != file.size or not before.st_mtime_ns == after.st_mtime_ns == file.mtime:
        raise _changed(path)


def _changed(path: Path) -> FileChanged:
    return FileChanged(
        f"{path} was changed while it was copied into a checkpoint, so the checkpoint was not written. Earlier "
        "checkpoints are intact."
    )
