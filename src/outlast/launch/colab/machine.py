"""`python -m outlast.launch.colab.machine FOLDER ABOUT`: one session in its runtime.

The keeper watches over the training. Beside it, a thread leaves in FOLDER/out what outlast fetches from the other side:

    log-000001 ...              pieces of the log, of which the last one grows
    files-0001-000 ...          a zip of the files that are new, in parts, and of which outlast needs all
    status.json                 what is there, and, once everything is, how the session ended

A zip is made when there is another checkpoint, and FOLDER/ack says that outlast has the zip before. Files without
their checkpoint are of no use to the next session.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from outlast.environment.base import gpus
from outlast.folder import layout, plain
from outlast.launch.colab.startup import pieces
from outlast.launch.keeper import Job, Keeper, training_command, write

PART = 16 * 2**20
"""Bytes of a part, which goes through a runtime's proxy as one request."""


class Outbox:
    """What a session leaves for outlast.

    Args:
        folder: the session's.
        every: seconds between two looks.
        begun: when the session began, as of time.time.
    """

    def __init__(self, folder: Path, every: float, begun: float) -> None:
        self._folder, self._every, self._begun = folder, every, begun
        self._out = folder / "out"
        self._told = self._number = 0
        self._known: dict[str, tuple[int, int]] = {}  # what outlast has
        self._offered: dict[str, tuple[int, int]] | None = None
        self._files: dict[str, Any] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """Begin to follow the training."""
        self._out.mkdir(exist_ok=True)
        self._thread.start()

    def finish(self, end: Mapping[str, Any]) -> None:
        """Leave all files, and last the record of the end."""
        self._over.set()
        self._thread.join()
        self.look(last=True)
        self._say(end)

    def _follow(self) -> None:
        while not self._over.wait(self._every):
            self.look()
            self._say(None)

    def look(self, *, last: bool = False) -> None:
        """Leave what is new; files only when outlast has those before, or at the end."""
        self._add_log()
        if self._offered is not None and _number(self._folder / "ack") >= self._number:
            self._known, self._offered = self._offered, None
            self._remove_parts()
        now = self._here()
        before = self._known if self._offered is None else self._offered
        if now != before if last else (self._offered is None and _checkpoints(now) != _checkpoints(before)):
            self._remove_parts()
            self._offer(now)

    def _add_log(self) -> None:
        self._told = pieces(self._folder, self._told)

    def _here(self) -> dict[str, tuple[int, int]]:
        """The files of the session: name -> size and time."""
        found = {}
        work = self._folder / "work"
        for path in plain.plain_files(work):
            name = path.relative_to(work).as_posix()
            if not any(part.startswith(layout.TEMPORARY) for part in name.split("/")):
                try:
                    about = path.stat()
                except FileNotFoundError:
                    continue  # the training has deleted it
                found[name] = (about.st_size, about.st_mtime_ns)
        return found

    def _offer(self, now: dict[str, tuple[int, int]]) -> None:
        """A zip of the files that outlast does not have, in parts."""
        self._number += 1
        place, held = self._out / ".zip", {}
        with zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as archive:
            for name, about in now.items():
                if self._known.get(name) != about:
                    try:
                        data = (self._folder / "work" / name).read_bytes()
                    except FileNotFoundError:
                        continue
                    archive.writestr(name, data)
                held[name] = about
        parts: list[list[str]] = []
        with place.open("rb") as whole:
            while data := whole.read(PART):
                name = f"files-{self._number:04d}-{len(parts):03d}"
                (self._out / name).write_bytes(data)
                parts.append([name, hashlib.sha256(data).hexdigest()])
        place.unlink()
        self._offered = held
        self._files = {"number": self._number, "names": sorted(held), "parts": parts}

    def _remove_parts(self) -> None:
        for path in self._out.glob("files-*"):
            path.unlink()

    def _say(self, end: Mapping[str, Any] | None) -> None:
        seconds = round(time.time() - self._begun, 1)
        write(
            self._out / "status.json",
            {"log": self._told, "seconds": seconds, "files": self._files, "end": end},
        )


def _checkpoints(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.endswith(f"/{layout.MANIFEST}")}


def _number(path: Path) -> int:
    try:
        return int(path.read_text()[:9])
    except (OSError, ValueError):
        return 0


def main(folder: Path, about: Mapping[str, Any]) -> int:
    """Train; returns 0."""
    asked = json.loads((folder / "request.json").read_text())
    command = training_command(folder, len(gpus()) if asked["ranks"] else 0)
    seconds = max(1.0, about["seconds"] - (time.time() - about["begun"]))  # starting takes some of it
    outbox = Outbox(folder, about["every"], about["begun"])
    outbox.start()
    Keeper(folder, Job(command, str(folder), seconds, min(30.0, max(0.5, seconds / 10)))).run()
    outbox.finish(json.loads((folder / "end.json").read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
