"""The manifest of an artifact: its source, and the hashes of its files.

It is beside the artifact as NAME.manifest.json, so it goes wherever the artifact goes: out of a platform, into an
archive, to a remote. It is written after the artifact and deleted before the artifact is replaced, so a manifest never
names older files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from outlast._version import __version__
from outlast.errors import CorruptCheckpoint, OutlastError, UnsafeFolder, UsageError
from outlast.folder import durable, hashing, layout, plain, reading
from outlast.folder.schemas import ARTIFACT

ENDING = ".manifest.json"
"""Of the names of manifests; no artifact, and no folder or file of one, has such a name."""

_LONGEST = 200
"""Bytes of the longest component of a name: the names of its manifest and of temporary files are longer."""

_DEEPEST = 1024
"""Bytes of the longest name, as of an object in a remote."""


def check_name(name: str, base: Path) -> str:
    """Return the name of an artifact below a folder if it can be kept under it; each component is asked.

    Raises:
        UsageError: it cannot, or a file is where it needs a folder.
    """
    pieces = PurePosixPath(name).parts
    shown = f"An artifact is named {name!r:.120}"
    if any(piece.endswith(ENDING) for piece in pieces):
        raise UsageError(f"{shown}; names ending in {ENDING} belong to manifests of artifacts.")
    if not all(_is_plain(piece) for piece in pieces) or len(name.encode()) > _DEEPEST:
        raise UsageError(
            f"{shown}; expected at most {_DEEPEST} bytes of file names with '/' between them, each of at most "
            f"{_LONGEST} bytes of UTF-8, without control characters and backslashes, and none beginning with "
            f"{layout.TEMPORARY}."
        )
    for place in list(PurePosixPath(name).parents)[:-1]:
        if plain.kind_of(base / place) and not (base / place).is_dir():
            raise UsageError(f"{shown}, and {base / place} is no folder. Choose another name.")
    return name


def _is_plain(piece: str) -> bool:
    try:
        size = len(piece.encode())
    except UnicodeEncodeError:
        return False
    return size <= _LONGEST and layout.is_plain(piece.lstrip(".")) and not piece.startswith(layout.TEMPORARY)


def manifest_of(artifact: Path) -> Path:
    """The path of an artifact's manifest."""
    return artifact.with_name(f"{artifact.name}{ENDING}")


@contextlib.contextmanager
def replaced(artifact: Path) -> Iterator[Path]:
    """A path beside an artifact to write the new one to, a file or a folder; it then takes the artifact's name.

    Order: the manifest of the earlier one is deleted, the earlier one is deleted, the new one gets its name. The caller
    writes the new manifest. If anything is raised before, the earlier one and its manifest stay.

    Raises:
        UsageError: nothing was written; a link or special file is in it; a file would replace a folder, or a folder a
            file; the earlier folder holds artifacts of their own; a file in it has a name that no manifest can have; a
            folder is where the manifest belongs.
        OSError: the folder cannot be written.
    """
    durable.make_folder(artifact.parent)
    temporary = artifact.with_name(f"{layout.TEMPORARY}{artifact.name}")
    durable.remove_any(temporary)
    try:
        yield temporary
        _check_written(temporary, artifact)
        durable.sync_file(temporary)
        if plain.kind_of(manifest_of(artifact)):
            durable.remove_any(manifest_of(artifact))
            durable.sync_folder(artifact.parent)
        if plain.kind_of(artifact) == "folder":
            durable.remove_folder(artifact)
        durable.move(temporary, artifact)
    finally:
        durable.remove_any(temporary)


def _check_written(temporary: Path, artifact: Path) -> None:
    """Refuse what cannot become an artifact, while the earlier one is still whole."""
    kind, before = plain.kind_of(temporary), plain.kind_of(artifact)
    if kind is None:
        raise UsageError(f"Nothing was written for the artifact {artifact}: write to the path that the block is given.")
    if strange := plain.strange_files(temporary):
        name = artifact.name + str(strange[0]).removeprefix(str(temporary))
        raise UsageError(
            f"The artifact {artifact} was not kept: {name} is a {plain.kind_of(strange[0])}; expected plain files and "
            "folders."
        )
    for path in plain.plain_files(temporary):
        pieces = path.relative_to(temporary).parts
        if any("\\" in piece or piece.endswith(ENDING) for piece in pieces):
            raise UsageError(
                f"The artifact {artifact} was not kept: it has a file named {'/'.join(pieces)!r:.120}; expected names "
                f"without backslashes that do not end in {ENDING}."
            )
    if plain.kind_of(manifest_of(artifact)) == "folder":
        raise UsageError(
            f"The artifact {artifact} was not kept: {manifest_of(artifact)}, where its manifest belongs, is a folder. "
            "Choose another name, or move that folder away."
        )
    if before not in (None, kind):
        raise UsageError(
            f"The artifact {artifact} was not kept: it is a {kind}, and a {before} of this name is there. Choose "
            "another name, or delete the other one first."
        )
    if before == "folder" and (others := manifests_in(artifact)):
        raise UsageError(
            f"The artifact {artifact} was not kept: the folder of this name holds other artifacts, such as "
            f"{others[0].name.removesuffix(ENDING)}. Choose another name."
        )


def write_manifest(artifact: Path, name: str, about: Mapping[str, Any]) -> Path:
    """Hash the plain files of an artifact and write its manifest, atomically.

    Args:
        artifact: the file or folder; complete.
        name: what the program calls it.
        about: what it was made from: `run` (uid), `run_id`, `attempt` (id), `step`, `part`, `config` (fingerprint),
            `checkpoint` (digest of its manifest); what is not known is left out.

    Returns:
        The manifest's path.

    Raises:
        UsageError: the artifact is not there, or a link or special file is in it.
        OSError: it cannot be written, or the artifact not read.
    """
    _check_plain(artifact, UsageError)
    files = {
        path.relative_to(artifact.parent).as_posix(): {"size": size, "sha256": sha256}
        for path in plain.plain_files(artifact)
        for size, sha256 in [_hash(path)]
    }
    known = {key: value for key, value in about.items() if value is not None}
    record = {"format": layout.FORMAT, "name": name, **known, "outlast": __version__, "files": files}
    record["digest"] = _digest(record)
    durable.write_json(manifest_of(artifact), record)
    return manifest_of(artifact)


def _check_plain(artifact: Path, error: type[OutlastError]) -> None:
    if plain.kind_of(artifact) is None:
        raise error(f"{artifact} is not there.")
    if strange := plain.strange_files(artifact):
        raise error(f"{strange[0]} is a {plain.kind_of(strange[0])}; expected plain files and folders.")


def manifests_in(folder: Path) -> list[Path]:
    """All manifests below a folder of artifacts, by name; no link is followed."""
    if plain.kind_of(folder) != "folder":
        return []
    return [path for path in plain.plain_files(folder) if path.name.endswith(ENDING)]


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest. Its files are those of the artifact beside it, and are nowhere else.

    Raises:
        FileNotFoundError: there is none.
        CorruptCheckpoint: it is none, was changed, or names files elsewhere.
        OutlastError: a newer outlast wrote it.
    """
    record = reading.read_record(path, ARTIFACT)
    if _digest({key: value for key, value in record.items() if key != "digest"}) != record["digest"]:
        raise CorruptCheckpoint(f"{path} was changed after it was written: its own digest does not match.")
    own = path.name.removesuffix(ENDING)
    for name in record["files"]:
        pieces = name.split("/")
        if pieces[0] != own or any(piece in ("", ".", "..") or "\\" in piece or "\0" in piece for piece in pieces):
            raise CorruptCheckpoint(f"{path} names {name!r}, which is not a file of {own}; it was not read.")
    return record


def verify_artifact(path: Path) -> dict[str, Any]:
    """Read a manifest and hash every file that it names; returns it.

    Raises:
        FileNotFoundError: there is no manifest.
        CorruptCheckpoint: it is none; or a file is missing, was changed, or has come since.
        OutlastError: a newer outlast wrote it.
    """
    record = read_manifest(path)
    artifact = path.with_name(path.name.removesuffix(ENDING))
    if not record["files"]:  # of an empty folder; a file that is gone or a link among others is named below
        _check_plain(artifact, CorruptCheckpoint)
    for name, entry in record["files"].items():
        file = path.parent / name
        try:
            size, sha256 = _hash(file, most=entry["size"])
        except (OSError, UnsafeFolder) as error:
            words = error.strerror if isinstance(error, OSError) else str(error).removesuffix(".")
            raise CorruptCheckpoint(f"{file} cannot be read: {words}.") from error
        if size != entry["size"]:
            raise CorruptCheckpoint(f"{file} has {size} bytes; its manifest says {entry['size']}.")
        if sha256 != entry["sha256"]:
            raise CorruptCheckpoint(
                f"{file} was changed after it was written: its SHA-256 does not match its manifest."
            )
    found = {each.relative_to(path.parent).as_posix() for each in plain.plain_files(artifact)}
    if more := sorted(found - record["files"].keys()):
        raise CorruptCheckpoint(
            f"{path.parent / more[0]} is not in the manifest of {artifact.name}; it was added later."
        )
    return record


def _hash(path: Path, most: int | None = None) -> tuple[int, str]:
    """Size and SHA-256 of a plain file; of one that is larger than `most`, its size and no hash."""
    with os.fdopen(plain.open_plain(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size != most:
            return size, ""
        hasher, size = hashlib.sha256(), 0
        while block := file.read(2**20):
            hasher.update(block)
            size += len(block)
    return size, hasher.hexdigest()


def _digest(record: Mapping[str, Any]) -> str:
    return hashing.digest(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())
