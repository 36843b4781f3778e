"""Gets a publication from a store or a dataset, every byte compared with its manifest."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from outlast.errors import CorruptCheckpoint, ObjectMissing, OutlastError, UsageError
from outlast.folder import durable, layout, plain
from outlast.publish import kaggle, manifest
from outlast.publish.manifest import Manifest, PublishedFile
from outlast.remote.base import Remote

_SHOWN = 10  # names of publications in an error

Progress = Callable[[str, int], None]
"""Takes the path of a file that has come, and its size."""


def fetch(store: Remote, name: str, target: Path, progress: Progress = lambda _name, _size: None) -> Manifest:
    """Copy the files of a publication into a new folder, which appears when it is complete.

    Args:
        store: that holds it.
        name: of the publication.
        target: the folder; nothing may be there.
        progress: is told of each file.

    Returns:
        Its manifest, which is also in the folder.

    Raises:
        ObjectMissing: there is no such publication.
        CorruptCheckpoint: a file is not what the manifest says.
        UsageError: something is at the target.
        OutlastError: a file of it cannot be written; nothing is left.
    """
    _check_target(target)
    if not layout.is_plain(name):
        raise UsageError(f"{name!r:.120} cannot name a publication; `outlast publish --from ADDRESS` lists them.")
    where = manifest.reference_name(name)
    try:
        data = manifest.bounded(store, where)
    except ObjectMissing as error:
        raise ObjectMissing(f"{error} {_present(store)}", error.reason) from error
    found = manifest.named(manifest.read(data, store.address(where)), name, store.address(where))

    def copy(file: PublishedFile, _scratch: Path) -> Iterator[bytes]:
        return _verified(file, store.address(file.object), store.get(file.object, 0, file.size + 1))

    return _copy(found, data, copy, target, progress)


def fetch_dataset(dataset: kaggle.Dataset, target: Path, progress: Progress = lambda _name, _size: None) -> Manifest:
    """Copy the publication that a Kaggle dataset holds into a new folder, as `fetch` does."""
    _check_target(target)
    with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
        data = dataset.manifest(Path(scratch))
    found = manifest.read(data, f"{dataset.address}/{manifest.NAME}")

    def copy(file: PublishedFile, scratch: Path) -> Iterator[bytes]:
        return _verified(file, f"{dataset.address}/{file.path}", dataset.read(file.path, file.size, scratch))

    return _copy(found, data, copy, target, progress)


def _check_target(target: Path) -> None:
    if plain.kind_of(target):
        raise UsageError(f"--output is {target}, where something is already; nothing was changed. Give a new name.")


def _copy(
    found: Manifest,
    data: bytes,
    copy: Callable[[PublishedFile, Path], Iterator[bytes]],
    target: Path,
    progress: Progress,
) -> Manifest:
    """Write the files of a manifest, and the manifest, into a folder that appears when it is complete.

    `copy` gives the bytes of a file; what it needs on the way it may write into the folder that it is told.
    """
    temporary = target.with_name(f"{layout.TEMPORARY}{target.name}")
    scratch = target.with_name(f"{layout.TEMPORARY}{target.name}-download")
    written = target
    try:
        durable.remove_any(temporary)
        for file in found.files:
            written, place = target / file.path, temporary / file.path
            durable.make_folder(place.parent)
            if plain.kind_of(place):
                raise CorruptCheckpoint(
                    f"{file.path} has the name of another file of {found.name} on this file system. Nothing was "
                    "written; choose a folder on one that distinguishes the two."
                )
            durable.write_file(place, copy(file, scratch))
            progress(file.path, file.size)
        written = target
        durable.make_folder(temporary)
        durable.write_file(temporary / manifest.NAME, [data])
        durable.move(temporary, target)
    except OSError as error:  # of a write, which names no file
        raise OutlastError(
            f"{written} cannot be written: {error.strerror or error}. Nothing of {found.name} was kept. Free disk "
            "space, or choose another folder."
        ) from error
    finally:
        with contextlib.suppress(NotADirectoryError):
            durable.remove_any(temporary)
            durable.remove_any(scratch)
    return found


def _present(store: Remote) -> str:
    names = names_in(store)
    shown = ", ".join(names[-_SHOWN:]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"{store.address()} holds {shown}." if names else f"{store.address()} holds no publications."


def names_in(store: Remote) -> list[str]:
    """The names of the publications that a store holds, ascending."""
    before, ending = f"{manifest.FOLDER}/", ".json"
    found = (entry.name for entry in store.list(before))
    return sorted(
        name.removeprefix(before).removesuffix(ending)
        for name in found
        if name.endswith(ending) and "/" not in name.removeprefix(before)
    )


def _verified(file: PublishedFile, where: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes of a file; raises when they end and are not those of the manifest, so that no file gets its name."""
    sha256, size = hashlib.sha256(), 0
    for piece in pieces:
        sha256.update(piece)
        size += len(piece)
        yield piece
    if (size, sha256.hexdigest()) != (file.size, file.sha256):
        raise CorruptCheckpoint(
            f"{where} is not what the manifest says of {file.path}: {size} bytes; expected {file.size} with the "
            f"SHA-256 {file.sha256[:12]}. Nothing was written."
        )
