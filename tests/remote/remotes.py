"""A folder as a remote that counts, fails and waits as a test wants it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.folders import place

from outlast.checkpoint import Retention
from outlast.folder import reading
from outlast.remote.base import Capabilities, Entry, Remote, Stat
from outlast.remote.folder import FolderRemote
from outlast.remote.identity import identify
from outlast.remote.place import Place
from outlast.remote.push import Pusher
from outlast.remote.revision import PushedRun


class Watched(FolderRemote):
    """What is put is noted; `before` and `after` are called with the name, and may raise."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.put: list[str] = []  # in order, those that were written
        self.asked: list[str] = []
        self.before: Callable[[str], Any] = lambda _: None
        self.after: Callable[[str], Any] = lambda _: None
        self.threads: set[str] = set()

    def put_if_absent(self, name: str, file: Path) -> bool:
        self.threads.add(threading.current_thread().name)
        self.asked.append(name)
        self.before(name)
        written = super().put_if_absent(name, file)
        if written:
            self.put.append(name)
        self.after(name)
        return written


class Distant(Remote):
    """A folder as a remote that takes files only, as those behind a network do."""

    def __init__(self, root: Path) -> None:
        self.inside = FolderRemote(root)

    @property
    def capabilities(self) -> Capabilities:
        return self.inside.capabilities

    def address(self, name: str = "") -> str:
        return self.inside.address(name)

    def put_if_absent(self, name: str, file: Path) -> bool:
        assert isinstance(file, Path)
        return self.inside.put_if_absent(name, file)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return self.inside.get(name, start, stop)

    def stat(self, name: str) -> Stat:
        return self.inside.stat(name)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return self.inside.list(prefix)

    def delete_if_unchanged(self, name: str, generation: str) -> None:
        self.inside.delete_if_unchanged(name, generation)


def pusher(
    home: Path,
    remote: FolderRemote,
    *,
    attempt: str = "ab",
    keep: Retention | None = None,
    continued: int = 10**9,
    **more: Any,
) -> Pusher:
    """What pushes a run of `tests.folders.walk`."""
    folder, identity = place(home), identify(Place.at(place(home).path))
    more = {"removable": (keep or Retention()).removable, "continued": continued, **more}
    return Pusher(folder, PushedRun(remote, "r"), identity=identity, attempt=attempt, **more)


def push_all(home: Path, remote: FolderRemote, **more: Any) -> Pusher:
    """Push all that is wanted."""
    found = pusher(home, remote, **more)
    found.push()
    while steps := found.wanted():
        found.push(steps[0])
        found.tidy()
    found.tidy()
    found.close()
    return found


def newest(root: Path, name: str = "r") -> dict[str, Any]:
    """The newest revision in a folder."""
    return reading.read_json(max((root / name / "revisions").glob("*.json")))


def blobs(root: Path, name: str = "r") -> set[str]:
    """The blobs in a folder."""
    return {path.name for path in (root / name / "blobs").iterdir() if not path.name.startswith(".")}


def needed(revision: dict[str, Any]) -> set[str]:
    """The blobs that a revision is made of."""
    files = [revision["files"], *(each["files"] for each in revision["checkpoints"].values())]
    return {blob[0] for table in files for found in table.values() for blob in found}


def seal(revision: dict[str, Any]) -> bytes:
    """A revision with the digest that fits it."""
    from outlast.checkpoint.manifest import digest_of

    revision.pop("digest", None)
    return json.dumps({**revision, "digest": digest_of(revision)}).encode()
