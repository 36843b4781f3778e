"""Tries what a remote can do, and leaves nothing in it."""

from __future__ import annotations

import itertools
import os
import tempfile
import uuid
from pathlib import Path

from outlast.errors import RemoteRefused
from outlast.remote.base import Capabilities, Remote, digest_of
from outlast.remote.folder import FolderRemote


def probe(remote: Remote) -> str:
    """List a remote, and write, read and delete a small object; returns what it can do.

    Where nothing can be deleted without a trace, nothing is written: where a deletion has no condition, and where what
    is put again does not become young, because such a service keeps versions.

    Raises:
        RemoteError: it does not answer, refuses one of these, or reports another digest.
    """
    if isinstance(remote, FolderRemote) and not remote.root.exists():
        return _to_be_made(remote)
    for _ in itertools.islice(remote.list(), 1):
        pass
    can = remote.capabilities
    words = [
        _names(can),
        "deletes what is unchanged" if can.conditional_delete else "deletes nothing",
        f"{can.digest} {'of the service' if can.server_digest else 'by reading back'}",
    ]
    if not can.writes:
        return ", ".join(["can be read", *words])
    if not (can.conditional_delete and can.freshens):
        return ", ".join(["can be read", *words, "writing was not tried, as that would leave a trace"])
    with tempfile.TemporaryDirectory(prefix="outlast-") as folder:
        source, name = Path(folder) / "probe", f"outlast-doctor-{uuid.uuid4().hex}"
        source.write_bytes(name.encode())
        remote.put_if_absent(name, source)
        found = remote.stat(name)
        remote.delete_if_unchanged(name, found.generation)
        if found.digest != digest_of(source, can.digest):
            raise RemoteRefused(
                f"{remote.address(name)} had another {can.digest} than what was written. It is deleted again."
            )
    return ", ".join(["can be read and written", *words])


def _names(can: Capabilities) -> str:
    if can.exclusive_put or can.atomic_batch:
        return "one of several writers wins"
    return "the first of several writers wins" if can.oldest_wins else "each name must have one writer"


def _to_be_made(remote: FolderRemote) -> str:
    above = next(path for path in remote.root.absolute().parents if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise RemoteRefused(f"{remote.address()} does not exist and cannot be made: {above} cannot be written.")
    return "does not exist yet, and is made when something is written"
