"""The objects of a publication in a store: put where they are absent, and looked at again."""

from __future__ import annotations

from collections.abc import Mapping

from outlast.errors import ObjectConflict, ObjectMissing, RemoteRefused
from outlast.publish.plan import PlannedFile
from outlast.publish.reference import Progress
from outlast.remote.base import Remote, digest_of
from outlast.remote.parallel import in_parallel


def put(blobs: Mapping[str, PlannedFile], store: Remote, progress: Progress) -> int:
    """Put every object that is not there; returns how many were written.

    Raises:
        ObjectConflict: one is there and is another one.
    """

    def put_one(blob: tuple[str, PlannedFile]) -> bool:
        name, file = blob
        try:
            return store.put_if_absent(name, file.source)
        except ObjectConflict as error:
            raise ObjectConflict(
                f"{store.address(name)} is damaged: its contents are not those that its name states ({file.size} bytes "
                "were expected). Publishing deletes nothing; move it away, and publish again.",
                error.reason,
            ) from error

    sent = 0
    for (name, file), written in zip(blobs.items(), in_parallel(put_one, blobs.items()), strict=True):
        sent += written
        progress(name, file.size)
    return sent


def gate(blobs: Mapping[str, PlannedFile], store: Remote) -> None:
    """Ask the store for every object again.

    Raises:
        RemoteRefused: one is missing or another one.
    """
    algorithm = store.capabilities.digest

    def look(blob: tuple[str, PlannedFile]) -> None:
        name, file = blob
        try:
            found = store.stat(name)
        except ObjectMissing as error:
            raise RemoteRefused(f"{store.address(name)} was put and is not there any more.", error.reason) from error
        expected = _digest(file, algorithm)
        if (found.size, found.digest) != (file.size, expected):
            raise RemoteRefused(
                f"{store.address(name)} was put and is not what was sent: {found.size} bytes with the {algorithm} "
                f"{found.digest[:12]}; expected {file.size} bytes with {expected[:12]}."
            )

    for _ in in_parallel(look, blobs.items()):
        pass


def _digest(file: PlannedFile, algorithm: str) -> str:
    known = {"sha256": file.sha256, "md5": file.md5}
    return known[algorithm] if algorithm in known else digest_of(file.source, algorithm)
