"""Gets a publication from a store, every byte compared with its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from outlast.errors import CorruptCheckpoint, UsageError
from outlast.folder import durable, layout, plain
from outlast.publish import manifest
from outlast.publish.manifest import Manifest, PublishedFile
from outlast.remote.base import Remote


def fetch(
    store: Remote, name: str, target: Path, progress: Callable[[str, int], None] = lambda _name, _size: None
) -> Manifest:
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
        OSError: it cannot be written.
    """
    if plain.kind_of(target):
        raise UsageError(f"--output is {target}, where something is already; nothing was changed. Give a new name.")
    if not layout.is_plain(name):
        raise UsageError(f"{name!r:.120} cannot name a publication; `outlast publish --from ADDRESS` lists them.")
    found = manifest.load(store, name)
    temporary = target.with_name(f"{layout.TEMPORARY}{target.name}")
    durable.remove_any(temporary)
    try:
        for file in found.files:
            place = temporary / file.path
            durable.make_folder(place.parent)
            durable.write_file(place, _verified(store, file))
            progress(file.path, file.size)
        durable.make_folder(temporary)
        data = manifest.bounded(store, manifest.reference_name(name))
        durable.write_file(temporary / manifest.NAME, [data])
        durable.move(temporary, target)
    finally:
        durable.remove_any(temporary)
    return found


def names_in(store: Remote) -> list[str]:
    """The names of the publications that a store holds, ascending."""
    before, ending = f"{manifest.FOLDER}/", ".json"
    found = (entry.name for entry in store.list(before))
    return sorted(
        name.removeprefix(before).removesuffix(ending)
        for name in found
        if name.endswith(ending) and "/" not in name.removeprefix(before)
    )


def _verified(store: Remote, file: PublishedFile) -> Iterator[bytes]:
    """The bytes of a file; raises when they end and are not those of the manifest, so that no file gets its name."""
    sha256, size = hashlib.sha256(), 0
    for piece in store.get(file.object, 0, file.size + 1):
        sha256.update(piece)
        size += len(piece)
        yield piece
    if (size, sha256.hexdigest()) != (file.size, file.sha256):
        raise CorruptCheckpoint(
            f"{store.address(file.object)} is not what the manifest says of {file.path}: {size} bytes; expected "
            f"{file.size} with the SHA-256 {file.sha256[:12]}. Nothing was written."
        )
