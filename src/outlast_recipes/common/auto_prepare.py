"""The store that a training reads: the one that is given, or one prepared from the raw files that are given instead,
once."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path
from typing import Any

import outlast
from outlast import Run
from outlast_recipes.common.clip_store import INDEX, ClipStore, find_store, raw_files
from outlast_recipes.common.clips import ClipFormat, E, RawFiles
from outlast_recipes.common.locking import exclusive
from outlast_recipes.common.preparing import SHARDS, prepare

NAME = "outlast-store"
_LINES = 10  # lines about the progress of a preparation


class NotPrepared(outlast.DataError):
    """There are raw files, and no store of them yet."""


def store_of(root: Path, runs: Path, form: ClipFormat[Any, E], run: Run | None = None) -> ClipStore[E]:
    """The store of a folder. When the folder has only raw files, a store is prepared from them for a run.

    Args:
        root: a store, a folder that holds one, or a folder of raw files.
        runs: folder of the run folders; the store of files in a read-only folder is made beside it.
        form: format of the recipe's clips.
        run: the run that is to be trained, which says what is done; without one nothing is prepared.

    Raises:
        NotPrepared: there are only raw files, and no run is given.
        outlast.DataError: there is neither a store nor a file that the recipe knows.
    """
    own = [place for place in _places(root, runs) if (place / INDEX).is_file()]
    if own and own[0] != root / NAME:
        return _opened(own[0], root, form, run)
    try:
        found = find_store(root, form)
    except outlast.DataError:
        raw = raw_files(root, form)
        if raw is None:
            raise
    else:
        return _opened(found, root, form, run) if own else ClipStore(found, form)
    if run is None:
        raise NotPrepared(
            f"{root} holds {len(raw.files)} raw files such as {raw.files[0].relative_to(root)} and no clip store. A "
            f"training prepares one; so does: {form.command} {shlex.quote(str(root))} --to STORE"
        )
    return _prepared(root, runs, raw, form, run)


def _places(root: Path, runs: Path) -> list[Path]:
    """Possible places of a clip store for a folder: in the folder, or beside the runs if the folder is read-only."""
    known = hashlib.blake2b(str(root.resolve()).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    beside = runs.parent / "outlast-data" / f"{root.resolve().name}-{known}"
    return [root / NAME, beside] if os.access(root, os.W_OK) else [beside]


def _prepared(root: Path, runs: Path, raw: RawFiles[Any], form: ClipFormat[Any, E], run: Run) -> ClipStore[E]:
    place = next((place for place in _places(root, runs) if _can_be_made(place)), None)
    if place is None:
        raise NotPrepared(
            f"{root} holds {len(raw.files)} raw files, and a clip store cannot be written to {root} nor to "
            f"{runs.parent}. Prepare one elsewhere: {form.command} {shlex.quote(str(root))} --to STORE"
        )
    with exclusive(place / SHARDS / "lock"):
        if (place / INDEX).is_file():  # another process or rank has made it meanwhile
            return _opened(place, root, form, run)
        run.tell(
            f"{root} holds {len(raw.files)} raw files. A clip store is prepared from them in {place}, once. If that "
            "is interrupted, the next session continues it."
        )
        said = 0

        def progress(done: int, total: int) -> None:
            nonlocal said
            if done * _LINES // total > said:
                said = done * _LINES // total
                run.tell(f"read {done:,} of {total:,} files")

        cores = outlast.detect("auto").limits.cores or 1
        store = prepare(raw, place, form, workers=cores, progress=progress)
    refused = f"; {len(store.refused)} files were refused, such as: {store.refused[0].why}" if store.refused else ""
    run.tell(f"{place}: {len(store)} clips of {len(store.classes)} classes ({store.layout}){refused}")
    return store


def _opened(place: Path, root: Path, form: ClipFormat[Any, E], run: Run | None) -> ClipStore[E]:
    """A store that was prepared from a folder's files before; the run says so, and whether files are newer than it."""
    store = ClipStore(place, form)
    if run is not None:
        made = (place / INDEX).stat().st_mtime
        raw = raw_files(root, form)
        newer = [path for path in raw.files if path.stat().st_mtime > made] if raw else []
        more = (
            f"; {len(newer)} files are newer than the store and not in it. Prepare it again with: {form.command} "
            f"{shlex.quote(str(root))} --to {shlex.quote(str(place))} --replace"
            if newer
            else ""
        )
        run.tell(f"the clip store in {place} is used; it was prepared from the files in {root}{more}")
    return store


def _can_be_made(place: Path) -> bool:
    try:
        (place / SHARDS).mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place / SHARDS, os.W_OK)
