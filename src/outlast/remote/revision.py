"""The format of a pushed run: blobs, and revisions of the run folder that list the blobs of each file.

    NAME/revisions/00000012.json    the blobs of each file; the revision with the highest number is the run
    NAME/blobs/HASH                 at most BLOB bytes of a file, under the hash of its contents

Objects in a remote are never overwritten, while some files of a run folder change. So each change is a new revision,
written after all of its blobs. docs/reference/format.md is the specification, docs/decisions/0018 gives the reasons.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from outlast.checkpoint.manifest import CHECKPOINTS, digest_of
from outlast.checkpoint.policy import CheckpointFacts
from outlast.errors import CorruptCheckpoint, ObjectMissing
from outlast.folder import durable, layout, reading, records, schemas
from outlast.folder.hashing import CHUNK, WrittenFile
from outlast.remote.base import Entry, Remote
from outlast.remote.place import Place

BLOB = 4 * CHUNK
"""Bytes of the largest blob."""

_SAID = 3  # of damaged revisions, the others are counted
_NUMBER = re.compile(r"([0-9]{8})\.json")


class Blob(NamedTuple):
    """A piece of a file: the hash of its contents, which is its name, and its size in bytes."""

    hash: str
    size: int


Files = Mapping[str, Sequence[Blob]]
"""File name -> the blobs of the file, in order."""


@dataclass(frozen=True)
class PushedCheckpoint:
    """A checkpoint of a revision.

    Attributes:
        digest: of its manifest.
        kept: step and metrics, for retention.
        files: its files and shared files; names relative to `checkpoints/`.
    """

    digest: str
    kept: CheckpointFacts
    files: Files


@dataclass(frozen=True)
class Revision:
    """The contents of the run folder at the time of one push.

    Attributes:
        number: counts from 1.
        run: the run's uid.
        attempt: id of the attempt that pushed it.
        checkpoints: by their steps.
        records: the files outside of `checkpoints/`: records, events and the journal.
    """

    number: int
    run: str
    attempt: str
    checkpoints: Mapping[int, PushedCheckpoint] = field(default_factory=dict)
    records: Files = field(default_factory=dict)

    @functools.cached_property
    def files(self) -> Files:
        """All files, by their names in the run folder."""
        each = [checkpoint.files for checkpoint in self.checkpoints.values()]
        return {**self.records, **{f"{CHECKPOINTS}/{name}": blobs for files in each for name, blobs in files.items()}}

    @functools.cached_property
    def blobs(self) -> set[str]:
        """The hashes of all its blobs."""
        return {blob.hash for blobs in self.files.values() for blob in blobs}

    def as_bytes(self) -> bytes:
        """The contents of its object."""
        record: dict[str, Any] = {
            "format": layout.FORMAT,
            "number": self.number,
            "run": self.run,
            "attempt": self.attempt,
            "checkpoints": {
                layout.step_name(step): {
                    "digest": each.digest,
                    "metrics": each.kept.metrics,
                    "files": _as_json(each.files),
                }
                for step, each in sorted(self.checkpoints.items())
            },
            "files": _as_json(self.records),
        }
        return durable.as_json({**record, "digest": digest_of(record)})


def parse_revision(data: bytes, place: str) -> Revision:
    """A revision from its object.

    Raises:
        CorruptCheckpoint: it is not a revision, or was changed after it was written.
        OutlastError: a newer outlast wrote it.
    """
    record = reading.parse_record(data, place, schemas.REVISION)
    if record["digest"] != digest_of(record):
        raise CorruptCheckpoint(f"{place} was changed after it was written: its own digest does not match.")
    steps = {layout.step_in(name): each for name, each in record["checkpoints"].items()}
    if None in steps:
        raise CorruptCheckpoint(f"{place} has a checkpoint with an invalid name; it was damaged after it was written.")
    checkpoints = {
        step: PushedCheckpoint(each["digest"], CheckpointFacts(step, each["metrics"]), _from_json(each["files"]))
        for step, each in steps.items()
        if step is not None
    }
    return Revision(record["number"], record["run"], record["attempt"], checkpoints, _from_json(record["files"]))


def blobs_of(expected: WrittenFile) -> list[Blob]:
    """The blobs of a file, from the hashes of its chunks."""
    per, hashes = BLOB // CHUNK, expected.xxh3_128
    found = []
    for first in range(0, len(hashes), per):
        size = min(BLOB, expected.size - first * CHUNK)
        found.append(Blob(WrittenFile(size, hashes[first : first + per]).name, size))
    return found


class PushedRun:
    """A run in a remote, read as a run folder.

    Args:
        remote: what holds it.
        name: the run's name.

    Attributes:
        revision: the newest revision that can be read, or None.
        last: the highest number of a revision, 0 without one.
        told: sentences about damaged revisions.

    Raises:
        RemoteError: the remote does not answer, or refuses to be listed.
    """

    def __init__(self, remote: Remote, name: str) -> None:
        self.remote, self.name, self.prefix = remote, name, f"{name}/"
        self.revision: Revision | None = None
        self.told: list[str] = []
        numbers = sorted(self.revisions(), reverse=True)
        self.last = numbers[0] if numbers else 0
        passed = 0
        for number in numbers:
            try:
                self.revision = self.read(number)
                break
            except (CorruptCheckpoint, ObjectMissing) as error:  # missing: deleted since it was listed
                if passed < _SAID:
                    self.told.append(f"{error} It is skipped.")
                passed += 1
        if passed > _SAID:
            self.told.append(f"{passed - _SAID} more revisions in {self.address()} have the same problem.")

    @property
    def place(self) -> Place:
        """The place that gathering reads: the newest revision, or a run folder that was copied to the remote."""
        return Place(self) if self.revision else Place(self.remote, self.prefix)

    def revisions(self) -> dict[int, Entry]:
        """The present revisions, by number."""
        above = self.revision_name()
        listed = ((entry, _NUMBER.fullmatch(entry.name.removeprefix(above))) for entry in self.remote.list(above))
        return {int(match[1]): entry for entry, match in listed if match}

    def read(self, number: int) -> Revision:
        """One of its revisions.

        Raises:
            ObjectMissing: there is none of this number.
            CorruptCheckpoint: it is damaged.
            OutlastError: a newer outlast wrote it.
        """
        name, most = self.revision_name(number), records.RECORD_BYTES
        data = b"".join(self.remote.get(name, 0, most + 1))
        if len(data) > most:
            raise CorruptCheckpoint(f"{self.remote.address(name)} has more than {most} bytes, the most of a record.")
        found = parse_revision(data, self.remote.address(name))
        if found.number != number:
            raise CorruptCheckpoint(
                f"{self.remote.address(name)} says that it is revision {found.number}: it was copied from another name."
            )
        return found

    def revision_name(self, number: int | None = None) -> str:
        """The name of a revision's object; without a number, the prefix of all of them."""
        return f"{self.prefix}revisions/" + ("" if number is None else f"{number:08d}.json")

    def blob_name(self, found: str = "") -> str:
        """The name of a blob's object, by its hash; without a hash, the prefix of all of them."""
        return f"{self.prefix}blobs/{found}"

    def address(self, name: str = "") -> str:
        """The address of the run, or of one of its files, for messages."""
        return self.remote.address((self.prefix + name).rstrip("/"))

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a file from its blobs, as `Remote.get` does for an object."""
        blobs = self._files().get(name)
        if blobs is None:
            raise ObjectMissing(f"There is no {self.address(name)}.", "not in the newest revision")
        offset = 0
        for blob in blobs:
            low = max(0, start - offset)
            high = blob.size if stop is None else min(blob.size, stop - offset)
            if low < high:
                yield from self.remote.get(self.blob_name(blob.hash), low, high)
            offset += blob.size

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the files whose names begin with a text."""
        for name, blobs in self._files().items():
            if name.startswith(prefix):
                yield Entry(name, sum(blob.size for blob in blobs), "", 0.0)

    def _files(self) -> Files:
        return self.revision.files if self.revision else {}


def _as_json(files: Files) -> dict[str, Any]:
    return {name: [list(blob) for blob in blobs] for name, blobs in files.items()}


def _from_json(files: Mapping[str, Any]) -> Files:
    return {name: tuple(Blob(*blob) for blob in blobs) for name, blobs in files.items()}
