"""The store that a training reads: the one that is given, or one made of the raw files that are given instead, once."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import outlast
from outlast import Run
from outlast_recipes.common.clip_store import Store, find_store, prepare
from outlast_recipes.skeleton import ntu
from outlast_recipes.skeleton.commands import found_in

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = "outlast-store"
_EVERY = 10  # lines about how far it is


class NotPrepared(outlast.DataError):
    """There are raw files, and no store of them yet."""


def store_of(root: Path, runs: Path, run: Run | None = None) -> Store:
    """The store of a folder; made of the raw files in it when there is none, for a run, which hears of it.

    Args:
        root: a store, a folder that holds one, or a folder of raw files.
        runs: the folder of the run folders; beside it lies the store of files in a folder that cannot be written.
        run: that is to be trained; without one nothing is made.

    Raises:
        NotPrepared: there are raw files only, and no run asks.
        outlast.DataError: there is neither a store nor files that are known.
    """
    own = [place for place in _places(root, runs) if (place / "index.json").is_file()]
    if own and own[0] != root / NAME:
        return _told(Store(own[0]), root, run)
    try:
        store = Store(find_store(root))
    except outlast.DataError:
        files = raw_files(root)
        if not files:
            raise
    else:
        return _told(store, root, run) if own else store
    if run is None:
        raise NotPrepared(
            f"{root} holds {len(files)} files such as {files[0].relative_to(root)}, which are no store yet: a training makes one of them, and so does "
            f"outlast data prepare skeleton {shlex.quote(str(root))} --to STORE"
        )
    return _made(root, runs, files, run)


def raw_files(root: Path) -> list[Path]:
    """Raw files of one data set below a folder, those on NTU's list of missing skeletons left out; empty when there are none."""
    try:
        files, _, _, _ = found_in(root, "auto")
    except outlast.DataError:
        return []
    return [path for path in files if path.name.partition(".")[0] not in ntu.missing()]


def _places(root: Path, runs: Path) -> list[Path]:
    """Where a store made of a folder's files may lie: in that folder, or beside the runs when it cannot be written."""
    known = hashlib.blake2b(str(root.resolve()).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    beside = runs.parent / "outlast-data" / f"{root.resolve().name}-{known}"
    return [root / NAME, beside] if os.access(root, os.W_OK) else [beside]


def _made(root: Path, runs: Path, files: Sequence[Path], run: Run) -> Store:
    _, read, layout, classes = found_in(root, "auto")
    place = next((place for place in _places(root, runs) if _can_be_made(place)), None)
    if place is None:
        raise NotPrepared(
            f"Neither {root} nor {runs.parent} can be written, so no store can be made of the {len(files)} files."
        )
    with _alone(place):
        if (place / "index.json").is_file():  # another process, or another rank, has made it meanwhile
            return _told(Store(place), root, run)
        run.tell(
            f"{root} holds {len(files)} raw files: a store is made of them in {place}, once. Were this cut off, it goes on there next time."
        )
        told = 0

        def progress(done: int, total: int) -> None:
            nonlocal told
            if done * _EVERY // total > told:
                told = done * _EVERY // total
                run.tell(f"{done:,} of {total:,} files are read")

        cores = outlast.detect("auto").limits.cores or 1
        store = prepare(files, read, place, layout=layout, classes=classes, workers=cores, progress=progress)
    refused = f"; {len(store.refused)} files were refused, such as: {store.refused[0].why}" if store.refused else ""
    run.tell(f"{place}: {len(store)} clips of {len(store.classes)} classes ({store.layout}){refused}")
    return store


def _told(store: Store, root: Path, run: Run | None) -> Store:
    """A store that was made of a folder's files before: say so, and whether files came later."""
    if run is not None:
        made = (store.folder / "index.json").stat().st_mtime
        later = [path for path in raw_files(root) if path.stat().st_mtime > made]
        more = (
            f"; {len(later)} files are newer than it and not in it: outlast data prepare skeleton {shlex.quote(str(root))} "
            f"--to {shlex.quote(str(store.folder))} --replace"
            if later
            else ""
        )
        run.tell(f"the store in {store.folder} is used, which was made of the files in {root}{more}")
    return store


def _can_be_made(place: Path) -> bool:
    try:
        (place / "shards").mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place / "shards", os.W_OK)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process at a time makes a store; the others wait for it."""
    descriptor = os.open(place / "shards" / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
