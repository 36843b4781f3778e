"""Prepares a clip store from raw files, in several processes; an interrupted preparation continues."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import outlast
from outlast_recipes.common.clip_store import FORMAT, INDEX, ClipStore
from outlast_recipes.common.clip_writing import merge, write_shard
from outlast_recipes.common.clips import C, ClipFormat, E, RawFiles

SHARD = 200  # files of a shard
SHARDS = "shards"  # folder of the shards, in the store's


def prepare(
    raw: RawFiles[C],
    folder: Path,
    form: ClipFormat[C, E],
    *,
    workers: int | None = None,
    replace: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> ClipStore[E]:
    """Read files into a store. The shards of a call that was cut off are not read again; the store appears whole or not
    at all.

    Args:
        raw: files of one data set.
        folder: folder of the store.
        form: format of the recipe's clips.
        workers: processes; as many as there are cores by default.
        replace: whether an older store in the folder is replaced.
        progress: is called with how many files of how many are read.

    Raises:
        outlast.DataError: no file could be read; the folder holds something else or an older store, or cannot be
        written.
    """
    _refuse_to_overwrite(folder, form, replace=replace)
    shards = _shards(raw, folder)
    total = sum(map(len, shards.values()))
    try:
        (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise outlast.DataError(
            f"{folder} cannot be created ({error.strerror}); give another folder to --to."
        ) from error
    one = dataclasses.replace(raw, files=())  # a worker needs the names of its own files only
    done = 0
    with ProcessPoolExecutor(workers or len(os.sched_getaffinity(0)), initializer=_end_with_parent) as pool:
        for count in pool.map(_prepare_shard, shards, shards.values(), *([each] * len(shards) for each in (one, form))):
            done += count
            progress(done, total)
    merge(list(shards), folder, form, raw.layout, raw.classes)
    shutil.rmtree(folder / SHARDS)
    return ClipStore(folder, form)


def unread(raw: RawFiles[Any], folder: Path) -> list[Path]:
    """The files that `prepare` would still read: all but those of shards that an earlier call has written."""
    return [path for place, shard in _shards(raw, folder).items() if not place.exists() for path in shard]


def write(
    clips: Sequence[C], folder: Path, form: ClipFormat[C, E], *, layout: str, classes: Sequence[str] = ()
) -> ClipStore[E]:
    """Make a store of clips that are in memory already; see `prepare` for files."""
    place = folder / SHARDS / "all.npz"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_shard(place, clips, [], form, layout)
    merge([place], folder, form, layout, classes)
    shutil.rmtree(folder / SHARDS)
    return ClipStore(folder, form)


def _refuse_to_overwrite(folder: Path, form: ClipFormat[Any, Any], *, replace: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise outlast.DataError(f"{folder} is a file; expected a folder for the store. Give another name to --to.")
    arrays = [f"{name}.npy" for name in form.arrays]
    own = {INDEX, SHARDS, *arrays}
    others = sorted({path.name for path in folder.iterdir()} - own - {f".{name}" for name in own})
    if (folder / arrays[0]).exists() and not any((folder / name).exists() for name in (INDEX, SHARDS)):
        others.append(arrays[0])  # a file of the user's
    if others:
        raise outlast.DataError(
            f"{folder} holds {others[0]}, which does not belong to a clip store. Nothing was changed. Give a new "
            "folder to --to."
        )
    if (folder / INDEX).exists() and not replace:
        raise outlast.DataError(
            f"{folder} is already a clip store. Nothing was changed. Give a new folder to --to, or --replace to "
            "prepare this one again."
        )


def _shards(raw: RawFiles[Any], folder: Path) -> dict[Path, list[Path]]:
    """The files of each shard, by the shard's own file."""
    ordered = sorted(raw.files, key=lambda path: path.name)
    shards = [ordered[start : start + SHARD] for start in range(0, len(ordered), SHARD)]
    return {folder / SHARDS / f"{_identity(shard, raw.layout)}.npz": shard for shard in shards}


def _identity(shard: Sequence[Path], layout: str) -> str:
    """Hash of names, sizes and times of files. A link to nowhere has neither size nor time, and is refused when it is
    read."""
    facts = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else (path.name, 0, 0)
        for path in shard
    ]
    return hashlib.blake2b(json.dumps([FORMAT, layout, facts]).encode(), digest_size=12).hexdigest()


def _prepare_shard(place: Path, shard: Sequence[Path], raw: RawFiles[C], form: ClipFormat[C, Any]) -> int:
    """Read the files of a shard, unless it has been written; returns how many they are."""
    if not place.exists():
        clips: list[C] = []
        refused: list[dict[str, str]] = []
        for path in shard:
            try:
                found = raw.read(path)
            except outlast.DataError as error:
                refused.append({"name": path.name, "why": str(error)})
                continue
            clips += found if isinstance(found, list) else [found]
        write_shard(place, clips, refused, form, raw.layout)
    return len(shard)


def _end_with_parent() -> None:
    """In a worker: end when the process that started it is gone, even killed. Otherwise a worker would wait for work
    forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
