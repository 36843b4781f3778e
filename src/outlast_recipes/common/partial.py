"""A part of a file that is being downloaded, beside the file, with what the server said of it.

The rest is asked for with Range, and with If-Range and the server's own mark of the file (RFC 9110, 13.1.5), so that a
server sends all of it when it has changed. The hash of the whole decides in the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, Self

import outlast

try:
    import fcntl
except ImportError:  # Windows: there, two commands at once are not kept apart
    fcntl = None  # type: ignore[assignment]

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_LONGEST = 500  # characters of a mark


@dataclass(frozen=True)
class Reply:
    """What the headers of a reply say.

    Attributes:
        first: the place in the file where its bytes begin; None if it is no range.
        whole: bytes of the whole file; None if it does not say.
        mark: the value of If-Range for it; empty if it has none.
    """

    first: int | None
    whole: int | None
    mark: str

    @classmethod
    def of(cls, headers: HTTPMessage, *, continued: bool) -> Reply:
        """The facts of a reply; `continued`: its status is 206."""
        length = headers.get("Content-Length") or ""
        stated = int(length) if re.fullmatch(r"\d{1,18}", length) else None
        tag = headers.get("ETag") or ""
        strong = tag if tag.startswith('"') else ""  # W/"..." is of files that are alike, not equal
        mark = strong or (headers.get("Last-Modified") or "")
        found = _RANGE.fullmatch(headers.get("Content-Range") or "") if continued else None
        if found is None:
            return cls(None, None if continued else stated, mark[:_LONGEST])
        return cls(int(found[1]), int(found[3]) if found[3] != "*" else None, mark[:_LONGEST])

    def continues(self, size: int) -> bool:
        """Whether its bytes are those after the first `size`."""
        return self.first == size


class Partial:
    """The part of a file that has come. Its bytes are in `.incoming-HASH` beside the file.

    Args:
        target: the file.
        url: where it comes from.
        sha256: of the whole file.

    Attributes:
        size: bytes that are there.
        pieced: whether they came in several replies.
    """

    def __init__(self, target: Path, url: str, sha256: str) -> None:
        self.target, self.url, self.folder = target, url, target.parent
        self.size, self.pieced = 0, False
        self._path = self.folder / f".incoming-{sha256[:16]}"
        self._facts = self.folder / f".incoming-{sha256[:16]}.json"
        self._mark = ""
        self._file: Any = None
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            if not self.size:
                self._remove()

    def open(self) -> None:
        """Open it, with what an earlier command has left of the same address.

        Raises:
            outlast.DataError: another process is downloading the file.
            OSError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(self._path.lstat().st_mode):
                self._path.unlink()
        number = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        self._file = os.fdopen(number, "r+b")
        if fcntl is not None:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._file.close()
                self._file = None
                raise outlast.DataError(
                    f"{self.target} is being downloaded by another process. Wait until it is there."
                ) from error
        facts = self._known()
        if facts.get("url") == self.url and isinstance(facts.get("mark"), str):
            self._mark = facts["mark"][:_LONGEST]
            while piece := self._file.read(2**20):
                self._hash.update(piece)
                self.size += len(piece)
            self.pieced = self.size > 0
        else:
            self.restart()

    def headers(self) -> dict[str, str]:
        """The headers that ask for the rest; empty if there is nothing yet, or the server gave no mark."""
        if not self.size or not self._mark:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._mark}

    def note(self, reply: Reply) -> None:
        """A reply begins, whose bytes are written next."""
        if reply.first is None and self.size:
            self.restart()
        self.pieced = self.size > 0
        if not self.size or reply.mark:
            self._mark = reply.mark
        with self._writing():
            self._facts.unlink(missing_ok=True)  # a link, if somebody put one there, is not written through
            self._facts.write_text(json.dumps({"url": self.url, "mark": self._mark}), encoding="utf-8")

    def write(self, piece: bytes) -> None:
        """Add bytes.

        Raises:
            outlast.DataError: the disk is full, or cannot be written.
        """
        with self._writing():
            self._file.write(piece)
            self._file.flush()
        self._hash.update(piece)
        self.size += len(piece)

    def digest(self) -> str:
        """SHA-256 of what is there."""
        return self._hash.hexdigest()

    def restart(self) -> None:
        """Forget what is there."""
        with self._writing():
            self._file.seek(0)
            self._file.truncate()
        self.size, self.pieced, self._mark, self._hash = 0, False, "", hashlib.sha256()

    def finish(self) -> int:
        """Give it the name of the file; returns its size."""
        os.fsync(self._file.fileno())
        self._path.replace(self.target)
        self._facts.unlink(missing_ok=True)
        size, self.size = self.size, max(self.size, 1)
        return size

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell errors of the disk from those of the network, which are OSErrors too."""
        try:
            yield
        except OSError as error:
            raise outlast.DataError(
                f"{self.target} cannot be written: {error.strerror or error}. Free space, or name another folder."
            ) from error

    def _known(self) -> dict[str, Any]:
        try:
            found = json.loads(self._facts.read_bytes()[:10_000]) if not self._facts.is_symlink() else {}
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remove(self) -> None:
        for path in (self._path, self._facts):
            path.unlink(missing_ok=True)
