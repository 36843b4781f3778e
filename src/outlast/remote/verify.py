"""Reads every byte of a pushed run in a remote, and compares it with the hashes of the newest revision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from outlast.errors import ObjectMissing
from outlast.folder import layout
from outlast.folder.hashing import hash_pieces
from outlast.remote.parallel import in_parallel
from outlast.remote.revision import Blob, Files, PushedRun

RECORDS = "records"


@dataclass(frozen=True)
class VerifiedPart:
    """A checkpoint of a pushed run, or its records.

    Attributes:
        name: of the checkpoint's folder, or RECORDS.
        size: bytes.
        damage: a sentence about each object that is missing, or not what the revision says.
    """

    name: str
    size: int
    damage: tuple[str, ...]


def verify_pushed(pushed: PushedRun) -> Iterator[VerifiedPart]:
    """Read a pushed run: its checkpoints, ascending by step, then its records. Objects that they share are read once.

    Raises:
        RemoteError: the remote does not answer, or refuses.
    """
    revision, known = pushed.revision, dict[Blob, str]()
    if revision is None:
        return
    parts = [(layout.step_name(step), each.files) for step, each in sorted(revision.checkpoints.items())]
    for name, files in [*parts, (RECORDS, revision.records)]:
        blobs = _blobs(files)
        new = [blob for blob in blobs if blob not in known]
        known.update(zip(new, in_parallel(lambda blob: _damage(pushed, blob), new), strict=True))
        size = sum(blob.size for blob in blobs)
        yield VerifiedPart(name, size, tuple(known[blob] for blob in blobs if known[blob]))


def _blobs(files: Files) -> list[Blob]:
    """Each blob once."""
    return list(dict.fromkeys(blob for blobs in files.values() for blob in blobs))


def _damage(pushed: PushedRun, blob: Blob) -> str:
    """What is wrong with an object; "": nothing."""
    name = pushed.blob_name(blob.hash)
    try:
        found = hash_pieces(pushed.remote.get(name, 0, blob.size + 1))
    except ObjectMissing:
        return f"{pushed.remote.address(name)} is missing."
    if found.size != blob.size:
        size = "more" if found.size > blob.size else f"{found.size} bytes"
        return f"{pushed.remote.address(name)} has {size}; expected {blob.size}."
    return "" if found.name == blob.hash else f"{pushed.remote.address(name)} has other contents than its name says."
