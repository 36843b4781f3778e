"""The manifest of a publication, and the reference that is one create-only object: the manifest itself.

publications/NAME.json          exists: the publication is visible, and complete
blobs/sha256/ab/cdef...         contents, named by their hash
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast._version import __version__
from outlast.errors import CorruptCheckpoint, ObjectMissing, RemoteRefused
from outlast.folder import durable, layout, reading, records
from outlast.publish.blobs import gate
from outlast.publish.plan import Plan, PlannedFile
from outlast.publish.reference import Progress, Reference
from outlast.remote.base import LONGEST_NAME, Remote
from outlast.terminal import command

FORMAT = 1
"""Version of a publication's manifest."""

NAME = "MANIFEST.json"
"""Of the manifest among the files of a branch."""

FOLDER = "publications"

MOST = 2**24
"""Bytes of the largest manifest that is read."""

_HEX = records.text(64, "[0-9a-f]{64}", "a SHA-256 of 64 hex digits")
_MD5 = records.text(32, "[0-9a-f]{32}", "an MD5 of 32 hex digits")
_RECORD = records.form(
    {
        "publication": records.text(300),
        "folder": records.text(1000),
        "files": records.table(records.form({"size": records.whole(), "md5": _MD5, "sha256": _HEX}), 100_000),
    },
    {"object_folder": records.text(300)},
)


@dataclass(frozen=True)
class PublishedFile:
    """A file of a publication, as its manifest has it.

    Attributes:
        path: relative to the folder of the publication.
        size: bytes.
        md5: in hex.
        sha256: in hex.
        object: its name in the store.
    """

    path: str
    size: int
    md5: str
    sha256: str
    object: str


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read: the name of the publication, its folder, its files, and all that it says."""

    name: str
    folder: str
    files: tuple[PublishedFile, ...]
    record: Mapping[str, Any]


def blob_name(sha256: str) -> str:
    """The name of an object by the hash of its contents."""
    return f"blobs/sha256/{sha256[:2]}/{sha256[2:]}"


def reference_name(name: str) -> str:
    """The name of the object that makes a publication visible."""
    return f"{FOLDER}/{name}.json"


def write(plan: Plan, *, batch: bool = False) -> bytes:
    """The bytes of a plan's manifest; the same plan gives the same bytes.

    Args:
        plan: what is published.
        batch: whether the store keeps the files under their own names, below a folder of this publication.
    """
    record = {
        "format": FORMAT,
        "publication": plan.name,
        "module": plan.module,
        "experiment": plan.experiment,
        "time": plan.time,
        "outlast": __version__,
        **plan.about,
        "folder": plan.folder,
        **({"object_folder": plan.name} if batch else {}),
        "files": {file.path: {"size": file.size, "md5": file.md5, "sha256": file.sha256} for file in plan.files},
    }
    return durable.as_json(record)


def read(data: bytes, where: object) -> Manifest:
    """Read a manifest from anywhere.

    Raises:
        CorruptCheckpoint: it is none, or names files that no artifact has.
        OutlastError: a newer outlast wrote it.
    """
    record = reading.parse_record(data, where, _RECORD)
    folder = record.get("object_folder")
    files = []
    for path, entry in record["files"].items():
        names = (*path.split("/"), *([folder] if folder else []))
        if len(path) > LONGEST_NAME or path == NAME or not all(map(layout.is_plain, names)):
            raise CorruptCheckpoint(
                f"{where} names {json.dumps(path)[:200]}, which is no plain file name; it was not read."
            )
        if above := next((each for each in _folders(path) if each in record["files"]), None):
            raise CorruptCheckpoint(f"{where} names {json.dumps(above)[:200]} as a file and as a folder.")
        name = f"{folder}/{path}" if folder else blob_name(entry["sha256"])
        files.append(PublishedFile(path, entry["size"], entry["md5"], entry["sha256"], name))
    return Manifest(record["publication"], record["folder"], tuple(files), record)


def load(store: Remote, name: str) -> Manifest:
    """Read the manifest of a publication from a store.

    Raises:
        ObjectMissing: the store has no publication of this name.
        CorruptCheckpoint: it is no manifest.
    """
    data = bounded(store, reference_name(name))
    return named(read(data, store.address(reference_name(name))), name, store.address(reference_name(name)))


def named(found: Manifest, name: str, where: object) -> Manifest:
    """The manifest, if it is that of the publication of this name; otherwise raises CorruptCheckpoint."""
    if found.name != name:
        raise CorruptCheckpoint(
            f"{where} says that it is the publication {found.name[:200]!r}: it was changed after it was written, or "
            "copied from another name."
        )
    return found


def _folders(path: str) -> Iterator[str]:
    """The folders that a path is in."""
    while path := path.rpartition("/")[0]:
        yield path


def bounded(store: Remote, name: str) -> bytes:
    """All bytes of an object that a manifest may have; raises CorruptCheckpoint when it is larger."""
    data = b"".join(store.get(name, 0, MOST + 1))
    if len(data) > MOST:
        raise CorruptCheckpoint(f"{store.address(name)} has more than {MOST} bytes; it is no manifest.")
    return data


class ManifestReference(Reference):
    """A publication that becomes visible with its manifest.

    Args:
        store: holds the objects and the manifest.
        address: of the store, as the user writes it.
        scratch: a folder for the manifest, in which nothing else is.
    """

    def __init__(self, store: Remote, address: str, scratch: Path) -> None:
        self._store, self._address, self._file = store, address, scratch / NAME
        self._name, self._asked = "", False
        self._together: dict[str, PlannedFile] = {}

    @property
    def where(self) -> str:
        """Where the reference is."""
        return self._store.address(reference_name(self._name))

    def blobs(self, plan: Plan) -> dict[str, PlannedFile]:
        """All files, unless the store takes them together with the manifest."""
        if self._store.capabilities.atomic_batch:
            return {}
        return {blob_name(file.sha256): file for file in plan.files}

    def place(self, plan: Plan, file: PlannedFile) -> str:  # noqa: ARG002 - all go to one place
        """The store, which names a file by its hash; or the folder in it that has the files by their paths."""
        return f"{plan.name}/" if self._store.capabilities.atomic_batch else "store"

    def prepare(self, plan: Plan) -> str:
        """Write the manifest to the scratch folder; its hash is the identity."""
        can = self._store.capabilities
        if not (can.writes and (can.exclusive_put or can.atomic_batch or can.oldest_wins)):
            raise RemoteRefused(
                f"{self._store.address()} cannot create an object only where there is none, so two publications could "
                "replace each other. Publish to another store, or with git: --to git+dvc --store "
                f"{self._address}"
            )
        batch = can.atomic_batch
        self._name = plan.name
        data = write(plan, batch=batch)
        durable.make_folder(self._file.parent)
        durable.write_file(self._file, [data])
        self._together = {f"{plan.name}/{file.path}": file for file in plan.files} if batch else {}
        return hashlib.sha256(data).hexdigest()

    def create(self, progress: Progress) -> int:
        """Create the manifest, with all files if the store does that in one step."""
        name, self._asked = reference_name(self._name), True
        files = {each: file.source for each, file in self._together.items()}
        written = self._store.put_all_if_absent({**files, name: self._file}, last=name)
        for each, file in self._together.items():
            progress(each, file.size)
        return len(written - {name})

    def read(self) -> str | None:
        """The hash of the manifest that the store holds. Where the oldest wins, it first waits to know which one is."""
        if self._asked:
            self._store.settle(reference_name(self._name))
        try:
            return hashlib.sha256(bounded(self._store, reference_name(self._name))).hexdigest()
        except ObjectMissing:
            return None

    def check(self, plan: Plan) -> None:  # noqa: ARG002 - `prepare` was told
        """Ask the store for every file that it took together with the manifest."""
        gate(self._together, self._store)

    def commands(self) -> list[str]:
        """The command that fetches it."""
        return [command("outlast", "publish", self._name, "--from", self._address, "--output", self._name)]
